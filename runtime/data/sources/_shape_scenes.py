"""What an image of the source `shapes` shows: its object, and all that is painted, drawn from a seed of its own.

Owns the draws and their order. Does not own: outlines and textures (`_shape_forms`), pixels (`_shape_drawing`).

The object is drawn first, then the ground, then distractors, then clutter: what is beside the object never changes it.
"""

import colorsys
import math
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import NamedTuple

import numpy as np

from vitdsl.runtime.data.sources._shape_forms import COLOURS, OUTLINES, TEXTURES, hull

MOST_PIECES = 16
"""Pieces of clutter where `clutter` is 1."""
SMALLEST = 2.5
"""Radius of the smallest thing that is painted, in pixels."""
FIXED_HUE = 0.5
PERIOD = (0.6, 0.8)
"""A texture's period, in radii of the object."""

Colour = tuple[float, float, float]


@dataclass(frozen=True)
class Look:
    """The fields of a study that decide what images show, none of them left open."""

    size: int
    shapes: int
    textures: int
    rotates: bool
    coloured: bool
    grounded: bool
    clutter: float
    distractors: int
    similarity: float
    diameter: tuple[float, float]
    grid: int

    @property
    def margin(self) -> float:
        """How far from every edge an object's centre stays, in shares of the image: the largest one is whole."""
        return self.diameter[1] / 2


@dataclass(frozen=True)
class Truth:
    """What is true of an image, by construction.

    Attributes:
        shape: Name of the object's outline.
        texture: Name of its texture.
        colour: Name of the colour that is nearest to its hue.
        x: Column of its centre, in pixels from the left edge.
        y: Row of its centre, in pixels from the upper edge.
        row: Row of the grid's cell that the centre is in, from 0.
        col: Column of that cell.
        diameter: Of the disc that its outline fills from rim to rim, in pixels.
        rotation: How far it is turned clockwise, in degrees.
        box: Left, upper, right and lower edge of the smallest upright box around it, in pixels.
    """

    shape: str
    texture: str
    colour: str
    x: float
    y: float
    row: int
    col: int
    diameter: float
    rotation: float
    box: tuple[float, float, float, float]


class Piece(NamedTuple):
    """Something to paint: an outline at a place, in a texture of two colours; lengths are in pixels.

    The ground is a piece without outline. The texture is turned with the outline; `shift` moves it, in periods.
    """

    outline: str | None
    texture: str
    first: Colour
    second: Colour
    x: float
    y: float
    radius: float
    turn: float
    period: float
    shift: tuple[float, float]


def scene(look: Look, seed: int) -> list[Piece]:
    """All that is painted, the ground first and the object last.

    Args:
        look: What images show.
        seed: The image's own.
    """
    draw = Random(seed)
    found = _object(look, draw)
    return [
        _ground(look, draw),
        *[_clutter(look, draw) for _ in range(round(look.clutter * MOST_PIECES))],
        *[_distractor(look, draw) for _ in range(look.distractors)],
        found,
    ]


def truth(look: Look, seed: int) -> Truth:
    """What is true of the image of a seed."""
    found = _object(look, Random(seed))
    assert found.outline is not None
    low, span = look.margin * look.size, (1 - 2 * look.margin) * look.size
    row, col = (min(look.grid - 1, int((at - low) / span * look.grid)) for at in (found.y, found.x))
    hue = colorsys.rgb_to_hsv(*found.first)[0]
    return Truth(
        found.outline,
        found.texture,
        COLOURS[round(hue * len(COLOURS)) % len(COLOURS)],
        found.x,
        found.y,
        row,
        col,
        2 * found.radius,
        math.degrees(found.turn),
        _box(found, look.similarity),
    )


def _object(look: Look, draw: Random) -> Piece:
    outline = OUTLINES[int(draw.random() * look.shapes)]
    texture = TEXTURES[int(draw.random() * look.textures)]
    x, y = (look.margin + (1 - 2 * look.margin) * draw.random() for _ in range(2))
    return _thing(look, draw, outline, texture, (x, y), 1)


