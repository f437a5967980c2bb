"""Paired: how far each site is from the intact model under each condition, such as its drift."""

from collections.abc import Sequence
from functools import partial

import numpy as np

from vitdsl.reports.canvas import Sheet
from vitdsl.reports.figures._base import Panel, Plot, assembled
from vitdsl.reports.figures._by_site import BySite
from vitdsl.reports.figures._changes import effect_lines
from vitdsl.reports.figures._conditions import changes
from vitdsl.reports.figures._labels import label_lines, level_of, level_words
from vitdsl.reports.figures._lines import depth_axis, draw_lines, limits
from vitdsl.reports.labels import fold, sentence
from vitdsl.reports.parts import Array, Part
from vitdsl.reports.rivals import among
from vitdsl.reports.sentences import NOTHING, at


class Paired(BySite):
    """Conditions with sites."""

    draws_conditions = True

    def fits(self, part: Part) -> bool:
        """One value for each site that compares a condition with the intact model."""
        return super().fits(part) and bool(part.ablated) and (part.paired or part.relative)

    def plot(self, id: str, parts: Sequence[Part]) -> Plot:
        """A heatmap for each model and ablation, and what reaches the last site."""
        found = changes(parts)
        panels, caption = list(found.panels), found.caption
        if effect_lines(parts, column=-1):
            panels.append(
                Panel("The last site, by depth of the change", partial(_draw_last, parts=parts), False, 330)
            )
            caption += " Last panel: what reaches the last site of each model."
            caption += f" {said}" if (said := level_words(parts)) else ""
        return assembled(id, parts, caption, _takeaway(parts), panels, intervals=True)


def _draw_last(sheet: Sheet, wide: bool, parts: Sequence[Part]) -> None:
    axes = sheet.subplots()
    lines = effect_lines(parts, column=-1)
    levels = level_of(*parts)
    axes.set_ylim(*limits(lines, [one.value for one in levels]))
    depth_axis(axes, "Depth of the changed site")
    axes.set_ylabel(fold(parts[0].name, 34))
    draw_lines(axes, lines)
    label_lines(sheet, axes, lines, direct=wide, levels=levels)


def _at_last(values: Array) -> Array:
    """The numbers of the last site, `[..., condition]`."""
    return np.asarray(values[..., -1])


def _takeaway(parts: Sequence[Part]) -> str:
    """How far the last site moves under each model's conditions."""
    said, lowest = [], []
    for part in parts:
        values = np.asarray(part.array.values[:, -1], np.float64)
        known = [i for i in part.ablated if np.isfinite(values[i])]
        if not known:
            continue
        low, high = min(known, key=lambda i: values[i]), max(known, key=lambda i: values[i])
        lowest.append(
            (float(values[low]), f"{at(part, low, -1)}, with {part.condition(low)} in {part.model}")
        )
        last = part.names()[-1]
        lower = among(part, known, low, _at_last, "low", lowest=True)
        higher = among(part, known, high, _at_last, "high")
        said.append(
            f"{part.label}, at {last}: lowest {at(part, low, -1)} with {part.condition(low)}{lower}; "
            f"highest {at(part, high, -1)} with {part.condition(high)}{higher}."
        )
    if not lowest:
        return NOTHING
    lead = f"{sentence(parts[0].name)}, at the last site, is lowest at {min(lowest)[1]}."
    return "\n".join([lead, *said]) if len(said) > 1 else said[0]
