"""Images in a folder of your own: one folder per class, or a flat folder without labels.

What it gives
    Every file below `path` that Pillow can read by its extension, in the sorted order of its path; hidden
    files and folders are skipped, links are followed once. Ids are paths relative to `path`. The content
    hash is of the file. Images may differ in size; each becomes RGB: palettes and CMYK are converted,
    transparency is laid over white, 16-bit grey is scaled by its full range, the camera's EXIF orientation
    is applied, of an animation the first frame is taken. Where all images lie in sub-folders, the first
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
    An unreadable image stops the run and is named; it is not left out silently. So does one of more than 179
    million pixels, or whose longer side is more than 100 times the shorter. Formats: JPEG, PNG, WebP, TIFF,
    BMP, GIF, JPEG 2000, AVIF, PPM, TGA, ICO, PCX, QOI.

Example:
    data:
      probe: {source: folder, path: ./photos, images: 1000}
      val: {source: folder, path: ./imagenet/val, labels: imagenet, images: 5000, batch: 128}
      pets: {source: folder, path: ./pets, split: test, labels: {to: imagenet-1k, outputs: {kitty: tabby cat}}}
"""

import hashlib
from pathlib import Path
from typing import ClassVar

from PIL import Image, UnidentifiedImageError
from pydantic import Field

from vitdsl.dsl.diagnostics import Diagnostic, EnvironmentProblem
from vitdsl.dsl.study import Entry
from vitdsl.runtime.data.sources._base import Item, Source
from vitdsl.runtime.data.sources._folder_files import listed
from vitdsl.runtime.data.sources._folder_labels import AnyLabels, Labels, labelled
from vitdsl.runtime.data.sources._pixels import opened, to_rgb


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
        taken = labelled(found.files, params.labels, params.path, folder)
        self.root, self.files = found.root, taken.files
        self.classes, self.labels = taken.classes, taken.labels
        self.shown = taken.shown
        self.notes = (found.left_out,) if found.left_out else ()

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
            raise EnvironmentProblem(_unreadable(path, error)) from error

    def label(self, index: int) -> int | None:
        """The position of its class, None in a flat folder."""
        return None if self.labels is None else self.labels[index]

    def load(self, index: int) -> Item:
        """Read and decode one file."""
        path = self.root / self.files[index]
        try:
            content = path.read_bytes()
            with opened(content) as image:
                rgb = to_rgb(image)
        except (OSError, ValueError, SyntaxError, MemoryError, Image.DecompressionBombError) as error:
            raise EnvironmentProblem(_unreadable(path, error)) from error
        return Item(rgb, self.label(index), hashlib.sha256(content).hexdigest())


def _unreadable(path: Path, error: Exception) -> Diagnostic:
    reason = "not an image, or cut short" if isinstance(error, UnidentifiedImageError) else str(error)
    return Diagnostic(
        "VD402",
        f"the image `{path}` cannot be read: {reason}",
        help=(f"mend or delete it; a name with a leading dot, such as `.{path.name}`, makes vitdsl skip it",),
        about=(("path",),),
    )
