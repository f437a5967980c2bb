"""Images of one data entry beside those of another, image by image: the same ones changed, or others of the same ids.

Owns `of` and `transform` of a data entry: which image stands beside which, and what a change does to pixels. Does not
own where images come from (`sources`), or their order (`stream`): that of the entry that is named.
"""

import hashlib
import io
import os
from collections.abc import Callable, Mapping

import numpy as np
from PIL import Image, ImageFilter
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from vitdsl.dsl.diagnostics import Diagnostic, StudyError
from vitdsl.dsl.text import counted, shown
from vitdsl.dsl.transform_entry import Transform
from vitdsl.runtime.data.sources._base import Item, Source
from vitdsl.runtime.randomness import isolated, seed_of

GREY = (128, 128, 128)
"""What an occluded part shows."""
VERSION = 1
"""Raised when the same change gives other pixels."""


class Beside(Source):
    """A source in the order of another one, each image changed as an entry says.

    Args:
        own: Where the images come from.
        other: The source that they stand beside.
        change: What becomes of them; None leaves them as they are.
        seed: Of what chance decides in a change.

    Raises:
        StudyError: An image of the other source has none of its name here (VD247).
    """

    name = "beside"

    def __init__(self, own: Source, other: Source, change: Transform | None, seed: int) -> None:
        self.own, self.other, self.change, self.seed = own, other, change, seed
        self.rows = matched(own, other)
        self.classes, self.drawn = own.classes, own.drawn  # type: ignore[misc]
        self.notes, self.shown = own.notes, own.shown

    def __len__(self) -> int:
        return len(self.rows)

    def id(self, index: int) -> str:
        """The image's own id, and what was changed in it: features of the image itself are not those of the change."""
        own = self.own.id(self.rows[index])
        if self.change is None or self.change.strength == 0:
            return own
        return f"{own} ({self.change.kind} {self.change.strength:g})"

    def content(self, index: int) -> str:
        """What decides its pixels: the image, the change, and the seed."""
        return self._changed(self.own.content(self.rows[index]), index)

    def label(self, index: int) -> int | None:
        """The image's own label."""
        return self.own.label(self.rows[index])

    def in_words(self) -> str:
        """What its own images are, and what was changed in them."""
        said = self.own.in_words()
        return (
            said
            if self.change is None
            else f"{said}; {self.change.kind} of strength {self.change.strength:g}"
        )

    def facts(self, index: int) -> Mapping[str, str | float]:
        """What the image's own source knows."""
        return self.own.facts(self.rows[index])

    def load(self, index: int) -> Item:
        """Decode and change one image."""
        item = self.own.load(self.rows[index])
        if self.change is None or self.change.strength == 0:
            return item
        image = changed(item.image, self.change, self._seed(index))
        return Item(image, item.label, self._changed(item.sha256, index))

    def _seed(self, index: int) -> int:
        return seed_of("transform", self.seed, self.other.id(index))

    def _changed(self, content: str, index: int) -> str:
        if self.change is None or self.change.strength == 0:
            return content
        what = (content, VERSION, self.change.kind, self.change.strength, self._seed(index))
        return hashlib.sha256(repr(what).encode()).hexdigest()


def matched(own: Source, other: Source) -> list[int]:
    """For each image of one source, the index of the one of that name in another; endings of files do not count.

    Raises:
        StudyError: There is none, or there are two (VD247).
    """
    if len(own) == len(other) and all(own.id(index) == other.id(index) for index in range(len(own))):
        return list(range(len(own)))
    for name in (str, _without_ending):
        rows: dict[str, list[int]] = {}
        for index in range(len(own)):
            rows.setdefault(name(own.id(index)), []).append(index)
        found = [rows.get(name(other.id(index)), []) for index in range(len(other))]
        if all(len(one) == 1 for one in found):
            return [index for (index,) in found]
    lacking = [other.id(index) for index, one in enumerate(found) if len(one) != 1]
    raise StudyError(
        Diagnostic(
            "VD247",
            f"{len(lacking):,} of {counted(len(other), 'image')} have none of their name beside them, such as "
            f"`{shown(lacking[0])}`; names here are like `{shown(own.id(0))}`",
            label="not the same images",
            help=("give the images the same paths in both folders; endings may differ",),
            about=(("of",),),
        )
    )


def _without_ending(id: str) -> str:
    return os.path.splitext(id)[0]


def changed(image: Image.Image, change: Transform, seed: int) -> Image.Image:
    """An RGB image after a change, of the same size.

    Args:
        image: The image.
        change: Its kind, and how strong it is, in 0..1; 0 leaves the image as it is.
        seed: Of what chance decides, which does not depend on the strength.
    """
    return image if change.strength == 0 else CHANGES[change.kind](image, change.strength, seed)


def _blur(image: Image.Image, strength: float, seed: int) -> Image.Image:
    """Gaussian, its standard deviation a share of the shorter side."""
    return image.filter(ImageFilter.GaussianBlur(strength * min(image.size)))


def _noise(image: Image.Image, strength: float, seed: int) -> Image.Image:
    """Gaussian in each pixel and channel, its standard deviation a share of the range."""
    pixels = np.asarray(image, np.float64) / 255
    drawn = np.random.Generator(np.random.PCG64(seed)).standard_normal(pixels.shape)
    return Image.fromarray(np.round((pixels + strength * drawn).clip(0, 1) * 255).astype(np.uint8))


def _occlusion(image: Image.Image, strength: float, seed: int) -> Image.Image:
    """A grey window of the image's shape at a random place, its area a share of the image's."""
    left, top, width, height = _window(image, strength, seed)
    found = image.copy()
    found.paste(GREY, (left, top, left + width, top + height))
    return found


def _crop(image: Image.Image, strength: float, seed: int) -> Image.Image:
    """A window of the image's shape at a random place, enlarged; the share of the area that is lost."""
    left, top, width, height = _window(image, 1 - strength, seed)
    size = [image.height, image.width]
    found: Image.Image = functional.resized_crop(image, top, left, height, width, size)
    return found


def _colour(image: Image.Image, strength: float, seed: int) -> Image.Image:
    """Torchvision's ColorJitter: brightness, contrast and saturation within 1 -+ strength, hue within half of it."""
    with isolated(seed):
        found: Image.Image = v2.ColorJitter(strength, strength, strength, strength / 2)(image)
    return found


def _jpeg(image: Image.Image, strength: float, seed: int) -> Image.Image:
    """Written and read as JPEG, of quality 100 - 99 strength."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=round(100 - 99 * strength))
    return Image.open(buffer).convert("RGB")


def _window(image: Image.Image, area: float, seed: int) -> tuple[int, int, int, int]:
    """A window of the image's shape and a share of its area: left, top, width, height."""
    width, height = (max(1, round(side * area**0.5)) for side in image.size)
    x, y = np.random.Generator(np.random.PCG64(seed)).random(2)
    return round(x * (image.width - width)), round(y * (image.height - height)), width, height


CHANGES: Mapping[str, Callable[[Image.Image, float, int], Image.Image]] = {
    "blur": _blur,
    "noise": _noise,
    "occlusion": _occlusion,
    "crop": _crop,
    "colour": _colour,
    "jpeg": _jpeg,
}
