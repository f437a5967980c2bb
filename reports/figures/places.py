"""Places: a map over the patch grid for each of some tokens, with the token's own place marked."""

from collections.abc import Sequence
from functools import partial
from math import ceil

import numpy as np
from matplotlib.patches import Rectangle

from vitdsl.reports.canvas import Draw, Sheet
from vitdsl.reports.figures._base import Figure, Panel, Plot, assembled
from vitdsl.reports.figures._maps import MapScale, bar_of_maps, draw_map
from vitdsl.reports.figures._scales import Scale
from vitdsl.reports.labels import number, plural, sentence
from vitdsl.reports.parts import Array, Part
from vitdsl.reports.sentences import derived, lead_and_details, means
from vitdsl.reports.theme import CELL

MOST_SIDE = 4
"""So many rows and columns of maps at most stand in one panel."""
MOST_SITES = 3


class Places(Figure):
    """Tokens, named by their row and column, with rows and columns of the grid; perhaps of several sites."""

    def fits(self, part: Part) -> bool:
        """Tokens, rows and columns, and sites or none."""
        return part.dims - {"site"} == {"token", "row", "col"} and all(map(_place, part.names("token")))

    def plot(self, id: str, parts: Sequence[Part]) -> Plot:
        """One panel for each group and site, or the first, the middle and the last site; all on one scale."""
        shown = [(part, site) for part in parts for site in _sites(part)]
        scale = _scale(shown)
        panels = [bar_of_maps(parts[0], scale, [_values(part, site) for part, site in shown])]
        for part, site in shown:
            draw: Draw = partial(_draw_places, part=part, site=site, scale=scale)
            panels.append(Panel(_label(part, site), draw, height=_height(part)))
        caption = (
            "One map for each token, over the patches of the image; the frame marks the token's own place."
        )
        caption += " One colour scale for all maps."
        most = max(part.array.sizes["token"] for part in parts)
        if any(len(_drawn(part)) < part.array.sizes["token"] for part in parts):
            caption += f" Some of up to {plural(most, 'token')} are drawn, evenly spaced; the data has all."
        if any(len(_sites(part)) < part.array.sizes.get("site", 1) for part in parts):
            caption += f" {MOST_SITES} sites of a model are drawn; the data has all."
        return assembled(id, parts, caption, _takeaway(shown), panels)


def _place(name: str) -> tuple[int, ...]:
    """Row and column of a token from its name `2,3`; empty where it is no such name."""
    words = name.split(",")
    return tuple(int(word) for word in words) if len(words) == 2 and all(w.isdigit() for w in words) else ()


def _sites(part: Part) -> list[int]:
    """Which sites are drawn."""
    count = part.array.sizes.get("site", 1)
    return [round(float(i)) for i in np.linspace(0, count - 1, min(count, MOST_SITES))]


def _label(part: Part, site: int) -> str:
    return f"{part.label}, {part.names()[site]}" if "site" in part.dims else part.label


def _values(part: Part, site: int) -> Array:
    """The maps of the first condition at one site, `[token, row, col]`."""
    array = part.array.isel(condition=0)
    array = array.isel(site=site) if "site" in part.dims else array
    return np.asarray(array.transpose("token", "row", "col").values, np.float64)


def _scale(shown: Sequence[tuple[Part, int]]) -> MapScale:
    """One scale for all maps: their range, its ends rounded outwards, within what the value can be."""
    values = np.concatenate([_values(part, site).ravel() for part, site in shown])
    values = values[np.isfinite(values)]
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    step = 10.0 ** np.floor(np.log10(max(high - low, 1e-9) / 2))
    down, up = float(np.floor(low / step) * step), float(np.ceil(high / step) * step)
    top = shown[0][0].attr("valid_max", None)
    up = min(up, float(top)) if top is not None and high <= float(top) else up
    return MapScale(Scale(down, up if up > down else down + 1))


def _sides(part: Part) -> tuple[list[int], list[int]] | None:
    """Rows and columns of the tokens that are read, where these are a grid."""
    places = [_place(name) for name in part.names("token")]
    rows, cols = (sorted({place[axis] for place in places}) for axis in (0, 1))
    return (rows, cols) if len(rows) * len(cols) == len(places) else None


def _drawn(part: Part) -> list[int]:
    """Which tokens are drawn: of a grid some rows and columns, else the first."""
    sides, names = _sides(part), part.names("token")
    if sides is None:
        return list(range(min(len(names), MOST_SIDE**2)))
    rows, cols = (
        [side[round(float(i))] for i in np.linspace(0, len(side) - 1, min(len(side), MOST_SIDE))]
        for side in sides
    )
    return [names.index(f"{row},{col}") for row in rows for col in cols]


def _shape(part: Part) -> tuple[int, int]:
    """How many maps stand one below the other, and side by side."""
    sides, count = _sides(part), len(_drawn(part))
    columns = min(len(sides[1]), MOST_SIDE) if sides else min(count, MOST_SIDE, ceil(count**0.5))
    return ceil(count / columns), columns


def _height(part: Part) -> int:
    lines, columns = _shape(part)
    side = (CELL - 30) / columns * part.array.sizes["row"] / part.array.sizes["col"]
    return round(10 + lines * (side + 16))


def _draw_places(sheet: Sheet, wide: bool, part: Part, site: int, scale: MapScale) -> None:
    some, values, names = _drawn(part), _values(part, site), part.names("token")
    lines, columns = _shape(part)
    grid = sheet.add_gridspec(lines, columns)
    rows, cols = values.shape[1:]
    for spot, i in enumerate(some):
        axes = sheet.add_subplot(grid[spot // columns, spot % columns])
        draw_map(axes, values[i], (cols, rows), scale)
        row, col = _place(names[i])
        for colour, width in (("#000000", 3.2), ("#ffffff", 1.4)):
            axes.add_patch(
                Rectangle((col, row), 1, 1, fill=False, edgecolor=colour, linewidth=width, clip_on=False)
            )
        axes.set_xticks([])
        axes.set_yticks([])
        axes.set_title(f"({row}, {col})", fontsize=10, pad=3)
        own = number(float(values[i, row, col]))
        sheet.points.append((axes, cols / 2, rows / 2, f"token ({row}, {col}): {own} at its own place"))


def _means(part: Part, site: int) -> list[str]:
    """Means over tokens with their intervals: at the own place, at its eight neighbours, and elsewhere."""
    places = np.array([_place(name) for name in part.names("token")])
    spots = np.moveaxis(np.indices(_values(part, site).shape[1:]), 0, -1)
    away = np.abs(spots[None] - places[:, None, None]).max(-1)
    dims = ("site", "token", "row", "col") if "site" in part.dims else ("token", "row", "col")

    def read(values: Array, kept: np.ndarray) -> Array:
        maps = values[..., 0, site, :, :, :] if "site" in part.dims else values[..., 0, :, :, :]
        return means(maps[..., kept], -1)

    return [derived(part, partial(read, kept=kept), dims) for kept in (away == 0, away == 1, away > 1)]


def _takeaway(shown: Sequence[tuple[Part, int]]) -> str:
    """How far the own place stands out."""
    said = []
    for part, site in shown:
        own, beside, away = _means(part, site)
        said.append(
            f"{_label(part, site)}: {own} at a token's own place, {beside} beside it, {away} elsewhere."
        )
    name = sentence(shown[0][0].name)
    return lead_and_details(f"{name}, mean over tokens.", said)
