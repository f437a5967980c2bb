"""Tiles: a small map for each condition, all in one panel under the scale of the intact model's map."""

from collections.abc import Sequence
from functools import partial
from math import ceil

import numpy as np

from vitdsl.reports.canvas import Sheet
from vitdsl.reports.figures._base import Panel
from vitdsl.reports.figures._conditions import by_ablation, row_names
from vitdsl.reports.figures._heatmap import show
from vitdsl.reports.figures._scales import Scale
from vitdsl.reports.labels import fold, number
from vitdsl.reports.parts import Array, Part
from vitdsl.reports.sentences import mean
from vitdsl.reports.theme import FONT_PX, NARROW, WIDE

MOST_TILES = 32
COLUMNS, NARROW_COLUMNS = 8, 4
LETTER, LINE, GAP = 5.8, 13, 10
"""In CSS pixels: width of a letter above a tile, height of a line of them, room between tiles."""


def tiles(part: Part, values: Array, scale: Scale) -> Panel:
    """The panel: of `values[condition, row, column]` those of the conditions that change something."""
    rows = [i for some in by_ablation(part).values() for i in some if np.isfinite(values[i]).any()]
    kinds = {str(part.of_condition("ablation", "")[i]) for i in rows}
    names, _ = row_names(part, rows, len(kinds) > 1)
    draw = partial(_draw, part=part, rows=rows, names=names, values=values, scale=scale)
    wide, narrow = (_height(len(rows), names, values.shape[1:], wide) for wide in (True, False))
    title = ", ".join(
        filter(None, (part.label, *(part.called.ablation(kind) for kind in kinds if len(kinds) == 1)))
    )
    return Panel(f"{title}: one map for each condition", draw, False, wide, narrow)


def _columns(wide: bool) -> int:
    return COLUMNS if wide else NARROW_COLUMNS


def _side(wide: bool) -> float:
    columns = _columns(wide)
    return ((WIDE if wide else NARROW) - 2 * GAP - (columns - 1) * GAP) / columns


def _titles(names: Sequence[str], wide: bool) -> list[str]:
    return [fold(name, max(8, int(_side(wide) / LETTER))) for name in names]


def _height(count: int, names: Sequence[str], shape: tuple[int, ...], wide: bool) -> int:
    lines = max(title.count("\n") + 1 for title in _titles(names, wide))
    side = _side(wide) * shape[0] / shape[1]
    return round(ceil(count / _columns(wide)) * (side + LINE * lines + GAP) + GAP)


def _draw(
    sheet: Sheet,
    wide: bool,
    part: Part,
    rows: Sequence[int],
    names: Sequence[str],
    values: Array,
    scale: Scale,
) -> None:
    columns = _columns(wide)
    grid = sheet.add_gridspec(ceil(len(rows) / columns), columns)
    for spot, (i, title) in enumerate(zip(rows, _titles(names, wide), strict=True)):
        axes = sheet.add_subplot(grid[spot // columns, spot % columns])
        show(axes, values[i], scale, written=False)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.set_title(title, fontsize=FONT_PX - 2, pad=3)
        middle = [(size - 1) / 2 for size in reversed(values[i].shape)]
        sheet.points.append((axes, *middle, f"{part.condition(i)}: mean {number(mean(values[i]))}"))
