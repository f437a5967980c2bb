"""Effect: what each condition does to a number of the whole model.

Values against the depth of the changed site, all models on one axis; a list of the conditions without one depth.
"""

from collections.abc import Sequence
from functools import partial
from typing import cast

import numpy as np
from matplotlib.axes import Axes

from vitdsl.reports.canvas import Draw, Sheet, note_points
from vitdsl.reports.figures._base import Figure, Panel, Plot, assembled
from vitdsl.reports.figures._changes import MeanEffect, effect_lines, mean_effects
from vitdsl.reports.figures._labels import (
    MOST_NAMED,
    Level,
    differ,
    label_lines,
    level_of,
    level_words,
    own_levels,
)
from vitdsl.reports.figures._lines import Line, depth_axis, draw_lines, limits
from vitdsl.reports.figures._strip import ROW, draw_strip, end_of, right_of, rows_of, strip_words
from vitdsl.reports.figures._swept import draw_swept, swept
from vitdsl.reports.labels import fold, listing, plural, sentence, with_unit
from vitdsl.reports.names import BASELINE
from vitdsl.reports.parts import Array, Part
from vitdsl.reports.rivals import among
from vitdsl.reports.sentences import at, lead_and_details
from vitdsl.reports.theme import FONT_PX, LIGHT, MARKERS, SERIES

MOST_ROWS = 40
HEIGHTS = (345, 305)
"""In CSS pixels: of lines alone, and of lines with a strip below, without it: both stand on a first screen."""
LEVEL = 18
"""Height of the name of a level above a list."""
MOST_MEANS = 3
"""Means that a sentence lists; of more it says the ends."""


class Effect(Figure):
    """One number for each condition."""

    draws_conditions = True

    def fits(self, part: Part) -> bool:
        """No dimension beside the condition."""
        return part.scalar

    def plot(self, id: str, parts: Sequence[Part]) -> Plot:
        """A panel against depth, a panel of rows, or both."""
        panels = []
        words = []
        if _against_depth(parts):
            draw: Draw = partial(_draw_effect, parts=parts)
            units = rows_of(effect_lines(parts))
            more = ROW * len(units) + (HEIGHTS[1] - HEIGHTS[0] + 8 if units else 0)
            panels.append(Panel("Against depth", draw, False, HEIGHTS[0] + more, HEIGHTS[0] + more))
            words.append("Each condition at the depth of the site that it changes.")
            levels = [part.intact for part in parts if np.isfinite(part.intact)]
            if any(abs(v) > 1e-12 for v in levels):
                words.append("Dotted levels: the intact models.")
            if units:
                words.append(strip_words(end_of(units, _levels(parts, units))))
        for one in swept(parts):
            draw = partial(draw_swept, found=one)
            panels.append(Panel(f"Against {one.name}", draw, cell=False, height=330))
            words.append(f"The swept field {one.name} along the axis.")
            if one.left_out:
                words.append(f"{plural(one.left_out, 'line')} more are in the data.")
        words += [said] if (said := level_words(parts)) else []
        rows = _listed(parts)
        if rows and (not panels or not _all_intact(rows)):
            shown = rows[:MOST_ROWS]
            own = {part.path: level for part, level in zip(parts, own_levels(parts), strict=True)}
            beside = [own[part.path] for part, _ in shown]
            named = None if differ([part for part, _ in shown]) else beside[0]
            height = max(130, 70 + 24 * len(shown)) + LEVEL * bool(named)
            draw = partial(_draw_list, rows=shown, levels=beside, named=named)
            what = "model" if _all_intact(rows) else "condition"
            words.append(f"One row for each {what}{' that has no single depth' if panels else ''}.")
            panels.append(Panel("By condition", draw, False, height, height))
            if len(shown) < len(rows):
                words.append(f"{len(shown)} of {plural(len(rows), 'row')} are drawn.")
        return assembled(id, parts, " ".join(words), _takeaway(parts), panels, intervals=True)

    def findings(self, parts: Sequence[Part]) -> list[str]:
        """The mean effect of each model beside the others."""
        return _strongest(parts)