def _distractor(look: Look, draw: Random) -> Piece:
    """A smaller object of an outline that is no class, anywhere."""
    outline = draw.choice(OUTLINES[look.shapes :])
    return _thing(look, draw, outline, draw.choice(TEXTURES), (draw.random(), draw.random()), 0.6)


def _thing(
    look: Look, draw: Random, outline: str, texture: str, at: tuple[float, float], scale: float
) -> Piece:
    turn, hue = draw.random() * 2 * math.pi, (int(draw.random() * len(COLOURS)) + 0.6 * (draw.random() - 0.5))
    saturation, value = draw.uniform(0.65, 1), draw.uniform(0.8, 1)
    first = colorsys.hsv_to_rgb(hue / len(COLOURS) % 1, saturation, value)
    if not look.coloured:
        first = colorsys.hsv_to_rgb(FIXED_HUE, 0.85, 0.95)
    dark = 0.25 + 0.5 * look.similarity
    second = (first[0] * dark, first[1] * dark, first[2] * dark)
    radius = max(SMALLEST, scale * draw.uniform(*look.diameter) * look.size / 2)
    period, shift = draw.uniform(*PERIOD) * radius, (draw.random(), draw.random())
    x, y = at[0] * look.size, at[1] * look.size
    return Piece(outline, texture, first, second, x, y, radius, turn if look.rotates else 0.0, period, shift)


def _clutter(look: Look, draw: Random) -> Piece:
    """A small bar or disc of one colour, anywhere."""
    colour = colorsys.hsv_to_rgb(draw.random(), draw.uniform(0.2, 1), draw.uniform(0.3, 1))
    radius = max(SMALLEST, draw.uniform(0.04, 0.1) * look.size)
    x, y, turn = draw.random() * look.size, draw.random() * look.size, draw.random() * 2 * math.pi
    outline = "bar" if draw.random() < 0.7 else "disc"
    return Piece(outline, "solid", colour, colour, x, y, radius, turn, 1.0, (0.0, 0.0))


def _ground(look: Look, draw: Random) -> Piece:
    """Dull and rather dark; with a texture where one is asked for, in two near colours."""
    hue, saturation, value = draw.random(), draw.uniform(0, 0.3), draw.uniform(0.2, 0.5)
    texture, turn = draw.choice(TEXTURES[1:]), draw.random() * 2 * math.pi
    period, shift = draw.uniform(0.12, 0.4) * look.size, (draw.random(), draw.random())
    other = value + draw.choice((-1, 1)) * draw.uniform(0.1, 0.2)
    first, second = (colorsys.hsv_to_rgb(hue, saturation, one) for one in (value, other))
    if not look.grounded:
        texture = "solid"
    middle = look.size / 2
    return Piece(None, texture, first, second, middle, middle, middle, turn, period, shift)


def _box(piece: Piece, similarity: float) -> tuple[float, float, float, float]:
    assert piece.outline is not None
    corners = hull(piece.outline, similarity) * piece.radius
    cos, sin = math.cos(piece.turn), math.sin(piece.turn)
    x = piece.x + corners @ np.array([cos, -sin])
    y = piece.y + corners @ np.array([sin, cos])
    return float(x.min()), float(y.min()), float(x.max()), float(y.max())


def classes(look: Look, label: str) -> tuple[str, ...]:
    """Names of the classes of a kind of label, in label order."""
    shapes, textures = OUTLINES[: look.shapes], TEXTURES[: look.textures]
    cells = [f"row {row}, column {col}" for row in range(look.grid) for col in range(look.grid)]
    both = [f"{shape}, {texture}" for shape in shapes for texture in textures]
    found: dict[str, Sequence[str]] = {
        "shape": shapes, "texture": textures, "colour": COLOURS, "position": cells, "shape+texture": both,
    }  # fmt: skip
    return tuple(found[label])


def class_name(found: Truth, label: str) -> str:
    """The class of an image, for a kind of label."""
    if label == "position":
        return f"row {found.row}, column {found.col}"
    if label == "shape+texture":
        return f"{found.shape}, {found.texture}"
    return {"shape": found.shape, "texture": found.texture, "colour": found.colour}[label]
