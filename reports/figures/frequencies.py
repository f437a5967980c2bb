"""Frequencies: a value of each site and spatial frequency, a line for each of some sites."""

from collections.abc import Sequence
from functools import partial

import numpy as np
from matplotlib.ticker import MaxNLocator

from vitdsl.reports.canvas import Draw, Sheet
from vitdsl.reports.figures._base import Figure, Panel, Plot, assembled
from vitdsl.reports.figures._labels import label_lines
from vitdsl.reports.figures._lines import Line, draw_lines, limits
from vitdsl.reports.labels import fold, plural, sentence, with_unit
from vitdsl.reports.parts import Part
from vitdsl.reports.sentences import lead_and_details

MOST_LINES = 6


class Frequencies(Figure):
    """Sites with frequencies."""

    def fits(self, part: Part) -> bool:
        """Sites and frequencies."""
        return part.dims == {"site", "frequency"}

    def plot(self, id: str, parts: Sequence[Part]) -> Plot:
        """One panel for each group, all on one scale."""
        lines = {part.path: _lines(part) for part in parts}
        shared = limits([line for some in lines.values() for line in some])
        panels = []
        for part in parts:
            if lines[part.path]:
                draw: Draw = partial(_draw, part=part, lines=lines[part.path], shared=shared)
                panels.append(Panel(part.label, draw, False, 360, 400))
        caption = f"{sentence(parts[0].name)} at each frequency: cycles over the grid's shorter side."
        most = max(len(part.names()) for part in parts)
        if most > MOST_LINES:
            caption += f" {MOST_LINES} of {plural(most, 'site')} are drawn, evenly spaced; the data has all."
        return assembled(id, parts, caption, _takeaway(parts), panels, intervals=True)


def _lines(part: Part, condition: int = 0) -> list[Line]:
    """One line for each site, or for some evenly spaced, the first and the last among them."""
    values, low, high = (
        array.isel(condition=condition).transpose("site", "frequency").values
        for array in (part.array, *part.bounds)
    )
    names, at = part.names(), np.asarray([float(name) for name in part.names("frequency")])
    some = dict.fromkeys(round(float(i)) for i in np.linspace(0, len(names) - 1, MOST_LINES))
    said = tuple(f"frequency {name}" for name in part.names("frequency"))
    lines = [Line(names[i], at, values[i], low[i], high[i], k, k, k, names=said) for k, i in enumerate(some)]
    return [line for line in lines if np.isfinite(line.y).any()]


def _draw(sheet: Sheet, wide: bool, part: Part, lines: Sequence[Line], shared: tuple[float, float]) -> None:
    axes = sheet.subplots()
    axes.set_ylim(*shared)
    axes.set_xlabel(f"Frequency in {part.model}")
    axes.set_ylabel(fold(with_unit(part.name, part.units), 36))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    draw_lines(axes, lines)
    label_lines(sheet, axes, lines, direct=wide)


def _takeaway(parts: Sequence[Part]) -> str:
    """The last frequency at the first and at the last site."""
    said = []
    for part in parts:
        lines = _lines(part)
        ends = [
            f"{line.said(int(np.flatnonzero(np.isfinite(line.y))[-1]), part.units)} at {line.label}"
            for line in (lines[:1] if len(lines) < 2 else [lines[0], lines[-1]])
        ]
        said += [f"{part.label}: {', '.join(ends)}."] if ends else []
    return lead_and_details(f"{sentence(parts[0].name)}, at the highest frequency.", said)
