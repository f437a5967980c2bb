"""Heads: a value of each attention head at each site, beside a reference level."""

from collections.abc import Sequence
from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import PathPatch
from matplotlib.path import Path

from vitdsl.reports.canvas import Sheet, note_points
from vitdsl.reports.figures._base import Figure, Panel, Plot, assembled
from vitdsl.reports.figures._labels import draw_levels, level_of
from vitdsl.reports.labels import estimate, fold, number, sentence, ticks, unit, with_unit
from vitdsl.reports.parts import Array, Part
from vitdsl.reports.sentences import lead_and_details
from vitdsl.reports.theme import FONT_PX, LIGHT, SERIES

LEAST_SHARE = 0.1
"""The axis spans at least this share of the level to compare with."""
MANY = 240
"""More dots than this have no intervals, and are one path."""
EVEN = 0.005
"""Heads that are all within this share of that level are told in words."""


class Heads(Figure):
    """Sites with heads."""

    def fits(self, part: Part) -> bool:
        """Sites and heads."""
        return part.dims == {"site", "head"}

    def plot(self, id: str, parts: Sequence[Part]) -> Plot:
        """One panel for each model."""
        shared = _limits(parts)
        panels = [
            Panel(part.label, partial(_draw_heads, part=part, shared=shared), False, 330, 320)
            for part in parts
            if not _even(part)
        ]
        caption = f"{sentence(parts[0].name)}: one dot for each head, sorted within each site."
        caption = caption if panels else ""
        caption += "".join(f" {part.label}: {_even(part)}." for part in parts if _even(part))
        return assembled(id, parts, caption, _takeaway(parts), panels, intervals=True)


def _even(part: Part) -> str:
    """What is said of heads that are all at the level to compare with; empty where they are to be drawn."""
    level = part.attr("baseline_line", None)
    values = part.array.isel(condition=0).values
    known = values[np.isfinite(values)]
    if level is None or not len(known) or np.abs(known - float(level)).max() > EVEN * abs(float(level)):
        return ""
    ends = " and ".join(f"{end:.2f}" for end in (known.min(), known.max()))
    return f"all heads lie between {ends}, and {part.attr('baseline_label', 'the level')} is at {float(level):.2f}"


def _limits(parts: Sequence[Part]) -> tuple[float, float]:
    """Ends of the axis that all panels share, about the level to compare with where there is one.

    It spans at least a tenth of that level, so that noise about it does not look like structure.
    """
    levels = [
        float(part.attr("baseline_line")) for part in parts if part.attr("baseline_line", None) is not None
    ]
    pieces = [a.isel(condition=0).values.ravel() for part in parts for a in (part.array, *part.bounds)]
    known = np.concatenate([*pieces, levels])
    known = known[np.isfinite(known)]
    if not len(known):
        return 0.0, 1.0
    low, high = float(known.min()), float(known.max())
    least = LEAST_SHARE * max(map(abs, levels), default=0.0)
    air = max(0.08 * (high - low), (least - (high - low)) / 2, 1e-12)
    return (0.0 if not levels and low >= 0 else low - air), high + air


