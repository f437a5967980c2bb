"""Colour scales that all heatmaps of a figure share, and the one bar that shows such a scale."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import matplotlib
import numpy as np
from matplotlib.colors import Colormap
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from vitdsl.reports.canvas import Sheet
from vitdsl.reports.figures._base import Panel
from vitdsl.reports.figures._frames import length
from vitdsl.reports.labels import fold, plain, with_unit
from vitdsl.reports.parts import Array, Part
from vitdsl.reports.theme import DIVERGING, FONT_PX, LIGHT, SEQUENTIAL

LEAST_SPAN = 0.1
"""A scale of a value that has a largest one spans at least this: small differences are not drawn as large ones."""
TOWERS = 3.0
"""Where the largest change is more than so many times what 98 in 100 stay below, the scale ends at the latter."""
STRIP, LINE = 11, 17
"""Heights in CSS pixels: of the colours, and of a line of words."""
LETTERS = 52


@dataclass(frozen=True)
class Scale:
    """One colour scale: its ends, whether it is symmetric about a meaningful zero, and whether values lie beyond."""

    low: float
    high: float
    diverging: bool = False
    cut: bool = False

    @property
    def colours(self) -> Colormap:
        """The colormap."""
        return matplotlib.colormaps[DIVERGING if self.diverging else SEQUENTIAL]

    @property
    def words(self) -> str:
        """What a caption adds where values lie beyond the ends."""
        return " Values beyond the ends of the scale have the colour of the end." if self.cut else ""


def scale_of(parts: Sequence[Part], some: Sequence[Array] | None = None) -> Scale:
    """The scale that all panels of a section share: round ends about the data, within the valid range.

    Args:
        parts: Whose values they are.
        some: The values that are drawn; by default all.
    """
    values = np.concatenate([one.ravel() for one in some or [part.array.values for part in parts]])
    values = values[np.isfinite(values)]
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    if all(str(part.attr("scale", "")) == "diverging" for part in parts):
        end = max(abs(low), abs(high)) or 1.0
        return Scale(-end, end, True)
    step = 10.0 ** np.floor(np.log10(max(high - low, 1e-9) / 2))
    down, up = np.floor(low / step) * step, np.ceil(high / step) * step
    top = parts[0].attr("valid_max", None)
    if top is not None and high <= float(top):
        up = min(up, float(top))
    bottom = parts[0].attr("valid_min", None)
    down = min(down, up - LEAST_SPAN) if top is not None else down
    if bottom is not None and low >= float(bottom):
        down = max(down, float(bottom))
    if 0 < down < 0.35 * up:
        down = 0.0
    return Scale(float(down), float(up if up > down else down + 1))


def scale_of_changes(some: Sequence[Array], *, sizes: bool = False) -> Scale:
    """The scale of differences: about 0, from there where they are sizes; a few that tower do not stretch it."""
    values = np.abs(np.concatenate([one.ravel() for one in some]))
    values = values[np.isfinite(values) & (values > 0)]
    largest = float(values.max()) if len(values) else 1.0
    most = float(np.quantile(values, 0.98)) if len(values) else 1.0
    cut = largest > TOWERS * most
    end = most if cut else largest
    step = 10.0 ** np.floor(np.log10(end / 2))
    end = float(np.ceil(round(end / step, 9)) * step)
    return Scale(0.0 if sizes else -end, end, not sizes, cut and end < largest)


def bar_of(
    part: Part,
    scale: Scale,
    some: Sequence[Array],
    name: str = "",
    ticks: Sequence[tuple[float, str]] | None = None,
) -> Panel:
    """The panel that shows a scale above those that share it, and what hatching means where a value is undefined.

    Args:
        part: Whose values are drawn.
        scale: Their colours.
        some: The values.
        name: What they are, with their unit; by default the part's.
        ticks: Places along the scale and what is written there; by default round values.
    """
    missing = any(bool(np.isnan(one).any()) for one in some)
    title = fold(name or with_unit(part.name, part.units), LETTERS)
    height = 8 + LINE * (title.count("\n") + 1) + STRIP + LINE + 2
    named = _ticks(scale) if ticks is None else ticks
    draw = partial(_draw_bar, title=title, scale=scale, missing=missing, ticks=named)
    return Panel("", draw, False, height, height, bar=True)


def _draw_bar(
    sheet: Sheet, wide: bool, title: str, scale: Scale, missing: bool, ticks: Sequence[tuple[float, str]]
) -> None:
    axes = sheet.add_subplot()
    width, height = float(sheet.bbox.width), float(sheet.bbox.height)
    left, inside = 16.0, min(420.0, width - 48 - (length("not defined") + 34 if missing else 0))
    axes.set_position((left / width, (LINE + 2) / height, inside / width, STRIP / height))
    axes.grid(False)
    axes.imshow(
        np.linspace(0, 1, 128)[None, :],
        cmap=scale.colours,
        aspect="auto",
        interpolation="none",
        extent=(scale.low, scale.high, 0, 1),
    )
    axes.set_yticks([])
    axes.set_xticks([at for at, _ in ticks], [text for _, text in ticks])
    axes.tick_params(axis="x", length=2, pad=1, labelsize=FONT_PX - 2)
    axes.text(
        0,
        1 + 5 / STRIP,
        title,
        transform=axes.transAxes,
        fontsize=FONT_PX - 1,
        va="bottom",
    )
    if missing:
        at = 1 + 14 / inside
        axes.add_patch(
            Rectangle(
                (at, 0), 16 / inside, 1, transform=axes.transAxes, clip_on=False, linewidth=0,
                facecolor=LIGHT["void"], hatch="////", edgecolor=LIGHT["muted"],
            )
        )  # fmt: skip
        axes.text(
            at + 21 / inside, 0.5, "not defined", transform=axes.transAxes, fontsize=FONT_PX - 2, va="center"
        )


def _ticks(scale: Scale) -> list[tuple[float, str]]:
    """Round values along the scale, and its ends where these stand apart from them."""
    span = scale.high - scale.low
    found = [float(tick) for tick in MaxNLocator(5).tick_values(scale.low, scale.high)]
    found = [round(tick, 12) for tick in found if scale.low - 1e-9 * span <= tick <= scale.high + 1e-9 * span]
    ends = (end for end in (scale.low, scale.high) if min(abs(end - tick) for tick in found) > 0.12 * span)
    return [(tick, plain(tick)) for tick in sorted([*found, *ends])]
