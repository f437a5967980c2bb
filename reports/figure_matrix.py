"""Heatmaps: sites with sites, and conditions with sites; embedded pixels, one colour scale for all panels."""

from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from vitdsl.reports.canvas import note_grid
from vitdsl.reports.labels import elide, number, ticks, with_unit, wrap
from vitdsl.reports.parts import Array, Part
from vitdsl.reports.series import Line, depth_axis, draw_lines, limits
from vitdsl.reports.theme import DIVERGING, FONT_PX, LIGHT, SEQUENTIAL

MOST_TICKS, MOST_ROWS = 12, 17
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
    step = 10.0 ** np.floor(np.log10(max(high - low, 1e-9)))
    down, up = np.floor(low / step) * step, np.ceil(high / step) * step
    top = parts[0].attr("valid_max", None)
    if top is not None and high <= float(top):
        up = min(up, float(top))
    if 0 < down < 0.35 * up:
        down = 0.0
    return Scale(float(down), float(up if up > down else down + 1))


def draw_matrix(figure: Figure, wide: bool, part: Part, values: Array, scale: Scale) -> None:
    """Sites against sites; the first layers at the bottom left. `values` is [site_x, site_y]."""
    axes = figure.subplots()
    show(axes, values.T, scale, written=True)
    note_grid(axes, part.names("site_y"), part.names("site_x"), _said(values.T))
    name_sites(axes, part, "site_x", "x")
    name_sites(axes, part, "site_y", "y")
    colour_bar(figure, axes, part, scale, bool(np.isnan(values).any()))


def draw_drift(figure: Figure, wide: bool, part: Part, rows: Sequence[int], scale: Scale) -> None:
    """Conditions (from below: the depth of the change) against sites."""
    axes = figure.subplots()
    values = np.asarray(part.array.values[list(rows)], np.float64)
    show(axes, values, scale, written=True)
    note_grid(axes, [part.conditions[i] for i in rows], part.names(), _said(values))
    name_sites(axes, part, "site", "x", "Site read")
    changed = [str(s) for s in part.of_condition("ablated_site", "")]
    ids = [part.conditions[i] for i in rows]
    names = [changed[i] or part.conditions[i] for i in rows]
    at, labels, pattern = ticks(names if len(set(names)) == len(names) else ids, MOST_ROWS)
    axes.set_yticks(at, labels)
    axes.set_ylabel("Site changed" + (f" ({pattern})" if pattern else ""))
    colour_bar(figure, axes, part, scale, bool(np.isnan(values).any()))


def _said(values: Array) -> list[list[str]]:
    return [[number(float(value)) for value in row] for row in values]


def show(axes: Axes, values: Array, scale: Scale, *, written: bool) -> None:
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
    if written and rows <= WRITTEN and columns <= WRITTEN:
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


def name_sites(axes: Axes, part: Part, dim: str, side: str, what: str = "") -> None:
    """Site names along one side, and which model they belong to."""
    at, labels, pattern = ticks(part.names(dim), MOST_TICKS)
    model = elide(part.model_of(dim), 20)
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


def colour_bar(figure: Figure, axes: Axes, part: Part, scale: Scale, missing: bool) -> None:
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
    bar.set_title(wrap(with_unit(part.name, part.units), 40), fontsize=FONT_PX - 1, loc="left", pad=3)
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


def best_match(part: Part) -> tuple[Array, Array, Array]:
    """For each site of x: its depth, the depth of the most similar site of y, and how similar that is."""
    values = np.asarray(part.array.values[0], np.float64)
    known = np.isfinite(values).any(1)
    filled = np.where(np.isfinite(values), values, -np.inf)
    depth = np.where(known, part.depths("site_y")[filled.argmax(1)], np.nan)
    return part.depths("site_x"), depth, np.where(known, filled.max(1), np.nan)


def draw_match(figure: Figure, wide: bool, part: Part) -> None:
    """Where in y each site of x finds its match (above), and how good the match is (below)."""
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[1.25, 1])
    x, y = (elide(name, 18) for name in part.models)
    depth, matched, value = best_match(part)
    nothing = np.full_like(depth, np.nan)
    above.plot([0, 1], [0, 1], color=LIGHT["muted"], linewidth=1, linestyle=(0, (4, 3)))
    under = np.nanmean(matched - depth) < 0 if np.isfinite(matched).any() else False
    above.annotate(
        "same depth",
        (0.6, 0.6) if under else (0.3, 0.3),
        (-6, 2) if under else (8, -2),
        textcoords="offset points",
        ha="right" if under else "left",
        va="bottom" if under else "top",
        color=LIGHT["muted"],
        fontsize=FONT_PX - 1,
    )
    draw_lines(above, [Line("", depth, matched, nothing, nothing, 0, 0)])
    above.set_ylim(-0.05, 1.05)
    above.set_yticks([0, 0.5, 1])
    above.set_ylabel(f"depth in {y}\nof the best match")
    line = Line("", depth, value, nothing, nothing, 2, 2)
    draw_lines(below, [line])
    below.set_ylim(*limits([line], [0.0]))
    below.set_ylabel(wrap(part.name, 22))
    depth_axis(below, f"Depth in {x}")
    figure.align_ylabels([above, below])
