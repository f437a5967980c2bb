"""Series: a value of each site and of one thing more, such as a region or another model's site: a line for each."""

from collections.abc import Sequence
from functools import partial

import numpy as np

from vitdsl.reports.canvas import Draw
from vitdsl.reports.figures._base import Figure, Panel, Plot, assembled
from vitdsl.reports.figures._by_depth import draw_by_depth, shared_limits
from vitdsl.reports.figures._labels import own_levels
from vitdsl.reports.figures._lines import Line, limits
from vitdsl.reports.labels import plural, sentence
from vitdsl.reports.parts import Part
from vitdsl.reports.sentences import lead_and_details

MOST_LINES = 6


class Series(Figure):
    """Sites with one more dimension that no other figure knows."""

    order = 50

    def fits(self, part: Part) -> bool:
        """Sites and one more dimension."""
        return "site" in part.dims and len(part.dims) == 2

    def plot(self, id: str, parts: Sequence[Part]) -> Plot:
        """One panel for each group, all on one scale."""
        lines = {part.path: _lines(part) for part in parts}
        every = [line for some in lines.values() for line in some]
        panels = []
        if every:
            shared = _limits(parts, every)
            for part in parts:
                draw: Draw = partial(
                    draw_by_depth, parts=[part], lines=lines[part.path], shared=shared, title=part.models[0]
                )
                panels.append(Panel(part.label, draw, height=380))
        caption = (
            f"{sentence(parts[0].name)} of each site, against its depth; a line for each {_word(parts[0])}."
        )
        most = max(part.array.sizes[_other(part)] for part in parts)
        if most > MOST_LINES:
            caption += f" {MOST_LINES} of {plural(most, 'line')} are drawn, evenly spaced; the data has all."
        return assembled(id, parts, caption, _takeaway(parts), panels, intervals=True)


def _limits(parts: Sequence[Part], lines: Sequence[Line]) -> tuple[float, float]:
    """All that the value can be where that has two ends; else what is there, with the levels to compare with."""
    ends = [parts[0].attr(name, None) for name in ("valid_min", "valid_max")]
    if None not in ends:
        return limits(lines, [float(end) for end in ends])
    return shared_limits(lines, [level.value for level in own_levels(parts) if level])


def _other(part: Part) -> str:
    """The dimension beside the sites."""
    return next(iter(part.dims - {"site"}))


def _word(part: Part) -> str:
    other = _other(part)
    return f"site of {part.model_of(other)}" if other == "site_y" else other


def _lines(part: Part) -> list[Line]:
    """One line for each label of the other dimension, or some evenly spaced."""
    other = _other(part)
    values, low, high = (
        np.asarray(a.isel(condition=0).transpose(other, "site").values, np.float64)
        for a in (part.array, *part.bounds)
    )
    names = part.names(other)
    chosen = [round(float(i)) for i in np.linspace(0, len(names) - 1, min(len(names), MOST_LINES))]
    lines = [
        Line(
            f"{other} {names[j]}" if names[j].isdigit() else names[j],
            part.depths(),
            values[j],
            low[j],
            high[j],
            look,
            look,
            look,
            names=tuple(part.names()),
        )
        for look, j in enumerate(chosen)
    ]
    return [line for line in lines if np.isfinite(line.y).any()]


def _takeaway(parts: Sequence[Part]) -> str:
    """From the first site to the last, for each line."""
    said = []
    for part in parts:
        words = []
        for line in _lines(part):
            known = np.flatnonzero(np.isfinite(line.y))
            ends = dict.fromkeys((int(known[0]), int(known[-1])))
            found = " \N{RIGHTWARDS ARROW} ".join(line.said(i) for i in ends)
            words.append(f"{line.label} {found}")
        if words:
            said.append(f"{part.label}: {'; '.join(words)}.")
    return lead_and_details(f"{sentence(parts[0].name)}, first site \N{RIGHTWARDS ARROW} last site.", said)