def _draw_effect(sheet: Sheet, wide: bool, parts: Sequence[Part]) -> None:
    """Values against the depth of the changed site, all models on one axis; intact models as levels."""
    lines = effect_lines(parts)
    units = rows_of(lines)
    axes = sheet.subplots() if not units else _above_strip(sheet, wide, parts, units)
    levels = {part.model: part.intact for part in parts if np.isfinite(part.intact)}
    zero = bool(levels) and all(abs(v) < 1e-12 for v in levels.values())
    compared = level_of(*parts)
    axes.set_ylim(*limits(lines, [*levels.values(), *(one.value for one in compared)]))
    if not units:
        depth_axis(axes, "Depth of the changed site")
    axes.set_ylabel(fold(with_unit(parts[0].name, parts[0].units), 36))
    draw_lines(axes, lines)
    if zero:
        axes.axhline(0, color=LIGHT["muted"], linewidth=1, zorder=1)
    else:
        compared += _intact_levels(parts)
    label_lines(sheet, axes, lines, direct=wide, levels=compared)


def _above_strip(sheet: Sheet, wide: bool, parts: Sequence[Part], units: Sequence[Line]) -> Axes:
    """The axes of the lines, with the strip of units drawn below them."""
    heights = [HEIGHTS[1] - 60, ROW * len(units)]
    above, below = sheet.subplots(2, 1, sharex=True, height_ratios=heights)
    draw_strip(below, units, _levels(parts, units), wide=wide)
    depth_axis(below, "Depth of the changed site", last=max(right_of(unit) for unit in units))
    above.tick_params(axis="x", labelbottom=False, length=0)
    return cast(Axes, above)


def _levels(parts: Sequence[Part], units: Sequence[Line]) -> list[float]:
    """For each row the number of the intact model that it is of; 0 where there is none."""
    known = {part.hue: part.intact for part in parts if np.isfinite(part.intact)}
    return [known.get(unit.colour, 0.0) for unit in units]


def _intact_levels(parts: Sequence[Part]) -> list[Level]:
    """The numbers of the intact models, named where these are few."""
    known = [part for part in parts if np.isfinite(part.intact)]
    several = len({part.label for part in known}) > 1
    if several and len({part.intact for part in known}) == 1:
        return [Level(known[0].intact, "intact", width=1.0)]
    return [
        Level(
            part.intact,
            "" if len(known) > MOST_NAMED else f"{part.label}, intact" if several else "intact",
            LIGHT[SERIES[part.hue % len(SERIES)]],
            (0, (2, 3)),
            1.0,
        )
        for part in known
    ]


def _against_depth(parts: Sequence[Part]) -> bool:
    """Whether any line has more than one point along the depth."""
    return any(np.isfinite(line.y).sum() > 1 for line in effect_lines(parts))


def _all_intact(rows: Sequence[tuple[Part, int]]) -> bool:
    return all(part.conditions[i] == BASELINE for part, i in rows)


def _listed(parts: Sequence[Part]) -> list[tuple[Part, int]]:
    """Conditions that do not stand along the depth (and the intact models beside them), in display order."""
    rows, along = [], _against_depth(parts)
    for part in parts:
        depth = part.of_condition("ablated_depth", np.nan)
        loose = [
            i
            for i, name in enumerate(part.conditions)
            if not (along and np.isfinite(float(depth[i])))
            and np.isfinite(float(part.array.values[i]))
            and not (part.relative and name == BASELINE)
        ]
        rows += [(part, i) for i in loose]
    return rows


