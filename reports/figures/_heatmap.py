"""Heatmaps: embedded pixels in frames of one size, names of sites along the sides, stages of models set apart.

Does not own the colour scale (`_scales`), or which heatmaps a figure has.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor, log10

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize

from vitdsl.reports.canvas import Sheet, note_grid
from vitdsl.reports.figures._frames import Frame, Side, label_side
from vitdsl.reports.figures._scales import Scale
from vitdsl.reports.labels import MINUS, fold, number, stages, ticks
from vitdsl.reports.parts import Array, Part
from vitdsl.reports.theme import FONT_PX, LIGHT

MOST_TICKS = 12
FLAT = 0.005
"""Values that have a largest one and differ by less than this look equal, and are told in words."""
WRITTEN = 8
"""Up to so many rows and columns, each cell's number is written in it."""
MOST_PLACES = 3
LETTERS = 24
"""Names beside a heatmap have so many letters in a line."""


@dataclass(frozen=True)
class Heatmap:
    """Values `[row, column]`, the first row at the bottom.

    Attributes:
        rows: Their names in full, for what is said of a cell.
        columns: The same of columns.
        texts: What is said of each cell; by default its number.
        below: What stands below the map.
        beside: What stands to the left.
        cuts: Rows and columns before which a line sets groups apart.
    """

    values: Array
    rows: Sequence[str]
    columns: Sequence[str]
    below: Side
    beside: Side
    texts: Sequence[Sequence[str]] = ()
    cuts: tuple[tuple[int, ...], tuple[int, ...]] = ((), ())


def flat(part: Part, values: Array) -> str:
    """What is said of values that differ by too little to be drawn; empty where they are to be drawn."""
    known = values[np.isfinite(values)]
    low, high = float(known.min()), float(known.max())
    if part.attr("valid_max", None) is None or high - low >= FLAT or len(known) < 3:
        return ""
    return f"all values lie between {low:.4f} and {high:.4f}"


def draw_heatmap(sheet: Sheet, wide: bool, one: Heatmap, frame: Frame, scale: Scale) -> None:
    """The map in its frame."""
    axes = frame.axes(sheet)
    show(axes, one.values, scale)
    texts = one.texts or [[number(float(value)) for value in row] for row in one.values]
    note_grid(axes, one.rows, one.columns, texts)
    for cuts, line in zip(one.cuts, (axes.axhline, axes.axvline), strict=True):
        for first in cuts:
            line(first - 0.5, color=LIGHT["paper"], linewidth=1.6)
    label_side(axes, one.below, "x")
    label_side(axes, one.beside, "y")


def show(axes: Axes, values: Array, scale: Scale, *, written: bool = True) -> None:
    """Pixels with a frame; undefined cells show the hatched ground. Numbers are written in cells that are few."""
    axes.grid(False)
    axes.patch.set(facecolor=LIGHT["void"], hatch="////", edgecolor=LIGHT["muted"], linewidth=0)
    axes.imshow(
        np.ma.masked_invalid(values),
        cmap=scale.colours,
        norm=Normalize(scale.low, scale.high),
        origin="lower",
        aspect="auto",
        interpolation="none",
    )
    axes.spines[["top", "right"]].set_visible(True)
    axes.tick_params(length=3)
    if written and max(values.shape) <= WRITTEN:
        _write(axes, values, scale)


def _write(axes: Axes, values: Array, scale: Scale) -> None:
    """Each cell's number, to a hundredth of the scale's larger end or better."""
    places = 2 - floor(log10(max(abs(scale.low), abs(scale.high))))
    if not 0 <= places <= MOST_PLACES:
        return
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value):
            share = (value - scale.low) / (scale.high - scale.low)
            red, green, blue, _ = scale.colours(min(1.0, max(0.0, share)))
            dark = 0.2126 * red**2.2 + 0.7152 * green**2.2 + 0.0722 * blue**2.2 < 0.18
            text = f"{value:.{places}f}".replace("-", MINUS)
            axes.text(
                column,
                row,
                text if value and text.strip(f"{MINUS}0.") else "0",
                ha="center",
                va="center",
                fontsize=FONT_PX - 2,
                color="#ffffff" if dark else "#000000",
            )


def sites_along(part: Part, dim: str, what: str = "") -> tuple[Side, tuple[int, ...]]:
    """Site names along one side with the model that they belong to, and where its stages begin but for the first."""
    names = part.names(dim)
    spots, labels, pattern = ticks(names, MOST_TICKS)
    at = [(spot + 0.5) / len(names) for spot in spots]
    groups = stages(names)
    if groups and len(names) > MOST_TICKS:
        at = [(first + last + 1) / 2 / len(names) for _, first, last in groups]
        labels, pattern = [name for name, _, _ in groups], ""
    words = ": ".join(filter(None, (what, " ".join(filter(None, (part.model_of(dim), pattern))))))
    return (
        Side(tuple(at), tuple(fold(label, LETTERS) for label in labels), words),
        tuple(first for _, first, _ in groups[1:]),
    )
