"""Rows of small pictures under one scale, with names above and beside them: how the figure of attention is laid out.

Does not own which maps and images are drawn, or what is said of them (`attention`).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from vitdsl.reports.canvas import Sheet
from vitdsl.reports.figures._maps import MapScale, draw_map, shared_scale
from vitdsl.reports.figures._scales import Scale
from vitdsl.reports.labels import number
from vitdsl.reports.parts import Array, Part
from vitdsl.reports.theme import FONT_PX, LIGHT, NARROW, WIDE

COLUMNS, NARROW_COLUMNS = 8, 4
"""How many pictures stand side by side at most, on a wide page and on a phone."""
FEWEST = 6
"""On a wide page there is room for so many at least, so that a few are not drawn huge."""
TITLE, LABEL = 22, 64
"""In CSS pixels: height of names, and room for those of rows."""
DECADES = 2.5
"""Powers of ten that a logarithmic scale covers at most, from the largest weight down."""
QUERY = re.compile(r"patch at row (\d+), column (\d+)")


@dataclass(frozen=True)
class Picture:
    """A map `[row, col]` or an image `[row, col, rgb]`, its name above, and its name in full when pointed at."""

    values: Array
    name: str
    said: str


def columns_of(wide: bool) -> int:
    """How many pictures stand side by side at most."""
    return COLUMNS if wide else NARROW_COLUMNS


def some(count: int, most: int) -> list[int]:
    """All of so many, or some evenly spaced, the first and the last among them."""
    return [round(float(i)) for i in np.linspace(0, count - 1, min(count, most))]


def tight_scale(maps: Sequence[Array], parts: Sequence[Part]) -> MapScale:
    """The scale of all maps; where it is logarithmic, from the smallest weight, or not far below, to the largest."""
    scale = shared_scale(maps, parts)
    if not scale.logarithmic:
        return scale
    positive = np.concatenate([one[one > 0] for one in maps])
    high, lowest = float(np.log10(positive.max())), float(np.log10(positive.min()))
    low = max(lowest, high - DECADES)
    zero = any(bool((one == 0).any()) for one in maps)
    return MapScale(Scale(low, high), True, zero or lowest < low)


def height_of(rows: int, columns: int, proportion: float, wide: bool) -> int:
    """Height in CSS pixels of so many rows of pictures, whose height over width is given."""
    side = ((WIDE if wide else NARROW) - LABEL) / (max(columns, FEWEST) if wide else max(columns, 2))
    return round(8 + rows * (side - 8) * proportion + rows * 10 + TITLE)


def draw_pictures(
    sheet: Sheet,
    wide: bool,
    rows: Sequence[Sequence[Picture]],
    names: Sequence[str],
    extent: tuple[float, float],
    part: Part,
    scale: MapScale | None = None,
) -> None:
    """Rows of pictures under one scale; names of the first row's pictures above, those of rows beside.

    Args:
        sheet: Where to draw.
        wide: Whether the page is wide.
        rows: The pictures.
        names: Of the rows.
        extent: Width and height of every picture in pixels of the model's input.
        part: Whose scale and query it is.
        scale: The colours of maps; None for images alone.
    """
    count = max(map(len, rows))
    places = max(count, FEWEST) if wide else max(count, 2)
    grid = sheet.add_gridspec(len(rows), places)
    for i, (row, name) in enumerate(zip(rows, names, strict=True)):
        for j, picture in enumerate(row):
            axes = sheet.add_subplot(grid[i, j])
            _draw(axes, picture, extent, scale)
            if picture.values.ndim == 2:
                _outline_query(axes, part, picture.values, extent)
            axes.set_xticks([])
            axes.set_yticks([])
            if i == 0 or scale is None:
                axes.set_title(picture.name, fontsize=FONT_PX - 1, pad=4)
            if j == 0:
                axes.set_ylabel(name, fontsize=FONT_PX - 1, rotation=0, ha="right", va="center", labelpad=6)
            said = f": largest {largest(picture.values)}" if picture.values.ndim == 2 else ""
            sheet.points.append((axes, extent[0] / 2, extent[1] / 2, f"{picture.said}{said}"))


def _draw(axes: Axes, picture: Picture, extent: tuple[float, float], scale: MapScale | None) -> None:
    if picture.values.ndim == 2:
        assert scale is not None
        draw_map(axes, picture.values, extent, scale)
        return
    axes.grid(False)
    axes.patch.set(facecolor=LIGHT["void"], hatch="////", edgecolor=LIGHT["muted"], linewidth=0)
    if np.isfinite(picture.values).all():
        axes.imshow(
            np.clip(picture.values, 0, 1),
            extent=(0, extent[0], extent[1], 0),
            aspect="equal",
            interpolation="none",
        )
    axes.set_xlim(0, extent[0])
    axes.set_ylim(extent[1], 0)
    axes.set_aspect("equal")
    axes.spines[["top", "right"]].set_visible(True)


def query_of(part: Part) -> str:
    """Whose attention is shown, in words."""
    return ", ".join(part.names("query")) if "query" in part.dataset.coords else ""


def _outline_query(axes: Axes, part: Part, values: Array, extent: tuple[float, float]) -> None:
    """The query's own patch, where the query is one."""
    found = QUERY.fullmatch(query_of(part))
    if found is None:
        return
    high, wide = (size / cells for size, cells in zip(extent[::-1], values.shape, strict=True))
    corner = (int(found[2]) * wide, int(found[1]) * high)
    axes.add_patch(
        Rectangle(corner, wide, high, fill=False, edgecolor=LIGHT["s2"], linewidth=1.6, clip_on=False)
    )


def largest(values: Array) -> str:
    """The largest number of a map, in words."""
    return number(float(np.nanmax(values))) if np.isfinite(values).any() else number(None)
