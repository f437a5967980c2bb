"""Values by site: lines against depth, by token and branch or by model; and one dot for each head."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from vitdsl.reports.canvas import note_points
from vitdsl.reports.labels import elide, estimate, ticks, with_unit, wrap
from vitdsl.reports.parts import Array, Part
from vitdsl.reports.series import (
    Line,
    depth_axis,
    draw_lines,
    label_lines,
    limits,
    log_axis,
    reference_line,
)
from vitdsl.reports.theme import FONT_PX, LIGHT, SERIES

LOGARITHMIC = 15.0
"""Positive values that span a larger factor than this get a logarithmic axis."""
TOKEN_NAMES = {"cls": "CLS", "mean": "mean of tokens", "all": "all tokens"}


def token_lines(part: Part, condition: int = 0) -> list[Line]:
    """One line for each token and kind of branch: colour by token, marker and dash by kind of branch."""
    array, low, high = (
        a.isel(condition=condition).transpose("site", "token").values for a in (part.array, *part.bounds)
    )
    depth = part.depths()
    if "branch_kind" in part.dataset.coords and part.dataset["branch_kind"].dims == ("site",):
        kinds = np.array([str(k) for k in part.dataset["branch_kind"].values])
    else:
        kinds = np.array([""] * len(depth))
    order = list(dict.fromkeys(kinds))
    colours = {"cls": 1, "spatial": 0}
    lines = []
    for t, token in enumerate(part.names("token")):
        for look, kind in enumerate(order):
            keep = kinds == kind
            words = (kind, TOKEN_NAMES.get(token, token))
            colour = colours.get(token, t)
            label = ", ".join(filter(None, words))
            here = tuple(np.array(part.names())[keep].tolist())
            ends = (array[keep, t], low[keep, t], high[keep, t])
            lines.append(Line(label, depth[keep], *ends, colour, look, here))
    return [line for line in lines if np.isfinite(line.y).any()]


def together(parts: Sequence[Part]) -> list[Line]:
    """The token lines of all models for one axis: each model's tokens in colours of their own."""
    lines: list[Line] = []
    looks = 0
    for i, part in enumerate(parts):
        own = token_lines(part)
        lines += [
            replace(
                line,
                label=f"{elide(part.model, 14)} {line.label}",
                colour=line.colour + 2 * i,
                look=line.look + looks,
            )
            for line in own
        ]
        looks += len({line.look for line in own})
    return lines


def profile_lines(parts: Sequence[Part]) -> list[Line]:
    """One line for each group."""
    several = len({part.metric for part in parts}) > 1
    return [
        Line(
            f"{part.model}, {part.metric}" if several else part.model,
            part.depths(),
            np.asarray(part.array.values[0], np.float64),
            np.asarray(part.bounds[0].values[0], np.float64),
            np.asarray(part.bounds[1].values[0], np.float64),
            i,
            i,
            tuple(part.names()),
        )
        for i, part in enumerate(parts)
    ]


def draw_by_depth(
    figure: Figure,
    wide: bool,
    part: Part,
    lines: Sequence[Line],
    shared: tuple[float, float],
    title: str = "",
) -> None:
    """Lines against depth on a scale that several panels share."""
    axes = figure.subplots()
    low, high = shared
    level = part.attr("baseline_line", None)
    if logarithmic(lines, shared):
        log_axis(axes, low, high)
    else:
        axes.set_ylim(low, high)
    depth_axis(axes, "Depth" + (f" in {elide(title, 24)}" if title else ""))
    axes.set_ylabel(wrap(with_unit(part.name, part.units), 36))
    draw_lines(axes, lines)
    if level is not None:
        reference_line(axes, float(level), str(part.attr("baseline_label", "")))
    label_lines(figure, axes, lines, direct=wide)


def logarithmic(lines: Sequence[Line], shared: tuple[float, float]) -> bool:
    """Whether the shared limits ask for a logarithmic axis: all above 0 and far apart."""
    return shared[0] > 0 and shared[1] / shared[0] > LOGARITHMIC


