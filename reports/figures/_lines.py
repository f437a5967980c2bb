"""Lines over depth with their intervals and labels: what several figures share."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullFormatter

from vitdsl.reports.canvas import Sheet, note_points
from vitdsl.reports.labels import estimate, fold, number, short
from vitdsl.reports.parts import Array
from vitdsl.reports.theme import DASHES, FONT_PX, LIGHT, MARKERS, SERIES

BESIDE, LEGEND = 22, 32
"""Letters in a line of a label: at the right end of a series, and in a legend."""
CROWDED = 26
"""From so many points on, intervals are bands and markers are left out."""


@dataclass(frozen=True)
class Line:
    """One series; NaN breaks it.

    `colour`, `marker` and `dash` count from 0. A `hollow` marker is drawn as its outline.
    """

    label: str
    x: Array
    y: Array
    low: Array
    high: Array
    colour: int = 0
    marker: int = 0
    dash: int = 0
    hollow: bool = False
    names: tuple[str, ...] = ()

    @property
    def look(self) -> tuple[int, int, int, bool]:
        """What tells it from others."""
        return (
            self.colour % len(SERIES),
            self.marker % len(MARKERS),
            self.dash % len(DASHES),
            self.hollow,
        )

    @property
    def hex(self) -> str:
        """Its colour."""
        return LIGHT[SERIES[self.colour % len(SERIES)]]


def distinct(lines: Sequence[Line]) -> list[Line]:
    """The lines, no two with one look: those that would have an earlier one's take the next marker and dash."""
    taken: set[tuple[int, int, int, bool]] = set()
    found = []
    for line in lines:
        steps = (
            replace(line, marker=line.marker + i, dash=line.dash + i + i // len(MARKERS))
            for i in range(len(MARKERS) * len(DASHES))
        )
        one = next((step for step in steps if step.look not in taken), line)
        taken.add(one.look)
        found.append(one)
    return found


def ordered(line: Line) -> Line:
    """The line from left to right."""
    order = np.argsort(line.x, kind="stable")
    names = tuple(line.names[i] for i in order) if line.names else ()
    x, y, low, high = (values[order] for values in (line.x, line.y, line.low, line.high))
    return replace(line, x=x, y=y, low=low, high=high, names=names)


def draw_lines(axes: Axes, lines: Sequence[Line]) -> None:
    """Draw each line with its interval: bars where there is room, a band where there is none."""
    for line in map(ordered, lines):
        crowded = len(line.x) > CROWDED
        _, marker, dash, hollow = line.look
        axes.plot(
            line.x,
            line.y,
            color=line.hex,
            linestyle=DASHES[dash],
            linewidth=1.6,
            marker="" if crowded else MARKERS[marker],
            markersize=5.5,
            markeredgewidth=1.3 if hollow else 0,
            markerfacecolor=LIGHT["paper"] if hollow else line.hex,
            label=fold(line.label, LEGEND),
            zorder=3,
        )
        names = line.names or tuple(f"depth {number(float(x), 2)}" for x in line.x)
        said = [
            f"{name}: {estimate(float(y), float(low), float(high))}"
            for name, y, low, high in zip(names, line.y, line.low, line.high, strict=True)
        ]
        note_points(axes, line.x, line.y, [", ".join(filter(None, (line.label, text))) for text in said])
        if np.isfinite(line.low).any():
            if crowded:
                axes.fill_between(line.x, line.low, line.high, color=line.hex, alpha=0.2, linewidth=0)
            else:
                axes.vlines(line.x, line.low, line.high, color=line.hex, linewidth=1.3, alpha=0.55, zorder=2)


def label_lines(sheet: Sheet, axes: Axes, lines: Sequence[Line], *, direct: bool) -> None:
    """Name the lines: at their right ends where there is room, else in a row above."""
    if not any(line.label for line in lines):
        return
    ends = [(ordered(line), _end(line)) for line in lines]
    if direct and len(lines) <= 6:
        low, high = axes.get_ylim()
        sheet.settle()
        at = np.array(
            [axes.transAxes.inverted().transform(axes.transData.transform((0, y)))[1] for _, y in ends]
        )
        most = max(fold(line.label, BESIDE).count("\n") + 1 for line in lines)
        gap = FONT_PX * 1.35 * most / max(1.0, axes.get_window_extent().height)
        for (line, _), y in zip(ends, _apart(at, gap), strict=True):
            axes.annotate(
                fold(line.label, BESIDE),
                (1, y),
                (8, 0),
                xycoords="axes fraction",
                textcoords="offset points",
                color=line.hex,
                va="center",
                fontweight="bold",
            )
        axes.set_ylim(low, high)
    else:
        longest = max(len(one) for line in lines for one in fold(line.label, LEGEND).split("\n"))
        room = sheet.get_figwidth() * 72
        columns = max(1, min(len(lines), int(room // (longest * FONT_PX * 0.62 + 52))))
        sheet.legend(
            *axes.get_legend_handles_labels(),
            loc="outside upper left",
            ncols=columns,
            handlelength=2.6,
            columnspacing=1.4,
            borderaxespad=0.2,
        )


def _end(line: Line) -> float:
    known = ordered(line).y[np.isfinite(ordered(line).y)]
    return float(known[-1]) if len(known) else 0.0


def _apart(at: Array, gap: float) -> Array:
    """Positions in 0..1 at least `gap` apart, as near to where they were as it takes."""
    order = np.argsort(at, kind="stable")
    spread = np.clip(at[order], 0, 1)
    for _ in range(60):
        for i in range(len(spread) - 1):
            lack = gap - (spread[i + 1] - spread[i])
            if lack > 1e-9:
                spread[i] -= lack / 2
                spread[i + 1] += lack / 2
    if len(spread):
        spread = spread - max(0.0, spread[-1] - 1) + max(0.0, -spread[0])
    result = np.empty_like(spread)
    result[order] = spread
    return result


def limits(lines: Sequence[Line], include: Sequence[float] = ()) -> tuple[float, float]:
    """Ends of an axis that holds the lines, their intervals and the given values, with some air."""
    pieces = [np.asarray(include, np.float64)]
    for line in lines:
        pieces += [line.y, line.low, line.high]
    known = np.concatenate(pieces)
    known = known[np.isfinite(known)]
    if not len(known):
        return 0.0, 1.0
    low, high = float(known.min()), float(known.max())
    air = (high - low) * 0.06 or max(abs(high), 1.0) * 0.06
    return low - air, high + air


def depth_axis(axes: Axes, label: str) -> None:
    """The axis of depth, from the first to the last place in a model."""
    axes.set_xlim(-0.03, 1.03)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1.0], ["0\nfirst", "0.25", "0.5", "0.75", "1\nlast"])
    axes.set_xlabel(label)


def log_axis(axes: Axes, low: float, high: float) -> None:
    """A logarithmic axis of values with labels in plain numbers."""
    axes.set_yscale("log")
    axes.set_ylim(low, high)
    steps = [m * 10.0**e for e in range(-6, 7) for m in ((1, 2, 5) if high / low < 300 else (1,))]
    axes.set_yticks([s for s in steps if low <= s <= high])
    axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: short(v)))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.tick_params(axis="y", which="minor", length=0)


def reference_line(axes: Axes, value: float, label: str) -> Line2D:
    """A level to compare with, named at its right end; the line, for a legend that names it instead."""
    low, high = sorted(axes.get_ylim())
    beyond = not low <= value <= high
    line = axes.axhline(value, color=LIGHT["muted"], linewidth=1.2, linestyle=(0, (4, 3)), zorder=1)
    axes.annotate(
        "" if beyond else label,
        (1, value),
        (-2, 3),
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        ha="right",
        va="bottom",
        color=LIGHT["muted"],
        fontsize=FONT_PX - 1,
    )
    return line
