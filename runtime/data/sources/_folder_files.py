"""The files of a folder of images: which are images, which part of the folder is meant, and what is left out.

Owns the walk, the names of files that are images, the splits that folders are recognised by. Does not own what is in a
file (`_pixels`), or labels (`_folder_labels`).
"""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from vitdsl.dsl.diagnostics import Diagnostic, EnvironmentProblem, StudyError
from vitdsl.dsl.text import counted, near_files, ticked
from vitdsl.runtime.data.sources._base import ImagesNotHere
from vitdsl.runtime.data.sources._pixels import formats
from vitdsl.runtime.paths import expanded

SPLITS = ("train", "training", "val", "valid", "validation", "test", "testing")
"""Names of folders that are parts of a data set and no classes, where nothing else is beside them."""
OF_NO_IMAGE = frozenset(".txt .csv .json .md .xml .yaml .yml .html .py .zip .tar .gz".split())
"""Endings of files that lie beside images and are none: nobody misses them."""


@dataclass(frozen=True)
class Listed:
    """What lies below a folder.

    Attributes:
        root: The folder, or the one of the split.
        files: Paths of its images below the root, sorted.
        left_out: How many other files there are, by ending, in words; empty without.
    """

    root: Path
    files: list[str]
    left_out: str


def listed(written: str, split: str | None, folder: Path, *, whole: bool) -> Listed:
    """List a folder of images.

    Args:
        written: Its path, as the study names it.
        split: Which of its folders to take; None takes all of it.
        folder: Where relative paths start: the study's folder.
        whole: Whether folders that look like splits may be taken together.

    Raises:
        ImagesNotHere: It is not there (VD401).
        EnvironmentProblem: It is a file, or cannot be listed (VD401), or holds no images (VD403).
        StudyError: Its folders are splits, and none is named (VD244); there is no such split (VD244).
    """
    root = (folder / expanded(written)).resolve()
    if not root.is_dir():
        raise _absent(root, written)
    parts = _splits(root)
    if split is not None:
        if not (root / split).is_dir() or "/" in split or split.startswith("."):
            raise _no_split(written, f"`{written}` has no folder `{split}`", parts or _folders(root), "split")
        root = root / split
    elif parts and not whole:
        raise _no_split(written, f"the folders of `{written}` are splits and no classes", parts, "path")
    read = formats()
    suffixes = {suffix for suffix, kind in Image.EXTENSION.items() if kind in read}
    every = sorted(_walk(root))
    files = [file for file in every if _ending(file) in suffixes]
    others = Counter(_ending(file) for file in every if _ending(file) not in suffixes)
    if not files:
        raise EnvironmentProblem(
            Diagnostic(
                "VD403",
                f"there are no images in the folder `{written}`",
                label="no images",
                notes=(f"`{root}` and its sub-folders hold {_counts(others) or 'no files'}",),
                help=("give a folder with .jpg, .png, .webp, .tif or other files that Pillow reads",),
                about=(("split",), ("path",)) if split else (("path",),),
            )
        )
    missed = Counter({ending: count for ending, count in others.items() if ending not in OF_NO_IMAGE})
    left = (
        f"{counted(missed.total(), 'file')} left out, not read as images: {_counts(missed)}" if missed else ""
    )
    return Listed(root, files, left)


def _counts(others: Counter[str]) -> str:
    """Such as `3 .heic, 1 without an ending`."""
    return ", ".join(f"{count:,} {ending or 'without an ending'}" for ending, count in others.most_common())


def _ending(file: str) -> str:
    return os.path.splitext(file)[1].lower()


def _folders(root: Path) -> list[str]:
    return sorted(one.name for one in root.iterdir() if one.is_dir() and not one.name.startswith("."))


def _splits(root: Path) -> list[str]:
    """The folders below a root, where all of them are named as splits are."""
    found = _folders(root)
    return found if all(name.lower() in SPLITS for name in found) else []


def _no_split(written: str, what: str, there: Sequence[str], field: str) -> StudyError:
    return StudyError(
        Diagnostic(
            "VD244",
            f"{what}: it has {ticked(there) if there else 'no folders'}",
            label="which part?" if field == "path" else "no such folder",
            help=(
                f"write `split: {_usual(there)}`" if there else "leave `split` out",
                f"or, if these are its classes, name the folder above or rename them: `{written}`"
                if field == "path"
                else "",
            ),
            about=((field,), ("path",)),
        )
    )


def _usual(there: Sequence[str]) -> str:
    """The part that a model is measured on."""
    return next((name for name in there if name.lower().startswith("val")), there[-1])


def _absent(root: Path, written: str) -> EnvironmentProblem:
    what = "is a file, not a folder" if root.exists() else "does not exist"
    return (EnvironmentProblem if root.exists() else ImagesNotHere)(
        Diagnostic(
            "VD401",
            f"the image folder `{written}` {what}",
            label="cannot be opened",
            notes=(f"looked for `{root}`; relative paths start at the study's folder",),
            help=(
                near_files(root, written, folders=True) if not root.exists() else "",
                "write `path:` of a folder that holds images, or one folder of images per class",
            ),
            about=(("path",),),
        )
    )


def _walk(root: Path) -> Iterator[str]:
    """Paths of the files below a folder; each real folder is visited once, whatever links there are."""
    seen: set[Path] = set()
    for folder, folders, files in os.walk(root, followlinks=True, onerror=_cannot_list):
        real = Path(folder).resolve()
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in files:
            path = Path(folder, name)
            if not name.startswith(".") and path.exists():
                yield path.relative_to(root).as_posix()


def _cannot_list(error: OSError) -> None:
    raise EnvironmentProblem(
        Diagnostic(
            "VD401",
            f"the folder `{error.filename}` cannot be listed: {error.strerror}",
            label="cannot be opened",
            help=("give yourself the right to read it, or move it out of the image folder",),
            about=(("path",),),
        )
    ) from error
