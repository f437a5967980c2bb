"""Single image files by name, in the order given: one photograph, or a few.

What it gives
    The images of `path`, which is one file or a list of files. The extension does not matter: a file is an image if
    Pillow can read what is in it, in one of the formats of `folder`, and it becomes RGB as it does there. Ids are the
    paths as written; a run takes them in this order with `shuffle: false`. The content hash is of the file. There are
    no labels.

Limits
    A file that is named twice, is not there or is not an image stops the study and is named. Images that belong
    together are easier to name as a `folder`.

Example:
    data:
      photo: {source: files, path: ./cat.jpg, batch: 1}
      pair: {source: files, path: [./cat.jpg, ./dog.png], shuffle: false}
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from PIL import Image
from pydantic import Field

from vitdsl.dsl.diagnostics import Diagnostic, EnvironmentProblem, StudyError
from vitdsl.dsl.study import Entry, OneOrMany
from vitdsl.dsl.text import near_files
from vitdsl.runtime.data.sources._base import Item, Source
from vitdsl.runtime.data.sources._pixels import BROKEN, Range, formats, opened, to_rgb, unreadable
from vitdsl.runtime.paths import expanded


class Params(Entry):
    """Which files."""

    path: OneOrMany = Field(description="The image file, or a list of them, relative to the study.")
    range: Range | None = Field(
        default=None, description="Of pixels of more than 8 bits: the values that are black and white."
    )


GIVE = "give a .jpg, .png, .webp, .tif or other file that Pillow reads"


class Files(Source):
    """Image files by name."""

    name = "files"
    Params = Params
    paths: ClassVar[tuple[str, ...]] = ("path",)

    def __init__(self, params: Entry, *, folder: Path, seed: int) -> None:
        """Look for the files; nothing is decoded yet."""
        assert isinstance(params, Params)
        self.names, self.range = params.path, params.range
        self.files = _found(folder, self.names)

    def __len__(self) -> int:
        return len(self.files)

    def id(self, index: int) -> str:
        """The path as written."""
        return self.names[index]

    def content(self, index: int) -> str:
        """The hash of the file."""
        return hashlib.sha256(self._read(index)).hexdigest()

    def label(self, index: int) -> int | None:
        """None: a file's name says nothing of its class."""
        return None

    def load(self, index: int) -> Item:
        """Read and decode one file."""
        content = self._read(index)
        try:
            with opened(content) as image:
                rgb = to_rgb(image, self.range)
        except BROKEN as error:
            raise EnvironmentProblem(unreadable(self.names[index], error, GIVE)) from error
        return Item(rgb, None, hashlib.sha256(content).hexdigest())

    def _read(self, index: int) -> bytes:
        try:
            return self.files[index].read_bytes()
        except OSError as error:
            raise EnvironmentProblem(unreadable(self.names[index], error, GIVE)) from error


def _found(folder: Path, names: Sequence[str]) -> list[Path]:
    """The files, each there and named once."""
    found: list[Path] = []
    for name in names:
        path = (folder / expanded(name)).resolve()
        if not path.is_file():
            raise EnvironmentProblem(_absent(path, name))
        if path in found:
            raise StudyError(
                Diagnostic(
                    "VD209",
                    f"the image `{name}` is given twice",
                    label="given twice",
                    help=("name each file once",),
                    about=(("path",),),
                )
            )
        found.append(path)
    return found


def _absent(path: Path, name: str) -> Diagnostic:
    what = "is a folder, not a file" if path.is_dir() else "does not exist"
    folders = "for the images of a folder, write `source: folder`" if path.is_dir() else ""
    return Diagnostic(
        "VD401",
        f"the image `{name}` {what}",
        label="cannot be opened",
        notes=(f"looked for `{path}`",),
        help=("" if path.exists() else near_files(path, name, _endings()), folders),
        about=(("path",),),
    )


def _endings() -> tuple[str, ...]:
    """Of the names of files that may be images."""
    read = formats()
    return tuple(suffix for suffix, kind in Image.EXTENSION.items() if kind in read)
