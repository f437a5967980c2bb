"""Profile: a value of each site, one line for each group."""

from collections.abc import Sequence
from functools import partial

import numpy as np

from vitdsl.reports.canvas import Draw
from vitdsl.reports.figures._base import Panel, Plot, assembled
from vitdsl.reports.figures._by_depth import APART, alike, draw_by_depth, even, shared_limits
from vitdsl.reports.figures._by_site import BySite
from vitdsl.reports.figures._labels import level_of, level_words
from vitdsl.reports.figures._lines import Line, distinct
from vitdsl.reports.labels import listing, sentence
from vitdsl.reports.parts import Part
from vitdsl.reports.sentences import at, lead_and_details


class Profile(BySite):
    """Sites of the intact model."""

    def fits(self, part: Part) -> bool:
        """One value for each site, whose conditions, if any, are not compared with the intact model already."""
        return super().fits(part) and not (part.ablated and (part.paired or part.relative))

    def plot(self, id: str, parts: Sequence[Part]) -> Plot:
        """All lines on one axis."""
        panels, words = [], ""
        groups = alike([part for part in parts if part.defined])
        for group in groups:
            lines = _lines(group)
            shared = shared_limits(lines, [level.value for level in level_of(*group)])
            draw: Draw = partial(draw_by_depth, parts=group, lines=lines, shared=shared)
            title = listing([part.label for part in group]) if len(groups) > 1 else "By depth"
            panels.append(Panel(title, draw, False, 350))
            words = words or level_words(group)
        caption = f"{sentence(parts[0].name)} of each site, against its depth."
        caption += f" {words}" if words else ""
        same = even(_lines(parts)) if panels else ""
        panels, caption = ([], same) if same else (panels, caption)
        caption += APART if len(groups) > 1 else ""
        return assembled(id, parts, caption, _takeaway(parts), panels, intervals=True)


def _lines(parts: Sequence[Part]) -> list[Line]:
    """One line for each group."""
    lines = [
        Line(
            part.label,
            part.depths(),
            np.asarray(part.array.values[0], np.float64),
            np.asarray(part.bounds[0].values[0], np.float64),
            np.asarray(part.bounds[1].values[0], np.float64),
            part.hue,
            part.hue,
            part.hue,
            names=tuple(part.names()),
        )
        for part in parts
    ]
    return distinct([line for line in lines if np.isfinite(line.y).any()])


def _takeaway(parts: Sequence[Part]) -> str:
    """First, last and largest value of each group."""
    said = []
    for part in parts:
        values = np.asarray(part.array.values[0], np.float64)
        known = np.flatnonzero(np.isfinite(values))
        if len(known):
            names = part.names()
            top = known[values[known].argmax()]
            first, last = (f"{at(part, 0, i)} at {names[i]}" for i in (known[0], known[-1]))
            said.append(f"{part.label}: {first}, {last}; largest {at(part, 0, int(top))} at {names[top]}.")
    return lead_and_details(f"{sentence(parts[0].name)}, first, last and largest.", said)
