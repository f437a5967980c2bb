"""Subsets: a value of each subset of something, such as heads, with each site of y, against what orders the subsets."""

from collections.abc import Sequence
from functools import partial

import numpy as np

from vitdsl.reports.canvas import Draw, Sheet
from vitdsl.reports.figures._base import Figure, Panel, Plot, assembled
from vitdsl.reports.figures._labels import label_lines
from vitdsl.reports.figures._lines import Line, draw_lines, limits
from vitdsl.reports.labels import fold, plural, sentence, with_unit
from vitdsl.reports.parts import Array, Part
from vitdsl.reports.sentences import lead_and_details

MOST_LINES = 6
MOST_SITES = 4


class Subsets(Figure):
    """Sites with subsets and sites of y."""

    def fits(self, part: Part) -> bool:
        """Sites, subsets, sites of y."""
        return part.dims == {"site", "subset", "site_y"}

    def whose(self, part: Part) -> str:
        """The model whose subsets are compared."""
        return part.models[0]

    def plot(self, id: str, parts: Sequence[Part]) -> Plot:
        """One panel for each group and site, a line for each site of y."""
        shown = [(part, site) for part in parts for site in _spread(part.array.sizes["site"], MOST_SITES)]
        lines = {(part.path, site): _lines(part, site) for part, site in shown}
        shared = limits([line for some in lines.values() for line in some])
        panels = []
        for part, site in shown:
            draw: Draw = partial(_draw_subsets, part=part, lines=lines[part.path, site], shared=shared)
            panels.append(Panel(f"{part.label}, {part.names()[site]}", draw, height=380))
        order = _order(parts[0])
        against = f", against {order.name}" if order else ""
        caption = f"One line for each site that is compared with; a point for each subset{against}."
        for dim, most, noun in (("site", MOST_SITES, "site"), ("site_y", MOST_LINES, "line")):
            count = max(part.array.sizes[dim] for part in parts)
            if count > most:
                caption += f" {most} of {plural(count, noun)} are drawn, evenly spaced; the data has all."
        return assembled(id, parts, caption, _takeaway(shown), panels, intervals=True)


def _spread(count: int, most: int) -> list[int]:
    """Some of so many, evenly spaced, the first and the last among them."""
    return [round(float(i)) for i in np.linspace(0, count - 1, min(count, most))]


def _order(part: Part) -> Part | None:
    """The value of the same group that orders the subsets: one for each site and subset."""
    for name, variable in part.dataset.data_vars.items():
        if set(variable.dims) - {"condition"} == {"site", "subset"} and "long_name" in variable.attrs:
            return part.of(str(name))
    return None


def _at(part: Part, site: int) -> Array:
    """Where the subsets of a site stand along the axis."""
    order = _order(part)
    if order is None:
        return np.arange(part.array.sizes["subset"], dtype=np.float64)
    found = order.array.isel(condition=0, site=site).transpose("subset")
    return np.asarray(found.values, np.float64)


def _lines(part: Part, site: int) -> list[Line]:
    """One line for each site of y that is drawn."""
    values, low, high = (
        np.asarray(a.isel(condition=0, site=site).transpose("site_y", "subset").values, np.float64)
        for a in (part.array, *part.bounds)
    )
    x, names = _at(part, site), part.names("site_y")
    subsets = tuple(f"subset {name}" for name in part.names("subset"))
    return [
        Line(names[j], x, values[j], low[j], high[j], look, look, look, names=subsets)
        for look, j in enumerate(_spread(len(names), MOST_LINES))
    ]


def _draw_subsets(
    sheet: Sheet, wide: bool, part: Part, lines: Sequence[Line], shared: tuple[float, float]
) -> None:
    axes = sheet.subplots()
    axes.set_ylim(*shared)
    axes.set_ylabel(fold(with_unit(part.name, part.units), 36))
    order = _order(part)
    axes.set_xlabel(fold(with_unit(order.name, order.units), 44) if order else "subset")
    draw_lines(axes, lines)
    axes.locator_params(axis="x", nbins=6)
    label_lines(sheet, axes, lines, direct=False)


def _takeaway(shown: Sequence[tuple[Part, int]]) -> str:
    """From the first subset to the last, for each site of y."""
    said = []
    for part, site in shown:
        words = []
        for line in _lines(part, site):
            known = np.flatnonzero(np.isfinite(line.y))
            if len(known):
                first, last = (line.said(int(i)) for i in (known[0], known[-1]))
                words.append(f"{line.label} {first} \N{RIGHTWARDS ARROW} {last}")
        if words:
            said.append(f"{part.label}, {part.names()[site]}: {'; '.join(words)}.")
    name = sentence(shown[0][0].name)
    return lead_and_details(f"{name}, first subset \N{RIGHTWARDS ARROW} last subset.", said)
