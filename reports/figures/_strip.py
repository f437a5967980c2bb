"""The strip: units of models in a row, each coloured by what changing it does; stands under the axis of depth."""

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize

from vitdsl.reports.canvas import note_points
from vitdsl.reports.figures._lines import Line, ordered
from vitdsl.reports.labels import MINUS, fold, number, plain
from vitdsl.reports.parts import Array
from vitdsl.reports.theme import DIVERGING, FONT_PX, LIGHT

ROW = 19
"""Height of a row in CSS pixels."""
LEAST_UNITS, MOST_ROWS = 3, 8
"""A strip has rows of so many units at least, and no more rows than this."""
STEPS = 400
"""Pixels of the embedded image along the depth."""
WRITTEN = 17
"""Up to so many units in a row, their numbers are written on a wide page."""
LETTERS, MOST_PLACES = 15, 3


def rows_of(lines: Sequence[Line]) -> list[Line]:
    """The lines that the strip has; none where there are too few units, or too many rows."""
    found = [line for line in lines if np.isfinite(line.y).sum() >= LEAST_UNITS]
    return list(map(ordered, found)) if len(found) == len(lines) <= MOST_ROWS else []


def end_of(lines: Sequence[Line], levels: Sequence[float]) -> float:
    """The largest change, which has the darkest colour."""
    sizes = np.concatenate([np.abs(line.y - level) for line, level in zip(lines, levels, strict=True)])
    return float(np.nanmax(sizes)) or 1.0


def strip_words(end: float) -> str:
    """How the strip is read."""
    return (
        "Strip: a cell for each unit, red above and blue below the intact model, darkest at "
        f"{number(end, 2)} from it."
    )


def draw_strip(axes: Axes, lines: Sequence[Line], levels: Sequence[float], *, wide: bool) -> None:
    """One row for each line, from above as they are listed.

    Args:
        axes: Whose horizontal axis is that of depth.
        lines: From left to right.
        levels: For each line the number of the intact model.
        wide: Whether there is room for numbers.
    """
    end = end_of(lines, levels)
    axes.grid(False)
    largest = max(float(np.nanmax(np.abs(line.y))) for line in lines)
    places = max(0, 1 - int(np.floor(np.log10(max(largest, 1e-9)))))
    colours, norm = matplotlib.colormaps[DIVERGING], Normalize(-end, end)
    for row, (line, level) in enumerate(zip(lines, levels, strict=True)):
        change = line.y - level
        edges = _edges(line.x)
        at = np.linspace(edges[0], edges[-1], STEPS + 1)
        middle = (at[1:] + at[:-1]) / 2
        cells = np.clip(np.searchsorted(edges, middle) - 1, 0, len(change) - 1)
        axes.imshow(
            np.ma.masked_invalid(change[cells])[None, :],
            cmap=colours,
            norm=norm,
            aspect="auto",
            interpolation="none",
            extent=(edges[0], edges[-1], row + 0.42, row - 0.42),
        )
        for edge in edges[1:-1]:
            axes.plot([edge, edge], [row - 0.42, row + 0.42], color=LIGHT["paper"], linewidth=1)
        said = [f"{name}: {number(float(value))}" for name, value in zip(line.names, line.y, strict=True)]
        note_points(
            axes, line.x, np.full(len(line.x), float(row)), [f"{line.label}, {text}" for text in said]
        )
        if wide and len(change) <= WRITTEN:
            _write(axes, line, change / end, row, places)
    axes.set_yticks(range(len(lines)), [fold(line.label, LETTERS) for line in lines])
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(lines) - 0.5, -0.5)
    axes.spines["left"].set_visible(False)


def right_of(line: Line) -> float:
    """Where a row ends."""
    return float(_edges(line.x)[-1])


def _edges(x: Array) -> Array:
    """Ends of cells about places: halfway between neighbours."""
    halves = (x[1:] + x[:-1]) / 2
    return np.concatenate([[x[0] - (halves[0] - x[0])], halves, [x[-1] + (x[-1] - halves[-1])]])


def _write(axes: Axes, line: Line, share: Array, row: int, places: int) -> None:
    if places > MOST_PLACES:
        return
    for x, value, part in zip(line.x, line.y, share, strict=True):
        if np.isfinite(value):
            text = f"{value:.{places}f}".replace("-", MINUS)
            axes.text(
                float(x),
                row,
                text if text.strip(f"{MINUS}0.") else plain(0),
                ha="center",
                va="center",
                fontsize=FONT_PX - 3,
                color="#ffffff" if abs(part) > 0.62 else "#000000",
            )
