"""Maps: a value of each site and pixel of the image, a small map for each site."""

import re
from collections.abc import Sequence
from functools import partial
from math import ceil

import numpy as np

from vitdsl.reports.canvas import Draw, Sheet
from vitdsl.reports.figures._base import Figure, Panel, Plot, assembled
from vitdsl.reports.figures._maps import MapScale, bar_of_maps, draw_map, shared_scale
from vitdsl.reports.labels import listing, number, plural, sentence
from vitdsl.reports.parts import Array, Part
from vitdsl.reports.sentences import lead_and_details
from vitdsl.reports.theme import NARROW, WIDE

MOST_MAPS = 12
AXIS, TITLE = 38, 18
"""Heights in CSS pixels: of the axis below, and of a line over a map."""


class Maps(Figure):
    """Sites with rows and columns of the image."""

    def fits(self, part: Part) -> bool:
        """Sites, rows and columns."""
        return part.dims == {"site", "row", "col"}

    def plot(self, id: str, parts: Sequence[Part]) -> Plot:
        """One panel of small maps for each group, all on one scale."""
        scale = shared_scale([_values(part) for part in parts], parts)
        drawn = [_values(part)[_drawn(part)] for part in parts]
        panels = [bar_of_maps(parts[0], scale, drawn)]
        for part in parts:
            draw: Draw = partial(_draw_maps, part=part, scale=scale)
            panels.append(Panel(part.label, draw, False, _height(part, True), _height(part, False)))
        caption = (
            "One map for each site, over the pixels of the model's input; the first row of pixels above."
        )
        caption += f" One colour scale for all maps{scale.words}."
        most = max(len(part.names()) for part in parts)
        if most > MOST_MAPS:
            caption += f" {MOST_MAPS} of {plural(most, 'site')} are drawn, evenly spaced; the data has all."
        return assembled(id, parts, caption, _takeaway(parts), panels)


def _values(part: Part) -> Array:
    """The maps of the first condition, `[site, row, col]`."""
    return np.asarray(part.array.isel(condition=0).transpose("site", "row", "col").values, np.float64)


def _drawn(part: Part) -> list[int]:
    """Which sites are drawn: all, or some evenly spaced, the first and the last among them."""
    count = part.array.sizes["site"]
    return [round(float(i)) for i in np.linspace(0, count - 1, min(count, MOST_MAPS))]


def _columns(count: int, wide: bool) -> int:
    """How many maps stand side by side."""
    if not wide:
        return min(3, max(2, count))
    return max(4, count) if count <= 6 else ceil(count / 2)


def _letters(columns: int, wide: bool) -> int:
    """How many letters a name may have on one line above a map."""
    return int((WIDE - 60 if wide else NARROW - 44) / columns / 6.6)


def _height(part: Part, wide: bool) -> int:
    """Height of the panel in CSS pixels, from the proportions of the image."""
    some, names = _drawn(part), part.names()
    columns = _columns(len(some), wide)
    lines = max(len(in_lines(names[i], _letters(columns, wide))) for i in some)
    rows, cols = (_extent(part, dim) for dim in ("row", "col"))
    side = ((WIDE - 60 if wide else NARROW - 44) / columns - 12) * rows / cols
    return round(AXIS + ceil(len(some) / columns) * (side + TITLE * lines))


def _extent(part: Part, dim: str) -> float:
    """How many pixels a dimension covers: cells are labelled with their first."""
    first = np.asarray([float(name) for name in part.names(dim)])
    return float(first[-1] - first[0] + (first[1] - first[0] if len(first) > 1 else 1))


def _draw_maps(sheet: Sheet, wide: bool, part: Part, scale: MapScale) -> None:
    some, names, values = _drawn(part), part.names(), _values(part)
    columns = _columns(len(some), wide)
    lines = ceil(len(some) / columns)
    grid = sheet.add_gridspec(lines, columns)
    rows, cols = _extent(part, "row"), _extent(part, "col")
    for place, i in enumerate(some):
        line, column = divmod(place, columns)
        axes = sheet.add_subplot(grid[line, column])
        draw_map(axes, values[i], (cols, rows), scale)
        axes.set_title("\n".join(in_lines(names[i], _letters(columns, wide))), fontsize=11, pad=4)
        below = place + columns >= len(some)
        axes.set_xticks([0, cols], ["0", f"{cols:.0f} px"] if below else ["", ""])
        axes.set_yticks([0, rows], ["0", f"{rows:.0f}"] if column == 0 else ["", ""])
        largest = float(np.nanmax(values[i])) if np.isfinite(values[i]).any() else float("nan")
        sheet.points.append((axes, cols / 2, rows / 2, f"{names[i]}: largest {number(largest)}"))


def in_lines(name: str, letters: int) -> list[str]:
    """A site's name in lines of at most so many letters, broken after dots and underscores where possible."""
    lines = [""]
    for part in re.split(r"(?<=[._])", name):
        if lines[-1] and len(lines[-1]) + len(part) > letters:
            lines.append("")
        lines[-1] += part
    return [line[i : i + letters] for line in lines for i in range(0, len(line), letters)]


def half_of(field: Array) -> float:
    """The smallest share of a map `[row, col]` that holds half of what it sums to."""
    known = np.sort(field[np.isfinite(field)])[::-1]
    if not len(known) or known[-1] < 0 or known[0] <= 0:
        return float("nan")
    reached = np.cumsum(known)
    return float((np.searchsorted(reached, reached[-1] / 2) + 1) / len(known))


def _takeaway(parts: Sequence[Part]) -> str:
    """How much of the image holds half of the value, at the first and the last site, and where it is most."""
    said = []
    for part in parts:
        shares, names = np.array([half_of(field) for field in _values(part)]), part.names()
        known = np.flatnonzero(np.isfinite(shares))
        if len(known):
            ends = dict.fromkeys((known[0], known[-1]))
            words = listing([f"{_percent(shares[i])} at {names[i]}" for i in ends])
            top = known[shares[known].argmax()]
            more = "" if top in ends else f"; most, {_percent(shares[top])}, at {names[top]}"
            said.append(f"{part.label}: {words}{more}.")
    if said:
        return lead_and_details(
            f"{sentence(parts[0].name)}: half of it lies within this share of the image.", said
        )
    for part in parts:
        values = _values(part)[np.isfinite(_values(part))]
        if len(values):
            said.append(f"{part.label}: {number(float(values.min()))} to {number(float(values.max()))}.")
    return lead_and_details(f"{sentence(parts[0].name)}, over all sites and pixels.", said)


def _percent(share: float) -> str:
    return f"{number(100 * share, 2)} %"
