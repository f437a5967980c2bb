"""From the bytes of a file to an RGB image of 8 bits: which formats are read, and what becomes of every kind of pixel.

Does not own where files lie (`_folder_files`, `files`).
"""

import io
import warnings
from functools import cache
from typing import Annotated

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from pydantic import AfterValidator, Field

from vitdsl.dsl.diagnostics import Diagnostic

FORMATS = "AVIF BMP DIB GIF ICO JPEG JPEG2000 PCX PNG PPM QOI TGA TIFF WEBP".split()
"""Pillow's names of the formats that are read; never one that it hands to another program, such as EPS."""
LONGEST = 100
"""A longer side of more than so many shorter ones is a mistake: resized by its shorter side it has no end."""

BROKEN = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)
"""What Pillow and `to_rgb` raise on an image that cannot be read; full memory says nothing of an image."""
FULL_RANGE = ("PNG", "PPM")
"""Formats that say what their 16 bits mean: the largest number is white."""


def _ordered(values: tuple[float, float]) -> tuple[float, float]:
    if not values[0] < values[1]:
        raise ValueError("the first value is black and must be below the second, which is white")
    return values


Range = Annotated[tuple[float, float], Field(strict=False), AfterValidator(_ordered)]
"""The values that are black and white."""


class NoRange(ValueError):
    """Which values of an image are black and white is not known; the text says which values it has."""


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


def to_rgb(image: Image.Image, values: tuple[float, float] | None = None) -> Image.Image:
    """An image in RGB, upright, with transparency over white.

    Args:
        image: The image.
        values: Of pixels that have more than 8 bits: what is black, and what is white; between them it is linear, and
            beyond them cut off. None takes 0 to 65,535 where the format says so (PNG and PPM of 16 bits).

    Raises:
        NoRange: It has such pixels, and nothing says what is black and white.
        ValueError: Its longer side is more than 100 times the shorter one, which no preprocessing can resize; some of
            its pixels are no numbers.
    """
    if max(image.size) > LONGEST * min(image.size):
        raise ValueError(f"it has {image.width:,} x {image.height:,} pixels, more than {LONGEST} to 1")
    form = image.format
    image = ImageOps.exif_transpose(image) or image
    if image.mode.startswith(("I", "F")):
        return _scaled(np.asarray(image, dtype=np.float64), image.mode, form, values)
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")


def _scaled(
    pixels: np.ndarray, mode: str, form: str | None, values: tuple[float, float] | None
) -> Image.Image:
    """Grey of more than 8 bits, [row, col], as RGB."""
    bad = int((~np.isfinite(pixels)).sum())
    if bad:
        raise ValueError(f"{bad:,} of its {pixels.size:,} pixels are no numbers (NaN or infinite)")
    if values is None and not (mode.startswith("I") and form in FULL_RANGE):
        what = "float pixels" if mode.startswith("F") else "pixels of more than 8 bits"
        raise NoRange(f"it has {what}, from {pixels.min():.6g} to {pixels.max():.6g}")
    black, white = values or (0.0, 65535.0)
    grey = np.round(((pixels - black) / (white - black)).clip(0, 1) * 255).astype(np.uint8)
    return Image.fromarray(grey).convert("RGB")


def unreadable(name: str, error: Exception, help: str) -> Diagnostic:
    """Why an image cannot be read.

    Args:
        name: The image, as messages show it.
        error: What Pillow or `to_rgb` raised.
        help: What to do with an image that is broken.
    """
    if isinstance(error, NoRange):
        return Diagnostic(
            "VD418",
            f"which values of the image `{name}` are black and white is not said: {error}",
            label="which range?",
            help=(
                "write `range: [BLACK, WHITE]`, one for all images of the entry, such as `range: [0, 65535]`",
            ),
            about=(("range",), ("path",)),
        )
    reason = "not an image, or cut short" if isinstance(error, UnidentifiedImageError) else str(error)
    return Diagnostic(
        "VD402",
        f"the image `{name}` cannot be read: {reason}",
        label="cannot be read",
        help=(help,),
        about=(("path",),),
    )
