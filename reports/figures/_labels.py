"""Labels of lines and of levels: at their right ends, apart from one another, else in a legend.

All labels of one pair of axes are placed together, those of the levels that values are compared with among them. One
that had to move away from what it names is tied to it by a thin line.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from vitdsl.reports.canvas import Sheet
from vitdsl.reports.figures._frames import length
from vitdsl.reports.figures._lines import LEGEND, Line, ordered
from vitdsl.reports.labels import fold, listing
from vitdsl.reports.parts import Array, Part
from vitdsl.reports.theme import FONT_PX, LIGHT, SERIES

BESIDE = 22
"""Letters in a line of a label at a right end."""
MOST_BESIDE = 7
"""More labels than this stand in a legend."""
LINE = 1.3
"""Height of a line of letters, over their size."""
MOVED = 5.0
"""A label that stands farther from its end than this, in CSS pixels, is tied to it."""
AWAY = 10
"""Between the axes and a label."""
MOST_NAMED = 3
"""Levels of more models than this have no names beside them."""


@dataclass(frozen=True)
class Level:
    """A value to compare with, drawn across the axes."""

    value: float
    label: str
    colour: str = LIGHT["muted"]
    dash: Any = (0, (4, 3))
    width: float = 1.2


@dataclass(frozen=True)
class _Label:
    """A label, and the point in data that it names; x is None for the right end of the axes."""

    text: str
    colour: str
    bold: bool
    x: float | None
    y: float

    @property
    def height(self) -> float:
        return (self.text.count("\n") + 1) * FONT_PX * LINE


def level_of(*parts: Part) -> list[Level]:
    """The levels that values of some parts are compared with, such as chance; none where they have none.

    Parts that agree have one. Of others each has its own, in its model's colour, and with its name where these are few.
    """
    own = own_levels(parts)
    if not differ(parts):
        return [level for level in own[:1] if level]
    named = len(own) <= MOST_NAMED
    return [
        replace(level, label=f"{part.label}, {level.label}" if named else "")
        for part, level in zip(parts, own, strict=True)
        if level
    ]


def own_levels(parts: Sequence[Part]) -> list[Level | None]:
    """The level of each of some parts, in its model's colour where they differ; None for a part that has none."""
    own, apart = [_own_level(part) for part in parts], differ(parts)
    return [
        replace(level, colour=LIGHT[SERIES[part.hue % len(SERIES)]]) if level and apart else level
        for part, level in zip(parts, own, strict=True)
    ]


def differ(parts: Sequence[Part]) -> bool:
    """Whether some parts are compared with different levels, or only some of them with one."""
    own = map(_own_level, parts)
    return len({level and (round(level.value, 9), level.label) for level in own}) > 1


def level_words(parts: Sequence[Part]) -> str:
    """What a caption says of levels that differ between models; empty where they do not."""
    said = dict.fromkeys(level.label for part in parts if (level := _own_level(part)))
    return f"Dashed levels, each in its model's colour: {listing(list(said))}." if differ(parts) else ""


def _own_level(part: Part) -> Level | None:
    value = part.attr("baseline_line", None)
    return None if value is None else Level(float(value), str(part.attr("baseline_label", "")))


def draw_levels(axes: Axes, levels: Sequence[Level]) -> list[tuple[Line2D, Level]]:
    """Draw the levels that lie within the axes."""
    low, high = sorted(axes.get_ylim())
    return [
        (
            axes.axhline(one.value, color=one.colour, linewidth=one.width, linestyle=one.dash, zorder=1),
            one,
        )
        for one in levels
        if low <= one.value <= high
    ]


def label_lines(
    sheet: Sheet, axes: Axes, lines: Sequence[Line], *, direct: bool, levels: Sequence[Level] = ()
) -> None:
    """Draw levels, and name them and the lines: at their right ends where there is room, else in rows above.

    Args:
        sheet: What the axes are on.
        axes: Whose limits are set.
        lines: As drawn.
        direct: Whether there is room beside the axes.
        levels: What the lines are compared with.
    """
    drawn = draw_levels(axes, levels)
    labels = list(_labels(lines, [level for _, level in drawn]))
    if not labels:
        return
    if direct and len(labels) <= MOST_BESIDE:
        _beside(sheet, axes, labels)
    else:
        _above(sheet, axes, drawn)


def _labels(lines: Sequence[Line], levels: Sequence[Level]) -> Iterator[_Label]:
    for line in map(ordered, lines):
        known = np.flatnonzero(np.isfinite(line.y))
        if line.label and len(known):
            end = (float(line.x[known[-1]]), float(line.y[known[-1]]))
            yield _Label(fold(line.label, BESIDE), line.hex, True, *end)
    for level in levels:
        if level.label:
            yield _Label(fold(level.label, BESIDE), level.colour, False, None, level.value)


