"""The runs of a folder, and what in it no run needs. Free of torch.

Image blocks in the store are needed by the runs whose `blocks.txt` names them. Those that were written lately are kept
in any case: a shard of a job array has no run folder yet, and another process may be at work.
"""

import json
import shutil
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vitdsl.runtime.results.folder import ANSWERS, BLOCKS, MANIFEST, STORE

UNREADABLE = "unreadable"


@dataclass(frozen=True)
class Listed:
    """One run folder, as far as its manifest can be read."""

    folder: Path
    study: str
    started_at: str
    status: str
    seconds: float | None
    verdicts: dict[str, int]


@dataclass(frozen=True)
class Needless:
    """Something that no run needs, and why."""

    path: Path
    size: int
    why: str


def runs_in(out: Path, study: str | None = None) -> list[Listed]:
    """The runs of a folder, the oldest first; one whose manifest cannot be read is there as `unreadable`."""
    found = [_listed(path) for path in sorted(out.glob(f"{study or '*'}/*/{MANIFEST}"))]
    return sorted(found, key=lambda one: (one.started_at, str(one.folder)))


def _listed(path: Path) -> Listed:
    folder = path.parent
    try:
        written: dict[str, Any] = json.loads(path.read_text("utf-8"))
        verdicts = Counter(str(claim["verdict"]) for claim in written["claims"].values())
        seconds = written["seconds"]
        return Listed(
            folder,
            str(written["study"]),
            str(written["started_at"]),
            str(written["status"]),
            None if seconds is None else float(seconds),
            dict(verdicts),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return Listed(folder, folder.parent.name, "", UNREADABLE, None, {})


def needless(out: Path, *, hours: float, failed: bool) -> list[Needless]:
    """What no run of a folder needs.

    Args:
        out: The folder of runs.
        hours: What was written in the last so many hours is kept.
        failed: Also the folders of runs that did not end well, older than that.
    """
    now = time.time()

    def is_old(path: Path) -> bool:
        inside = [path, *path.rglob("*")] if path.is_dir() else [path]
        return now - max(one.lstat().st_mtime for one in inside) >= hours * 3600

    gone = [one for one in runs_in(out) if failed and one.status != "success" and is_old(one.folder)]
    found = [Needless(one.folder, _size(one.folder), f"a run with status `{one.status}`") for one in gone]
    needed: set[str] = set()
    for path in out.glob(f"*/*/{BLOCKS}"):
        if path.parent not in {one.folder for one in gone}:
            needed.update(path.read_text("utf-8", errors="replace").split())
    for folder in sorted((out / STORE).glob("blocks/*/*")):
        if folder.name not in needed and is_old(folder):
            found.append(Needless(folder, _size(folder), "an image block that no run is made of"))
        else:
            leftovers = [path for path in folder.glob(".*") if is_old(path)]
            found += [
                Needless(path, _size(path), "what an ended process left half written") for path in leftovers
            ]
    for path in sorted((out / STORE / ANSWERS).glob("*.json")):
        if not _answers(out, path) and is_old(path):
            found.append(Needless(path, _size(path), "the answer of a run that is gone"))
    return found


def _answers(out: Path, answer: Path) -> bool:
    """Whether the run is there that is kept as an answer."""
    try:
        return (out / str(json.loads(answer.read_text("utf-8"))["run"]) / MANIFEST).is_file()
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False


def remove(found: list[Needless]) -> None:
    """Delete what no run needs; what is gone already does not matter."""
    for one in found:
        if one.path.is_dir() and not one.path.is_symlink():
            shutil.rmtree(one.path, ignore_errors=True)
        else:
            one.path.unlink(missing_ok=True)


def _size(path: Path) -> int:
    inside = path.rglob("*") if path.is_dir() else [path]
    return sum(one.lstat().st_size for one in inside if one.is_file())
