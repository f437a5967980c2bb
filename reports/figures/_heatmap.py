"""Heatmaps: embedded pixels, one colour scale for all panels, names of sites along the sides."""

from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, Normalize
from matplotlib.patches import Patch

from vitdsl.reports.canvas import Sheet, note_grid
from vitdsl.reports.labels import fold, number, stages, ticks, with_unit
from vitdsl.reports.parts import Array, Part
from vitdsl.reports.theme import DIVERGING, FONT_PX, LIGHT, SEQUENTIAL

MOST_TICKS = 12
LEAST_SPAN = 0.1
"""A bar of a value that has a largest one spans at least this: small differences are not drawn as large ones."""
FLAT = 0.005
"""Values of such a bar that differ by less than this look equal, and are told in words."""
WRITTEN = 8
"""Up to so many rows and columns, each cell's number is written in it."""


@dataclass(frozen=True)
class Scale:
    """One colour scale: its ends, and whether it is symmetric about a meaningful zero."""

    low: float
    high: float
    diverging: bool = False

    @property
    def colours(self) -> Colormap:
        """The colormap."""
        return matplotlib.colormaps[DIVERGING if self.diverging else SEQUENTIAL]


def scale_of(parts: Sequence[Part]) -> Scale:
    """The scale that all panels of a section share: round ends about the data, within the valid range."""
    values = np.concatenate([part.array.values.ravel() for part in parts])
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
    down = min(down, up - LEAST_SPAN) if top is not None else down
    if 0 < down < 0.35 * up:
        down = 0.0
    return Scale(float(down), float(up if up > down else down + 1))


def flat(part: Part, values: Array) -> str:
    """What is said of values that differ by too little to be drawn; empty where they are to be drawn."""
    known = values[np.isfinite(values)]
    low, high = float(known.min()), float(known.max())
    if part.attr("valid_max", None) is None or high - low >= FLAT or len(known) < 3:
        return ""
    return f"all values lie between {low:.4f} and {high:.4f}"


def show(axes: Axes, values: Array, scale: Scale) -> None:
    """Pixels with a frame; undefined cells show the hatched ground."""
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
    rows, columns = values.shape
    if rows <= WRITTEN and columns <= WRITTEN:
        for (row, column), value in np.ndenumerate(values):
            if np.isfinite(value):
                share = (value - scale.low) / (scale.high - scale.low)
                red, green, blue, _ = scale.colours(min(1.0, max(0.0, share)))
                dark = 0.2126 * red**2.2 + 0.7152 * green**2.2 + 0.0722 * blue**2.2 < 0.18
                axes.text(
                    column,
                    row,
                    f"{value:.2f}" if 0.005 <= abs(value) < 10 else number(value, 2),
                    ha="center",
                    va="center",
                    fontsize=FONT_PX - 2,
                    color="#ffffff" if dark else "#000000",
                )


def note_cells(axes: Axes, rows: Sequence[str], columns: Sequence[str], values: Array) -> None:
    """Remember each cell's number, for the page to show it."""
    note_grid(axes, rows, columns, [[number(float(value)) for value in row] for row in values])


def name_sites(axes: Axes, part: Part, dim: str, side: str, what: str = "") -> None:
    """Site names along one side, and which model they belong to."""
    names = part.names(dim)
    spots, labels, pattern = ticks(names, MOST_TICKS)
    at: list[float] = list(map(float, spots))
    groups = stages(names) if len(names) > MOST_TICKS else []
    if groups:
        at = [(first + last) / 2 for _, first, last in groups]
        labels, pattern = [name for name, _, _ in groups], ""
        for _, first, _ in groups[1:]:
            line = axes.axvline if side == "x" else axes.axhline
            line(first - 0.5, color=LIGHT["paper"], linewidth=1.6)
    model = part.model_of(dim)
    words = ": ".join(filter(None, (what, " ".join(filter(None, (model, pattern))))))
    if side == "x":
        long = max(map(len, labels)) * len(labels) > 38
        axes.set_xticks(at, labels, rotation=55 if long else 0, ha="right" if long else "center")
        if long:
            for label in axes.get_xticklabels():
                label.set_rotation_mode("anchor")
        axes.set_xlabel(words)
    else:
        axes.set_yticks(at, labels)
        axes.set_ylabel(words)


def colour_bar(sheet: Sheet, axes: Axes, part: Part, scale: Scale, missing: bool) -> None:
    """The scale as a strip of pixels above the panel, with its name; and what hatching means."""
    bar = axes.inset_axes((0, 1.09, 0.62, 0.035))
    bar.grid(False)
    bar.imshow(
        np.linspace(0, 1, 128)[None, :],
        cmap=scale.colours,
        aspect="auto",
        interpolation="none",
        extent=(scale.low, scale.high, 0, 1),
    )
    bar.set_yticks([])
    bar.locator_params(axis="x", nbins=5)
    bar.tick_params(axis="x", length=2, pad=1, labelsize=FONT_PX - 2)
    bar.set_title(fold(with_unit(part.name, part.units), 40), fontsize=FONT_PX - 1, loc="left", pad=3)
    if missing:
        patch = Patch(facecolor=LIGHT["void"], hatch="////", edgecolor=LIGHT["muted"], linewidth=0)
        axes.legend(
            [patch],
            ["not defined"],
            loc="lower right",
            bbox_to_anchor=(1.01, 1.03),
            borderaxespad=0,
            handlelength=1.2,
            fontsize=FONT_PX - 2,
        )
