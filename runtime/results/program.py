"""The program that computes: versions of the packages it stands on, and its own files. Free of torch.

Versions are what a manifest says. Files are known by size and times, so that an edit of any of them is seen at once;
they are never sent anywhere or compared between machines.
"""

from collections.abc import Iterator
from functools import cache
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from os import stat, stat_result, walk
from os.path import realpath
from pathlib import Path
from stat import S_ISDIR

PACKAGES = (
    "vitdsl", "torch", "torchvision", "timm", "numpy", "scipy", "scikit-learn", "pillow", "safetensors",
    "huggingface-hub", "pydantic", "pyyaml", "xarray", "h5netcdf", "h5py", "jinja2", "matplotlib",
)  # fmt: skip
PARTS = ("vitdsl", "vitdsl.dsl", "vitdsl.runtime", "vitdsl.reports", "vitdsl.specs")
"""The packages that the program is made of; where it is installed, the first holds the others."""
ABSENT = "absent"


def versions() -> dict[str, str]:
    """Versions of the packages that are there."""
    return {name: found for name in PACKAGES if (found := _version(name))}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


@cache
def program() -> str:
    """A hash that differs once any file of the program is another."""
    roots = dict.fromkeys(folder for part in PARTS for folder in _folders(part))
    return sha256("\n".join(stamp(root) for root in roots).encode()).hexdigest()


def _folders(package: str) -> list[Path]:
    spec = find_spec(package)
    return [Path(folder) for folder in (spec.submodule_search_locations or ())] if spec else []


def stamp(path: Path) -> str:
    """What differs once a file, or any file below a folder, is written, replaced, renamed, added or removed.

    Sizes and times; nothing is read. Links are followed, and what Python makes of sources is left out.
    """
    if not path.is_dir():
        return _said(_found(path))
    lines = (f"{name} {_said(None if S_ISDIR(found.st_mode) else found)}" for name, found in _below(path))
    return sha256("\n".join(lines).encode(errors="surrogateescape")).hexdigest()


def newest(path: Path) -> float:
    """When something was last written in a file, or in a folder and all that is below it; 0 where there is nothing."""
    times = (found for _, found in _below(path))
    return max((max(found.st_mtime, found.st_ctime) for found in times), default=0.0)


def _said(found: stat_result | None) -> str:
    return f"{found.st_size} {found.st_mtime_ns} {found.st_ctime_ns}" if found else ABSENT


def _found(path: str | Path) -> stat_result | None:
    try:
        return stat(path)
    except OSError:
        return None


def _below(root: Path) -> Iterator[tuple[str, stat_result]]:
    """A file, or a folder and all that is below it, sorted; each folder once, wherever links lead."""
    seen: set[str] = set()
    if (found := _found(root)) is not None:
        yield str(root), found
    for folder, folders, files in walk(root, followlinks=True):
        real = realpath(folder)
        folders[:] = [] if real in seen else sorted(name for name in folders if name != "__pycache__")
        seen.add(real)
        for path in (f"{folder}/{name}" for name in sorted((*folders, *files))):
            if (found := _found(path)) is not None:
                yield path, found
