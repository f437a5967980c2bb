"""Images in a folder of your own: one folder per class, or a flat folder without labels.

What it gives
    Every file below `path` that Pillow can read by its extension, in the sorted order of its path; hidden
    files and folders are skipped, links are followed once. Ids are paths relative to `path`. The content
    hash is of the file. Images may differ in size; each becomes RGB: palettes and CMYK are converted,
    transparency is laid over white, 16-bit grey is scaled by its full range, the camera's EXIF orientation
    is applied, of an animation the first frame is taken. Where all images lie in sub-folders, the first
    folder of each path is the class, sorted by name. Where they all lie directly in `path`, there are no
    labels. Both at once is an error. `labels: imagenet` reads the sub-folders as WordNet ids (`n01440764`)
    and gives the 1,000 labels of ImageNet-1k that pretrained models predict, even where only some of the
    classes are there.

Limits
    An unreadable image stops the run and is named; it is not left out silently. So does one of more than 179
    million pixels, or whose longer side is more than 100 times the shorter. Formats: JPEG, PNG, WebP, TIFF,
    BMP, GIF, JPEG 2000, AVIF, PPM, TGA, ICO, PCX, QOI.

Example:
    data:
      probe: {source: folder, path: ./photos, images: 1000}
      val: {source: folder, path: ./imagenet/val, labels: imagenet, images: 5000, batch: 128}
"""

import hashlib
import io
import os
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from pydantic import Field
from timm.data import ImageNetInfo

from vitdsl.dsl.diagnostics import Diagnostic, EnvironmentProblem, StudyError
from vitdsl.dsl.study import Entry
from vitdsl.dsl.text import counted, near_files
from vitdsl.runtime.data.sources._base import ImagesNotHere, Item, Source
from vitdsl.runtime.paths import expanded

FORMATS = "AVIF BMP DIB GIF ICO JPEG JPEG2000 PCX PNG PPM QOI TGA TIFF WEBP".split()
"""Pillow's names of the formats that are read; never one that it hands to another program, such as EPS."""
LONGEST = 100
"""A longer side of more than so many shorter ones is a mistake: resized by its shorter side it has no end."""
IMAGENET_FIX = (
    "name the folders by WordNet ids (`n01440764`), or leave `labels` out to take the folders' names"
)


class Params(Entry):
    """Which folder."""

    path: str = Field(description="The folder, relative to the study.")
    labels: Literal["folders", "imagenet", "none"] = Field(
        "folders",
        description="`folders`: the sub-folders, if any; `imagenet`: sub-folders are WordNet ids; `none`.",
    )


class Folder(Source):
    """The images below a folder, sorted by path."""

    name = "folder"
    Params = Params
    paths: ClassVar[tuple[str, ...]] = ("path",)

    def __init__(self, params: Entry, *, folder: Path, seed: int) -> None:
        """List the folder; nothing is decoded yet."""
        assert isinstance(params, Params)
        self.root = (folder / expanded(params.path)).resolve()
        self.files = _listed(self.root, params.path)
        self.classes, self.labels = _labels(self.files, params)

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


@cache
def formats() -> tuple[str, ...]:
    """The formats that are read and that this Pillow was built with."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def opened(content: bytes) -> Image.Image:
    """An image of one of the formats that are decoded here, and by no other program.

    Raises:
        UnidentifiedImageError: It is of no such format.
        DecompressionBombError: It has more than 179 million pixels.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # from 89 million pixels on
        return Image.open(io.BytesIO(content), formats=formats())


def to_rgb(image: Image.Image) -> Image.Image:
    """An image in RGB, upright: transparency over white, 16-bit grey scaled by its full range.

    Raises:
        ValueError: Its longer side is more than 100 times the shorter one, which no preprocessing can resize.
    """
    if max(image.size) > LONGEST * min(image.size):
        raise ValueError(f"it has {image.width:,} x {image.height:,} pixels, more than {LONGEST} to 1")
    image = ImageOps.exif_transpose(image) or image
    if image.mode.startswith(("I", "F")):
        values = np.asarray(image, dtype=np.float64)
        top = 65535.0 if image.mode.startswith("I") else 1.0 if values.max(initial=0) <= 1 else 255.0
        return Image.fromarray(np.round(values.clip(0, top) * (255 / top)).astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")


def _listed(root: Path, written: str) -> list[str]:
    if not root.is_dir():
        what = "is a file, not a folder" if root.exists() else "does not exist"
        raise (EnvironmentProblem if root.exists() else ImagesNotHere)(
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
    read = formats()
    suffixes = {suffix for suffix, kind in Image.EXTENSION.items() if kind in read}
    every = sorted(_walk(root))
    files = [file for file in every if os.path.splitext(file)[1].lower() in suffixes]
    if not files:
        others = counted(len(every), "other file") if every else "no files"
        raise EnvironmentProblem(
            Diagnostic(
                "VD403",
                f"there are no images in the folder `{written}`",
                label="no images",
                notes=(f"`{root}` and its sub-folders hold {others}",),
                help=("give a folder with .jpg, .png, .webp, .tif or other files that Pillow reads",),
                about=(("path",),),
            )
        )
    return files


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


def _labels(files: list[str], params: Params) -> tuple[tuple[str, ...] | None, list[int] | None]:
    if params.labels == "none":
        return None, None
    nested = [file for file in files if "/" in file]
    if params.labels == "folders" and not nested:
        return None, None
    if len(nested) < len(files):
        loose = next(file for file in files if "/" not in file)
        raise StudyError(
            Diagnostic(
                "VD244",
                f"`{params.path}` holds {counted(len(nested), 'image')} in sub-folders and "
                f"{len(files) - len(nested)} outside (such as `{loose}`), where there is no class",
                help=("move them into the folders of their classes, or write `labels: none`",),
                about=(("labels",), ("path",)),
            )
        )
    names = [file.partition("/")[0] for file in files]
    classes = tuple(sorted(set(names)))
    if params.labels == "imagenet":
        known = tuple(ImageNetInfo("imagenet-1k").label_names())
        foreign = [name for name in classes if name not in set(known)]
        if foreign:
            raise StudyError(
                Diagnostic(
                    "VD244",
                    f"`labels: imagenet`, but {len(foreign)} of {len(classes)} folders in `{params.path}` "
                    f"are not among the 1,000 classes of ImageNet-1k, such as `{foreign[0]}`",
                    help=(IMAGENET_FIX,),
                    about=(("labels",), ("path",)),
                )
            )
        classes = known
    position = {name: index for index, name in enumerate(classes)}
    return classes, [position[name] for name in names]


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


def _unreadable(path: Path, error: Exception) -> Diagnostic:
    reason = "not an image, or cut short" if isinstance(error, UnidentifiedImageError) else str(error)
    return Diagnostic(
        "VD402",
        f"the image `{path}` cannot be read: {reason}",
        help=(f"mend or delete it; a name with a leading dot, such as `.{path.name}`, makes vitdsl skip it",),
        about=(("path",),),
    )