def _beside(sheet: Sheet, axes: Axes, labels: Sequence[_Label]) -> None:
    """Labels to the right of the axes."""
    limits = axes.get_xlim(), axes.get_ylim()
    widest = max(length(line, FONT_PX * (1.08 if one.bold else 1)) for one in labels for line in [one.text])
    sheet.settle()
    to_axes = axes.transData + axes.transAxes.inverted()
    box = axes.get_window_extent()
    at = np.array([float(to_axes.transform((limits[0][1], one.y))[1]) for one in labels])
    heights = np.array([one.height for one in labels]) / max(1.0, box.height)
    gap = AWAY / max(1.0, box.width - widest)
    places = apart(at, heights)
    tied = np.abs(places - at) * box.height > MOVED
    gap *= 1.6 if tied.any() else 1
    for one, here, there, moved in zip(labels, at, places, tied, strict=True):
        end = (1.0 if one.x is None else float(to_axes.transform((one.x, one.y))[0]), float(here))
        axes.annotate(
            one.text,
            end if moved else (1, there),
            (1 + gap, there),
            xycoords="axes fraction",
            textcoords="axes fraction",
            color=one.colour,
            va="center",
            fontweight="bold" if one.bold else "normal",
            fontsize=FONT_PX if one.bold else FONT_PX - 1,
            arrowprops=_TIE | {"color": one.colour} if moved else None,
            annotation_clip=False,
        )
    axes.set_xlim(limits[0])
    axes.set_ylim(limits[1])


_TIE = {"arrowstyle": "-", "linewidth": 0.8, "alpha": 0.7, "shrinkA": 1, "shrinkB": 4, "relpos": (0, 0.5)}


def apart(at: Array, heights: Array) -> Array:
    """Middles of labels of these heights, in 0..1, that do not overlap: as near to where they were as it takes."""
    order = np.argsort(at, kind="stable")
    spread, sizes = np.clip(at[order], 0, 1), heights[order]
    gaps = (sizes[1:] + sizes[:-1]) / 2
    for _ in range(60):
        for i, gap in enumerate(gaps):
            lack = gap - (spread[i + 1] - spread[i])
            if lack > 1e-9:
                spread[i] -= lack / 2
                spread[i + 1] += lack / 2
    if len(spread):
        spread = spread - max(0.0, spread[-1] - 1) + max(0.0, -spread[0])
    result = np.empty_like(spread)
    result[order] = spread
    return result


def _above(sheet: Sheet, axes: Axes, drawn: Sequence[tuple[Line2D, Level]]) -> None:
    """A legend above the axes."""
    handles, names = axes.get_legend_handles_labels()
    named = [(handle, level.label) for handle, level in drawn if level.label]
    handles = [*handles, *(handle for handle, _ in named)]
    names = [*names, *(fold(label, LEGEND) for _, label in named)]
    longest = max(len(line) for name in names for line in name.split("\n"))
    room = sheet.get_figwidth() * 72
    columns = max(1, min(len(names), int(room // (longest * FONT_PX * 0.62 + 52))))
    sheet.legend(
        handles,
        names,
        loc="outside upper left",
        ncols=columns,
        handlelength=2.6,
        columnspacing=1.4,
        borderaxespad=0.2,
    )


def label_inside(axes: Axes, level: Level, lines: Sequence[Line]) -> None:
    """Draw a level and name it within the axes, over the quarter of it that the lines leave most room."""
    if not draw_levels(axes, [level]):
        return
    low, high = axes.get_ylim()
    left, right = axes.get_xlim()
    rooms: list[tuple[float, float, bool]] = []
    for above in (True, False):
        for share in (0.98, 0.02):
            near = [
                abs(float(y) - level.value) / (high - low)
                for line in lines
                for x, y in zip(line.x, line.y, strict=True)
                if np.isfinite(y)
                and abs((float(x) - left) / (right - left) - share) < 0.5
                and (y >= level.value) == above
            ]
            edge = ((high - level.value) if above else (level.value - low)) / (high - low)
            rooms.append((min([edge, *near]), share, above))
    _, share, above = max(rooms, key=lambda one: one[0])
    axes.annotate(
        level.label,
        (share, level.value),
        (0, 3 if above else -3),
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        ha="right" if share > 0.5 else "left",
        va="bottom" if above else "top",
        color=level.colour,
        fontsize=FONT_PX - 1,
    )