def _draw_list(
    sheet: Sheet,
    wide: bool,
    rows: Sequence[tuple[Part, int]],
    levels: Sequence[Level | None],
    named: Level | None,
) -> None:
    """One row for each condition: estimate and interval, beside the row's own level; above them one that all share."""
    axes = sheet.subplots()
    several = len({part.model for part, _ in rows}) > 1 or _all_intact(rows)
    names = [f"{part.model}: {part.condition(i)}" if several else part.condition(i) for part, i in rows]
    for y, (part, i) in enumerate(rows):
        value, low, high = (float(a.values[i]) for a in (part.array, *part.bounds))
        hue = LIGHT[SERIES[part.hue % len(SERIES)]]
        axes.hlines(y, low, high, color=hue, linewidth=1.6, alpha=0.55)
        axes.plot(value, y, MARKERS[part.hue % len(MARKERS)], color=hue, markersize=6, markeredgewidth=0)
        note_points(axes, [value], [y], [f"{names[y]}: {at(part, i)}"])
    width = 50 if wide else 24
    axes.set_yticks(range(len(rows)), [fold(name, width) for name in names], fontsize=FONT_PX - 0.5)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.grid(axis="x")
    axes.grid(False, axis="y")
    axes.margins(x=0.08)
    for y, one in enumerate(levels):
        if one:
            ends = (y - 0.5, y + 0.5)
            axes.vlines(one.value, *ends, color=one.colour, linewidth=one.width, linestyle=one.dash, zorder=1)
    if named:
        side = "right" if named.value > sum(axes.get_xlim()) / 2 else "left"
        axes.annotate(
            named.label,
            (named.value, 1),
            (0, 3),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            ha=side,
            color=named.colour,
            fontsize=FONT_PX - 1,
        )
    axes.locator_params(axis="x", nbins=7 if wide else 4)
    axes.set_xlabel(with_unit(rows[0][0].name, rows[0][0].units))


def _takeaway(parts: Sequence[Part]) -> str:
    """The mean effect of single changes beside each other; the largest change of each model, or what it is intact."""
    said, still = [], []
    for part in parts:
        values = np.asarray(part.array.values, np.float64)
        known = [i for i in part.ablated if np.isfinite(values[i])]
        base = part.intact
        unchanged = at(part, part.conditions.index(BASELINE)) if np.isfinite(base) else ""
        if not known:
            still += [(base, f"{unchanged} in {part.label}")] if unchanged else []
            continue
        reference = base if unchanged else float(np.mean(values[known]))
        far = max(known, key=lambda i: abs(values[i] - reference))
        moved = f"from {unchanged} intact to " if unchanged and abs(base) > 1e-12 else ""
        others = among(part, known, far, partial(_change, reference=reference), "large")
        said.append(
            f"{part.label}: largest change {moved}{at(part, far)}, with {part.condition(far)}{others}."
        )
    name = sentence(parts[0].name)
    if still:
        said.append(f"Without a change: {_some(still)}.")
    if still and len(said) == 1:
        return f"{name}: {_some(still)}."
    return lead_and_details((_strongest(parts) or [f"{name}."])[0], said)


def _some(means: Sequence[tuple[float, str]]) -> str:
    """A few numbers in words, in order; of many the smallest and the largest."""
    if len(means) <= MOST_MEANS:
        return listing([said for _, said in means])
    words = [said for _, said in sorted(means)]
    return f"from {words[0]} to {words[-1]}; {len(words) - 2} others lie between"


def _change(values: Array, *, reference: float) -> Array:
    """How far numbers are from a reference."""
    return np.asarray(np.abs(values - reference))


def _alone(one: MeanEffect) -> str:
    """That a number is of one change, where what it is called does not name that already."""
    return f" with {one.change} alone" if one.change and not one.label.endswith(f", {one.change}") else ""


def _strongest(parts: Sequence[Part]) -> list[str]:
    """The findings worth the page's head: the mean effect of each model; of many, the smallest and the largest."""
    found = (one for one in mean_effects(parts) if np.isfinite(one.value))
    known = sorted(found, key=lambda one: (one.value, one.said, one.label), reverse=True)
    if not known:
        return []
    averaged = any(not one.change for one in known)
    means = [(one.value, f"{one.said} for {one.label}{_alone(one)}") for one in known]
    return [f"{sentence(parts[0].name)}{', mean over single changes' * averaged}: {_some(means)}."]
