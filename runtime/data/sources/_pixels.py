"""From the bytes of a file to an RGB image of 8 bits: which formats are read, and what becomes of every kind of pixel.

Does not own where files lie (`_folder_files`, `files`).
"""

import io
import warnings
from functools import cache

import numpy as np
from PIL import Image, ImageOps

FORMATS = "AVIF BMP DIB GIF ICO JPEG JPEG2000 PCX PNG PPM QOI TGA TIFF WEBP".split()
"""Pillow's names of the formats that are read; never one that it hands to another program, such as EPS."""
LONGEST = 100
"""A longer side of more than so many shorter ones is a mistake: resized by its shorter side it has no end."""


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
