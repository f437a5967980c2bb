"""Lines over depth with their intervals, and axes for them: what several figures share. Labels are in `_labels`."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import log10

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullFormatter
from matplotlib.transforms import ScaledTranslation

from vitdsl.reports.canvas import note_points
from vitdsl.reports.labels import estimate, fold, number, plain, power_of_ten
from vitdsl.reports.parts import Array
from vitdsl.reports.theme import DASHES, LIGHT, MARKERS, SERIES

DECADES = 300.0
"""An axis whose ends are farther apart than this factor names powers of ten alone."""
LEGEND = 32
"""Letters in a line of a label in a legend."""
NEAR, ASIDE = 5.0, 7.0
"""Points nearer than so many CSS pixels hide each other; lines of few points are drawn so far from one another."""
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

    def said(self, i: int, units: str = "1") -> str:
        """One number with its interval and unit."""
        return estimate(float(self.y[i]), float(self.low[i]), float(self.high[i]), units)

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
    for line, aside in zip(map(ordered, lines), _asides(axes, lines), strict=True):
        crowded = len(line.x) > CROWDED
        moved, sheet = axes.transData, axes.get_figure(root=True)
        if aside and sheet is not None:
            moved = moved + ScaledTranslation(aside / 72, 0, sheet.dpi_scale_trans)
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
            transform=moved,
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
                bars = axes.vlines(
                    line.x, line.low, line.high, color=line.hex, linewidth=1.3, alpha=0.55, zorder=2
                )
                bars.set_transform(moved)


def _asides(axes: Axes, lines: Sequence[Line]) -> list[float]:
    """How far each line is drawn to the right of where it is, in CSS pixels, so that none hides another.

    Lines of one or two points may lie on one another, and one would be seen; longer ones show where they go.
    """
    at = [axes.transData.transform(np.stack([line.x, line.y], 1)) for line in lines]
    short = [0 < np.isfinite(line.y).sum() <= 2 for line in lines]

    def hide(i: int, j: int) -> bool:
        return bool((np.abs(at[i][:, None] - at[j]) < NEAR).all(-1).any())

    groups: list[list[int]] = []
    for i in np.flatnonzero(short).tolist():
        group = next((group for group in groups if any(hide(i, j) for j in group)), None)
        if group is None:
            groups.append(group := [])
        group.append(i)
    found = [0.0] * len(lines)
    for group in groups:
        count = len(group)
        taken = any(hide(i, j) for i in group for j, is_short in enumerate(short) if not is_short)
        beside = [place for place in range(-(count // 2), count - count // 2 + 1) if place]
        middle = [place - (count - 1) / 2 for place in range(count)]
        for i, place in zip(group, beside if taken else middle, strict=True):
            found[i] = ASIDE * place
    return found


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


def depth_axis(axes: Axes, label: str, last: float = 1.0) -> None:
    """The axis of depth, from the first to the last place in a model; what stands there may end beyond."""
    axes.set_xlim(-0.03, max(1.03, last + 0.004))
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1.0], ["0\nfirst", "0.25", "0.5", "0.75", "1\nlast"])
    axes.set_xlabel(label)


def log_axis(axes: Axes, low: float, high: float) -> None:
    """A logarithmic axis of values, with powers of ten where it spans several."""
    axes.set_yscale("log")
    axes.set_ylim(low, high)
    decades = high / low >= DECADES
    steps = [m * 10.0**e for e in range(-15, 16) for m in ((1,) if decades else (1, 2, 5))]
    axes.set_yticks([s for s in steps if low <= s <= high])
    write = (lambda v, _: power_of_ten(round(log10(v)))) if decades else (lambda v, _: plain(v))
    axes.yaxis.set_major_formatter(FuncFormatter(write))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.tick_params(axis="y", which="minor", length=0)