def shared_limits(lines: Sequence[Line], include: Sequence[float] = ()) -> tuple[float, float]:
    """Limits for all panels; a small positive lower end where a logarithmic axis fits."""
    known = np.concatenate([np.concatenate([line.y, line.low, line.high]) for line in lines])
    known = known[np.isfinite(known)]
    if len(known) and known.min() > 0 and known.max() / known.min() > LOGARITHMIC:
        return float(known.min()) / 1.2, float(known.max()) * 1.2
    low, high = limits(lines, include)
    if low > 0 and high / low > LOGARITHMIC / 5:
        low = 0.0
    return low, high


def draw_heads(figure: Figure, wide: bool, part: Part, condition: int = 0) -> None:
    """For each site, its heads from the smallest to the largest value, and their mean."""
    axes = figure.subplots()
    values, low, high = (
        a.isel(condition=condition).transpose("site", "head").values for a in (part.array, *part.bounds)
    )
    count, heads = values.shape
    order = np.argsort(values, axis=1)
    rows = np.arange(count)[:, None]
    values, low, high = values[rows, order], low[rows, order], high[rows, order]
    x = rows + (np.arange(heads)[None, :] - (heads - 1) / 2) * (0.68 / max(1, heads - 1))
    hue = LIGHT[SERIES[0]]
    if values.size <= 240:
        axes.vlines(x.ravel(), low.ravel(), high.ravel(), color=hue, linewidth=1.1, alpha=0.5)
    size = float(np.clip((600 if wide else 260) / max(1, values.size), 3.0, 6.0))
    axes.plot(x.ravel(), values.ravel(), "o", color=hue, markersize=size, markeredgewidth=0, zorder=3)
    heads_at = np.array(part.names("head"))[order]
    said = [
        f"{site}, head {head}: {estimate(float(v), float(a), float(b), part.units)}"
        for site, *row in zip(part.names(), heads_at, values, low, high, strict=True)
        for head, v, a, b in zip(*row, strict=True)
    ]
    note_points(axes, x.ravel(), values.ravel(), said)
    mean = _mean(values)
    axes.hlines(mean, rows[:, 0] - 0.42, rows[:, 0] + 0.42, color=LIGHT["ink"], linewidth=1.6, zorder=4)
    at, labels, pattern = ticks(part.names(), 24 if wide else 12, 10)
    axes.set_xticks(at, labels)
    if max(map(len, labels)) * len(labels) > (90 if wide else 34):
        axes.tick_params(axis="x", labelrotation=55)
    axes.set_xlim(-0.6, count - 0.4)
    axes.set_xlabel(" ".join(filter(None, (elide(part.model, 24), pattern))))
    level = part.attr("baseline_line", None)
    known = np.concatenate([values.ravel(), low.ravel(), high.ravel(), [] if level is None else [level]])
    known = known[np.isfinite(known)]
    top = float(known.max()) if len(known) else 1.0
    bottom = float(known.min()) if len(known) else 0.0
    bottom = 0.0 if 0 <= bottom else bottom - 0.06 * (top - bottom)
    axes.set_ylim(bottom, top + 0.1 * (top - bottom or 1))
    axes.set_ylabel(wrap(with_unit(part.name, part.units), 36))
    handles = [
        Line2D([], [], marker="o", linestyle="", color=hue, markersize=5),
        Line2D([], [], color=LIGHT["ink"], linewidth=1.6),
    ]
    names = ["one head (sorted within its site)", "mean of the heads"]
    if level is not None:
        handles.append(reference_line(axes, float(level), ""))
        names.append(str(part.attr("baseline_label", "")))
    figure.legend(
        handles,
        names,
        loc="outside upper left",
        ncols=len(names) if wide else 1,
        borderaxespad=0.2,
        fontsize=FONT_PX - 0.5,
    )


def _mean(values: Array) -> Array:
    counts = np.isfinite(values).sum(1)
    return np.where(counts > 0, np.nansum(values, axis=1) / np.maximum(counts, 1), np.nan)