def _draw_heads(
    sheet: Sheet, wide: bool, part: Part, shared: tuple[float, float], condition: int = 0
) -> None:
    """For each site, its heads from the smallest to the largest value, and their mean."""
    axes = sheet.subplots()
    values, low, high = (
        a.isel(condition=condition).transpose("site", "head").values for a in (part.array, *part.bounds)
    )
    count, heads = values.shape
    order = np.argsort(values, axis=1)
    rows = np.arange(count)[:, None]
    values, low, high = values[rows, order], low[rows, order], high[rows, order]
    x = rows + (np.arange(heads)[None, :] - (heads - 1) / 2) * (0.68 / max(1, heads - 1))
    hue = LIGHT[SERIES[part.hue % len(SERIES)]]
    size = float(np.clip((600 if wide else 260) / max(1, values.size), 3.0, 6.0))
    if values.size <= MANY:
        axes.vlines(x.ravel(), low.ravel(), high.ravel(), color=hue, linewidth=1.1, alpha=0.5)
        axes.plot(x.ravel(), values.ravel(), "o", color=hue, markersize=size, markeredgewidth=0, zorder=3)
    else:
        _dots(axes, x.ravel(), values.ravel(), hue, size)
    heads_at = np.array(part.names("head"))[order]
    said = [
        f"{site}, head {head}: {estimate(float(v), float(a), float(b), part.units)}"
        for site, *row in zip(part.names(), heads_at, values, low, high, strict=True)
        for head, v, a, b in zip(*row, strict=True)
    ]
    note_points(axes, x.ravel(), values.ravel(), said)
    mean = _means(values)
    axes.hlines(mean, rows[:, 0] - 0.42, rows[:, 0] + 0.42, color=LIGHT["ink"], linewidth=1.6, zorder=4)
    at, labels, pattern = ticks(part.names(), 24 if wide else 12)
    axes.set_xticks(at, labels)
    if max(map(len, labels)) * len(labels) > (90 if wide else 34):
        axes.tick_params(axis="x", labelrotation=55)
    axes.set_xlim(-0.6, count - 0.4)
    axes.set_xlabel(" ".join(filter(None, (part.model, pattern))))
    axes.set_ylim(*shared)
    axes.set_ylabel(fold(with_unit(part.name, part.units), 36))
    handles = [
        Line2D([], [], marker="o", linestyle="", color=hue, markersize=5),
        Line2D([], [], color=LIGHT["ink"], linewidth=1.6),
    ]
    names = ["one head (sorted within its site)", "mean of the heads"]
    drawn = draw_levels(axes, level_of(part))
    handles += [handle for handle, _ in drawn]
    names += [one.label for _, one in drawn]
    sheet.legend(
        handles,
        names,
        loc="outside upper left",
        ncols=len(names) if wide else 1,
        borderaxespad=0.2,
        fontsize=FONT_PX - 0.5,
    )


def _dots(axes: Axes, x: Array, y: Array, colour: str, size: float) -> None:
    """Many dots as one path: lines of next to no length with round ends, a single element of the page."""
    known = np.isfinite(y)
    ends = np.stack([x[known], y[known], x[known] + 1e-3, y[known]], 1).reshape(-1, 2)
    path = Path(ends, np.tile([Path.MOVETO, Path.LINETO], known.sum()))
    axes.add_patch(PathPatch(path, fill=False, edgecolor=colour, linewidth=size, capstyle="round", zorder=3))


def _means(values: Array) -> Array:
    counts = np.isfinite(values).sum(1)
    return np.where(counts > 0, np.nansum(values, axis=1) / np.maximum(counts, 1), np.nan)


def _takeaway(parts: Sequence[Part]) -> str:
    """The range over heads at the first and the last site, beside the reference level."""
    said = []
    for part in parts:
        values, low, high = (
            np.asarray(array.isel(condition=0).transpose("site", "head").values, np.float64)
            for array in (part.array, *part.bounds)
        )
        known = [i for i in range(len(values)) if np.isfinite(values[i]).any()]
        ends = list(dict.fromkeys((known[0], known[-1]))) if known else []
        words = []
        for i in ends:
            ends_of = [int(end(values[i])) for end in (np.nanargmin, np.nanargmax)]
            span = " to ".join(estimate(values[i, h], low[i, h], high[i, h]) for h in ends_of)
            words.append(f"{' '.join(filter(None, (span, unit(part.units))))} at {part.names()[i]}")
        level = part.attr("baseline_line", None)
        if words and level is not None:
            label = str(part.attr("baseline_label", "reference"))
            words.append(f"{number(float(level))} {unit(part.units)}".rstrip() + f" is {label}")
        if words:
            said.append(f"{part.label}: {'; '.join(words)}.")
    return lead_and_details(f"{sentence(parts[0].name)}, from the lowest head to the highest.", said)
