"""What each condition does to a number of the whole model: against the depth of the change, or as a list."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from vitdsl.reports.labels import elide, with_unit, wrap
from vitdsl.reports.parts import BASELINE, Part
from vitdsl.reports.series import Line, depth_axis, draw_lines, label_lines, limits, reference_line
from vitdsl.reports.theme import FONT_PX, LIGHT, MARKERS, SERIES

MOST_ROWS = 40


def effect_lines(parts: Sequence[Part], *, column: int | None = None) -> list[Line]:
    """One line for each model and ablation whose conditions change one site each.

    Args:
        parts: Values over conditions; with `column`, over conditions and sites.
        column: Which site to read.
    """
    lines: list[Line] = []
    models = list(dict.fromkeys(part.model for part in parts))
    for part in parts:
        values, low, high = (
            np.asarray(a.values if column is None else a.values[:, column], np.float64)
            for a in (part.array, *part.bounds)
        )
        depth = np.array([float(d) for d in part.of_condition("ablated_depth", np.nan)])
        kinds = np.array(changes(part))
        here = [a for a in dict.fromkeys(kinds) if (np.isfinite(depth) & (kinds == a)).any()]
        several = len(here) > 1
        metrics = len({p.metric for p in parts if p.model == part.model}) > 1
        for ablation in here:
            keep = np.isfinite(depth) & (kinds == ablation)
            colour = models.index(part.model)
            words = [part.model, str(ablation) if several else "", part.metric if metrics else ""]
            lines.append(
                Line(
                    " ".join(filter(None, words)),
                    depth[keep],
                    values[keep],
                    low[keep],
                    high[keep],
                    colour,
                    len(lines),
                    tuple(str(s) for s in np.array(part.of_condition("ablated_site", ""))[keep]),
                )
            )
    return lines


def changes(part: Part) -> list[str]:
    """What each condition changes, as far as a group's conditions differ in it.

    The ablation, and the last part of the site's path where that names a kind of unit (`attn`, `mlp`) rather
    than counting.
    """
    ablations = [str(a) for a in part.of_condition("ablation", "")]
    ends = [str(s).rpartition(".")[2] for s in part.of_condition("ablated_site", "")]
    counts = Counter(end for end in ends if end)
    named = 2 <= len(counts) <= 4 and min(counts.values()) > 1 and not any(end.isdigit() for end in counts)
    several = len({a for a in ablations if a}) > 1
    return [
        " ".join(filter(None, (ablation if several or not named else "", end if named else "")))
        for ablation, end in zip(ablations, ends, strict=True)
    ]


def intact(part: Part) -> float:
    """The value of the intact model; NaN where the group has none."""
    if BASELINE not in part.conditions or part.array.ndim > 1:
        return float("nan")
    return float(part.array.values[part.conditions.index(BASELINE)])


def draw_effect(figure: Figure, wide: bool, parts: Sequence[Part]) -> None:
    """Values against the depth of the changed site, all models on one axis; intact models as levels."""
    axes = figure.subplots()
    lines = effect_lines(parts)
    levels = {part.model: intact(part) for part in parts if np.isfinite(intact(part))}
    zero = bool(levels) and all(abs(v) < 1e-12 for v in levels.values())
    axes.set_ylim(*limits(lines, list(levels.values())))
    depth_axis(axes, "Depth of the changed site")
    axes.set_ylabel(wrap(with_unit(parts[0].name, parts[0].units), 36))
    draw_lines(axes, lines)
    if zero:
        axes.axhline(0, color=LIGHT["muted"], linewidth=1, zorder=1)
    else:
        names = list(dict.fromkeys(part.model for part in parts))
        for model, level in levels.items():
            colour = LIGHT[SERIES[names.index(model) % len(SERIES)]]
            axes.axhline(level, color=colour, linewidth=1, linestyle=(0, (2, 3)), zorder=1)
    if parts[0].attr("baseline_line", None) is not None:
        reference_line(axes, float(parts[0].attr("baseline_line")), str(parts[0].attr("baseline_label")))
    label_lines(figure, axes, lines, direct=wide)


def listed(parts: Sequence[Part]) -> list[tuple[Part, int]]:
    """Conditions without a single depth (and the intact models beside them), in display order."""
    rows = []
    for part in parts:
        depth = part.of_condition("ablated_depth", np.nan)
        loose = [
            i
            for i, name in enumerate(part.conditions)
            if not np.isfinite(float(depth[i])) and not (part.relative and name == BASELINE)
        ]
        rows += [(part, i) for i in loose]
    return rows


def draw_list(figure: Figure, wide: bool, rows: Sequence[tuple[Part, int]]) -> None:
    """One row for each condition: estimate and interval."""
    axes = figure.subplots()
    models = list(dict.fromkeys(part.model for part, _ in rows))
    for y, (part, i) in enumerate(rows):
        value, low, high = (float(a.values[i]) for a in (part.array, *part.bounds))
        colour = models.index(part.model)
        hue = LIGHT[SERIES[colour % len(SERIES)]]
        axes.hlines(y, low, high, color=hue, linewidth=1.6, alpha=0.55)
        axes.plot(value, y, MARKERS[colour % len(MARKERS)], color=hue, markersize=6, markeredgewidth=0)
    width = 44 if wide else 22
    names = [
        elide(f"{part.model}: {'intact' if part.conditions[i] == BASELINE else part.conditions[i]}", width)
        for part, i in rows
    ]
    axes.set_yticks(range(len(rows)), names, fontsize=FONT_PX - 0.5)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.grid(axis="x")
    axes.grid(False, axis="y")
    axes.margins(x=0.08)
    axes.locator_params(axis="x", nbins=7 if wide else 4)
    axes.set_xlabel(with_unit(parts_name(rows), rows[0][0].units))


def parts_name(rows: Sequence[tuple[Part, int]]) -> str:
    """What the rows' value is."""
    return rows[0][0].name
