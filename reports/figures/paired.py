"""Paired: a value of each site under each condition, such as the drift from the intact model."""

from collections.abc import Sequence
from functools import partial

import numpy as np

from vitdsl.reports.canvas import Draw, Sheet
from vitdsl.reports.figures._base import Panel, Plot, assembled
from vitdsl.reports.figures._by_site import BySite
from vitdsl.reports.figures._changes import effect_lines
from vitdsl.reports.figures._heatmap import Scale, colour_bar, name_sites, note_cells, scale_of, show
from vitdsl.reports.figures._lines import depth_axis, draw_lines, label_lines, limits
from vitdsl.reports.labels import fold, listing, number, sentence, ticks
from vitdsl.reports.parts import Array, Part
from vitdsl.reports.rivals import among
from vitdsl.reports.sentences import at, lead_and_details

MOST_ROWS = 17


class Paired(BySite):
    """Conditions with sites."""

    def fits(self, part: Part) -> bool:
        """One value for each site, under a condition that changes something."""
        return super().fits(part) and bool(part.ablated)

    def plot(self, id: str, parts: Sequence[Part]) -> Plot:
        """A heatmap for each model and ablation, and what reaches the last site."""
        scale = scale_of(parts)
        panels = []
        for part in parts:
            kinds = part.of_condition("ablation", "")
            for kind in dict.fromkeys(str(kinds[i]) for i in part.ablated):
                rows = [i for i in part.ablated if str(kinds[i]) == kind]
                depth = [float(part.of_condition("ablated_depth", np.nan)[i]) for i in rows]
                if not np.isfinite(np.asarray(part.array.values[rows])).any():
                    continue
                rows = [rows[i] for i in np.argsort(depth, kind="stable")]
                draw: Draw = partial(_draw_conditions, part=part, rows=rows, scale=scale)
                panels.append(
                    Panel(
                        f"{part.label}, {part.called.ablation(kind)}" if kind else part.label,
                        draw,
                        height=410,
                    )
                )
        caption = (
            "One row for each condition, from early changes (bottom) to late ones; one colour scale for all."
        )
        if effect_lines(parts, column=-1):
            panels.append(
                Panel("The last site, by depth of the change", partial(_draw_last, parts=parts), False, 330)
            )
            caption += " Last panel: what reaches the last site of each model."
        return assembled(id, parts, caption, _takeaway(parts), panels, intervals=True)


def _draw_conditions(sheet: Sheet, wide: bool, part: Part, rows: Sequence[int], scale: Scale) -> None:
    """Conditions (from below: the depth of the change) against sites."""
    axes = sheet.subplots()
    values = np.asarray(part.array.values[list(rows)], np.float64)
    show(axes, values, scale)
    note_cells(axes, [part.conditions[i] for i in rows], part.names(), values)
    name_sites(axes, part, "site", "x", "Site read")
    changed = [str(s) for s in part.of_condition("ablated_site", "")]
    names = [changed[i] or part.condition(i) for i in rows]
    if len(set(names)) < len(names):
        names = [", ".join(filter(None, (changed[i], part.variant(i)))) or part.condition(i) for i in rows]
    at, labels, pattern = ticks(names, MOST_ROWS)
    axes.set_yticks(at, labels)
    axes.set_ylabel("Site changed" + (f" ({pattern})" if pattern else ""))
    colour_bar(sheet, axes, part, scale, bool(np.isnan(values).any()))


def _draw_last(sheet: Sheet, wide: bool, parts: Sequence[Part]) -> None:
    axes = sheet.subplots()
    lines = effect_lines(parts, column=-1)
    axes.set_ylim(*limits(lines))
    depth_axis(axes, "Depth of the changed site")
    axes.set_ylabel(fold(parts[0].name, 34))
    draw_lines(axes, lines)
    label_lines(sheet, axes, lines, direct=wide)


def _at_last(values: Array) -> Array:
    """The numbers of the last site, `[..., condition]`."""
    return np.asarray(values[..., -1])


def _takeaway(parts: Sequence[Part]) -> str:
    """How far the last site moves under each model's conditions."""
    said, spans = [], []
    for part in parts:
        values = np.asarray(part.array.values[:, -1], np.float64)
        known = [i for i in part.ablated if np.isfinite(values[i])]
        if not known:
            continue
        low, high = min(known, key=lambda i: values[i]), max(known, key=lambda i: values[i])
        spans.append(f"{number(float(values[low]))} to {number(float(values[high]))} in {part.model}")
        last = part.names()[-1]
        lower = among(part, known, low, _at_last, "low", lowest=True)
        higher = among(part, known, high, _at_last, "high")
        said.append(
            f"{part.label}, at {last}: lowest {at(part, low, -1)} with {part.condition(low)}{lower}; "
            f"highest {at(part, high, -1)} with {part.condition(high)}{higher}."
        )
    return lead_and_details(f"{sentence(parts[0].name)}, at the last site: {listing(spans)}.", said)
