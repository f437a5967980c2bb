"""The block store: what image blocks gave, kept beside the runs, so that nothing is computed twice.

    <runs>/.store/blocks/<key of the block>/<key of what is in the file>.block
        a hash of all that follows; a line of JSON; arrays in NumPy's format

One file holds what one walk over one image block gave: the sums of each unit (one group under one view), by the unit's
key. A key is a hash over everything that changes a number (`keys`), so a file is right for whoever finds it: a run
that was killed, an unchanged study, a study with one metric more, another process of the same run. Files are written
whole or not at all, and checked when they are read: a damaged one is said and computed again.

Does not own what is in a key (`keys`), or what is computed (`execute`).
"""

import io
import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from vitdsl.runtime.metrics._base import Array
from vitdsl.runtime.results.folder import STORE
from vitdsl.runtime.results.writing import write_atomically

ENDING = ".block"


@dataclass
class Block:
    """What is known of one image block.

    Attributes:
        sums: For each unit, its arrays by name.
        sha256: Content hashes of its images, in order; empty where nothing is known.
        trust: Trust checks that were made when it was computed, with the units that they vouch for (`vouching`).
    """

    sums: dict[str, dict[str, Array]] = field(default_factory=dict)
    sha256: tuple[str, ...] = ()
    trust: list[dict[str, Any]] = field(default_factory=list)


class BlockStore:
    """The blocks of one folder of runs; any number of processes may read and write it at once.

    Attributes:
        damaged: Files that were found damaged and left out; they are written anew.
    """

    def __init__(self, runs: Path) -> None:
        self.root = runs / STORE / "blocks"
        self.damaged: list[Path] = []

    def folder(self, block: str) -> Path:
        """Where the files of a block lie."""
        return self.root / block[:2] / block

    def units(self, block: str) -> set[str]:
        """Keys of the units that are there for a block."""
        return {unit for path in self._files(block) for unit in self._units_in(path)}

    def read(self, block: str, units: Collection[str]) -> Block:
        """What is there of some units of a block; units that are not there, or damaged, are left out."""
        found, wanted = Block(), set(units)
        for path in self._files(block):
            text, arrays = self._whole(path)
            about = json.loads(text)
            here = wanted.intersection(about["units"]) - set(found.sums)
            if here:
                _load(about, arrays, here, found)
        return found

    def write(self, block: str, content: Block) -> Path:
        """Write what was computed of a block.

        Raises:
            EnvironmentProblem: It cannot be written (VD407).
        """
        arrays = {f"{unit}/{name}": a for unit, sums in content.sums.items() for name, a in sums.items()}
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)  # type: ignore[arg-type]
        about = {"units": sorted(content.sums), "sha256": content.sha256, "trust": content.trust}
        head, body = json.dumps(about).encode() + b"\n", buffer.getbuffer()
        digest = sha256(head)
        digest.update(body)
        parts = (digest.hexdigest().encode() + b"\n", head, body)
        name = sha256("\n".join(sorted(content.sums)).encode()).hexdigest()[:32]
        path = self.folder(block) / f"{name}{ENDING}"
        write_atomically(path, lambda temporary: _write(temporary, parts))
        return path

    def _files(self, block: str) -> Iterator[Path]:
        folder = self.folder(block)
        return iter(sorted(folder.glob(f"[0-9a-f]*{ENDING}")) if folder.is_dir() else ())

    def _units_in(self, path: Path) -> set[str]:
        """The units in a file; none in a damaged one."""
        return set(json.loads(self._whole(path)[0])["units"])

    def _whole(self, path: Path) -> tuple[bytes, io.BytesIO]:
        """The line of JSON of a file whose hash is right, and the file, read up to its arrays."""
        try:
            file = io.BytesIO(path.read_bytes())
        except OSError:
            file = io.BytesIO()
        digest = file.readline().removesuffix(b"\n")
        if sha256(file.getbuffer()[file.tell() :]).hexdigest().encode() != digest:
            self._note(path)
            return b'{"units": []}', io.BytesIO()
        return file.readline(), file

    def _note(self, path: Path) -> None:
        if path not in self.damaged:
            self.damaged.append(path)


def _write(path: Path, parts: Iterable[bytes | memoryview]) -> None:
    with path.open("wb") as file:
        file.writelines(parts)


def _load(about: Mapping[str, Any], arrays: io.BytesIO, units: set[str], into: Block) -> None:
    with np.load(arrays, allow_pickle=False) as archive:
        for name in archive.files:
            unit, _, value = name.partition("/")
            if unit in units:
                into.sums.setdefault(unit, {})[value] = archive[name]
    into.sha256 = tuple(about["sha256"])
    into.trust += about["trust"]


def hashed(mapping: Mapping[str, Any]) -> str:
    """A key: the hash of what it is made of."""
    text = json.dumps(mapping, sort_keys=True, separators=(",", ":"), default=list)
    return sha256(text.encode()).hexdigest()[:32]
