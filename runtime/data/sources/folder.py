"""Images in a folder of your own: one folder per class, or a flat folder without labels.

What it gives
    Every file below `path` that Pillow can read by its extension, in the sorted order of its path; hidden
    files and folders are skipped, links are followed once. Ids are paths relative to `path`. The content
    hash is of the file. Images may differ in size; each becomes RGB: palettes and CMYK are converted,
    transparency is laid over white, the camera's EXIF orientation is applied, of an animation the first
    frame is taken. Where all images lie in sub-folders, the first
    folder of each path is the class, sorted by name, and by number where all of them are numbers (0, 1, ...
    999). Where they all lie directly in `path`, there are no labels. Both at once is an error. `split: val` takes
    one of its folders; folders named `train`, `val`, `test` and nothing else are never taken for classes.
    Other files are left out, and counted by ending in one line where they may have been meant (.heic, .dcm).
    `labels: imagenet` gives the 1,000 labels of ImageNet-1k that pretrained models predict, even where only
    some of the classes are there, to classes that are WordNet ids (`n01440764`), names or numbers. `labels`
    as a mapping says more: `to`, a label set of timm's; `classes`, a text file with one class of the model a
    line; `outputs`, the number or name of the output for classes that are called otherwise; `csv`, a file
    with the columns `file` and `label` instead of folders; `only`, the classes to take. `vitdsl check` shows
    the first lines of what comes out.

Limits
    Pixels of more than 8 bits (16-bit and float TIFF) need `range: [BLACK, WHITE]`, one rule for all images: linear
    between, cut off beyond. PNG and PPM say themselves that 65,535 is white. Images that hold NaN are unreadable.
    Unreadable images stop the run and are named, all of them; `unreadable: skip` leaves them out and names them, and
    decodes every image once more to know how many there are. So does one of more than 179
    million pixels, or whose longer side is more than 100 times the shorter. Formats: JPEG, PNG, WebP, TIFF,
    BMP, GIF, JPEG 2000, AVIF, PPM, TGA, ICO, PCX, QOI.

Example:
    data:
      probe: {source: folder, path: ./photos, images: 1000}
      val: {source: folder, path: ./imagenet/val, labels: imagenet, images: 5000, batch: 128}
      pets: {source: folder, path: ./pets, split: test, labels: {to: imagenet-1k, outputs: {kitty: tabby cat}}}
"""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from vitdsl.dsl.diagnostics import Diagnostic, EnvironmentProblem
from vitdsl.dsl.study import Entry
from vitdsl.dsl.text import counted, shown
from vitdsl.runtime.data.sources._base import Item, Source
from vitdsl.runtime.data.sources._folder_files import listed
from vitdsl.runtime.data.sources._folder_labels import AnyLabels, Labels, labelled
from vitdsl.runtime.data.sources._pixels import BROKEN, Range, opened, to_rgb, unreadable


class Params(Entry):
    """Which folder."""

    path: str = Field(description="The folder, relative to the study.")
    split: str | None = Field(
        None, description="Which of its folders to take, such as `val`; null: all of it."
    )
    labels: AnyLabels = Field(
        "folders",
        description="`folders`: the sub-folders, if any; `imagenet`: of ImageNet-1k; `none`; or a mapping.",
    )
    unreadable: Literal["refuse", "skip"] = Field(
        "refuse",
        description="What becomes of images that cannot be read; `skip` decodes all once more, to count them.",
    )
    range: Range | None = Field(
        default=None, description="Of pixels of more than 8 bits: the values that are black and white."
    )


class Folder(Source):
    """The images below a folder, sorted by path."""

    name = "folder"
    Params = Params
    version = 2
    paths: ClassVar[tuple[str, ...]] = ("path", "labels.csv", "labels.classes")

    def __init__(self, params: Entry, *, folder: Path, seed: int) -> None:
        """List the folder; nothing is decoded yet."""
        assert isinstance(params, Params)
        unlabelled = params.labels == "none" or (
            isinstance(params.labels, Labels) and params.labels.csv is not None
        )
        found = listed(params.path, params.split, folder, whole=unlabelled)
        files, skipped = found.files, list[str]()
        if params.unreadable == "skip":
            files, skipped = _readable(found.root, found.files, params.range)
            if not files:
                raise EnvironmentProblem(_none_left(params.path, skipped))
        taken = labelled(files, params.labels, params.path, folder)
        self.root, self.files = found.root, taken.files
        self.classes, self.labels = taken.classes, taken.labels
        self.shown = taken.shown
        self.range = params.range
        bad = f"{len(skipped):,} of {counted(len(found.files), 'image')} cannot be read and are skipped"
        self.notes = tuple(
            note for note in (found.left_out, f"{bad}: {', '.join(skipped)}" if skipped else "") if note
        )

    def __len__(self) -> int:
        return len(self.files)

    def id(self, index: int) -> str:
        """The path relative to the folder, with slashes."""
        return self.files[index]

    def content(self, index: int) -> str:
        """The hash of the file."""
        path = self.root / self.files[index]
        try:
            with path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise EnvironmentProblem(unreadable(str(path), error, _mend(path.name))) from error

    def in_words(self) -> str:
        """The name of the folder, and not where it lies."""
        return f"images of the folder `{self.root.name}`"

    def label(self, index: int) -> int | None:
        """The position of its class, None in a flat folder."""
        return None if self.labels is None else self.labels[index]

    def load(self, index: int) -> Item:
        """Read and decode one file."""
        path = self.root / self.files[index]
        try:
            content = path.read_bytes()
            with opened(content) as image:
                rgb = to_rgb(image, self.range)
        except BROKEN as error:
            raise EnvironmentProblem(unreadable(str(path), error, _mend(path.name))) from error
        return Item(rgb, self.label(index), hashlib.sha256(content).hexdigest())


def _none_left(written: str, skipped: list[str]) -> Diagnostic:
    return Diagnostic(
        "VD403",
        f"none of the images in the folder `{written}` can be read, such as {skipped[0]}",
        label="no images",
        help=("mend them, or give another folder",),
        about=(("path",),),
    )


def _mend(name: str) -> str:
    """What to do with an image that is broken."""
    hidden = f"a name with a leading dot, such as `.{name}`, makes vitdsl skip it"
    return f"mend or delete it, or write `unreadable: skip`; {hidden}"


@cache
def _trouble(path: Path, changed: int, size: int, values: tuple[float, float] | None) -> str:
    """Why an image cannot be read, empty where it can; a file is looked at once as long as it does not change."""
    try:
        with opened(path.read_bytes()) as image:
            to_rgb(image, values)
    except BROKEN as error:
        return unreadable(path.name, error, "").message.partition(": ")[2]
    return ""


def _readable(
    root: Path, files: list[str], values: tuple[float, float] | None
) -> tuple[list[str], list[str]]:
    """Those of some images that can be read, and why the others cannot."""

    def look(file: str) -> str:
        found = (root / file).stat()
        return _trouble(root / file, found.st_mtime_ns, found.st_size, values)

    with ThreadPoolExecutor() as pool:
        troubles = list(pool.map(look, files))
    kept = [file for file, trouble in zip(files, troubles, strict=True) if not trouble]
    return kept, [
        f"`{shown(file)}` ({trouble})" for file, trouble in zip(files, troubles, strict=True) if trouble
    ]
