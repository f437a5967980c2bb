"""Tiles: small pictures of maps, each on a scale of its own, as images inside the page.

A tile's colours go from the smallest to the largest value of its map, so that structure shows however small it is;
the number beside the tile says how large it is. Does not own which maps are shown (`look`).
"""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
from PIL import Image

from vitdsl.reports.figures._maps import LOGARITHMIC
from vitdsl.reports.parts import Array
from vitdsl.reports.theme import LIGHT, SEQUENTIAL

DECADES = 2.0
"""Powers of ten that a logarithmic tile covers at most, from its largest value down."""
STEPS = 96
"""Colours of a tile, beside that of what is not defined."""


@dataclass(frozen=True)
class Tile:
    """A map as a picture.

    Attributes:
        name: What it is of.
        note: Its number.
        said: Both in full, for the pointer and for who does not see it.
        source: The map as an image inside the page; empty for the photograph alone.
        over: Whether it lies over the photograph.
        circles: Centre and radius of circles, in pixels of the model's input.
    """

    name: str
    note: str
    said: str
    source: str = ""
    over: bool = False
    circles: tuple[tuple[float, float, float], ...] = ()


@dataclass(frozen=True)
class Row:
    """Tiles that belong together, such as the heads of a block."""

    title: str
    note: str
    tiles: tuple[Tile, ...]


def logarithmic(values: Array) -> bool:
    """Whether the largest value of a map towers so far above the others that colours are logarithmic."""
    known = values[np.isfinite(values)]
    return bool(len(known) and known.min() >= 0 and known.max() > LOGARITHMIC * max(np.median(known), 0))


def placed(values: Array, decades: float = DECADES) -> Array:
    """A map `[row, col]` from 0 at its smallest value to 1 at its largest; undefined values stay so.

    Args:
        values: The map.
        decades: How many powers of ten it covers at most where it is logarithmic.
    """
    if not np.isfinite(values).any():
        return np.full_like(values, np.nan)
    if logarithmic(values):
        high = np.log10(np.nanmax(values))
        with np.errstate(divide="ignore"):
            values = np.where(np.isnan(values), np.nan, np.maximum(np.log10(values), high - decades))
    low, high = np.nanmin(values), np.nanmax(values)
    return np.asarray(
        (values - low) / (high - low) if high > low else np.where(np.isnan(values), np.nan, 0.0)
    )


def source_of(values: Array, decades: float = DECADES) -> str:
    """A map as a PNG inside the page, one pixel for each place."""
    share = placed(values, decades)
    index = np.where(np.isnan(share), STEPS, np.round(np.nan_to_num(share) * (STEPS - 1))).astype(np.uint8)
    picture = Image.fromarray(index, mode="P")
    picture.putpalette(_palette())
    return inside(_written(picture), "png")


def inside(content: bytes, kind: str) -> str:
    """An image file as part of the page."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def gradient() -> str:
    """The colours as a CSS gradient, the smallest at the left."""
    stops = ", ".join(_hex(colour) for colour in _colours(12))
    return f"linear-gradient(to right, {stops})"


def _palette() -> list[int]:
    void = [int(LIGHT["void"][i : i + 2], 16) for i in (1, 3, 5)]
    return [part for colour in _colours(STEPS) for part in colour] + void


def _colours(count: int) -> Sequence[tuple[int, int, int]]:
    drawn = matplotlib.colormaps[SEQUENTIAL](np.linspace(0, 1, count), bytes=True)
    return [(int(red), int(green), int(blue)) for red, green, blue, _ in drawn]


def _hex(colour: tuple[int, int, int]) -> str:
    return "#" + "".join(f"{part:02x}" for part in colour)


def _written(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
