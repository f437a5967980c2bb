"""Lines against depth on a scale that several panels share, logarithmic where the values ask for it."""

from collections.abc import Sequence

import numpy as np

from vitdsl.reports.canvas import Sheet
from vitdsl.reports.figures._labels import label_lines, level_of
from vitdsl.reports.figures._lines import (
    Line,
    depth_axis,
    draw_lines,
    limits,
    log_axis,
)
from vitdsl.reports.labels import fold, number, with_unit
from vitdsl.reports.parts import Part

FAR = 100.0
"""Groups of positive values whose medians differ by more than this factor have axes of their own."""
APART = " Axes of their own: the values are more than a hundred times as large as the others."
LOGARITHMIC = 15.0
"""Positive values that span a larger factor than this get a logarithmic axis."""


def draw_by_depth(
    sheet: Sheet,
    wide: bool,
    parts: Sequence[Part],
    lines: Sequence[Line],
    shared: tuple[float, float],
    title: str = "",
) -> None:
    """Lines of some parts against depth on a scale that several panels share."""
    axes = sheet.subplots()
    low, high = shared
    if logarithmic(lines, shared):
        log_axis(axes, low, high)
    else:
        axes.set_ylim(low, high)
    depth_axis(axes, "Depth" + (f" ({title})" if title else ""))
    axes.set_ylabel(fold(with_unit(parts[0].name, parts[0].units), 36))
    draw_lines(axes, lines)
    label_lines(sheet, axes, lines, direct=wide, levels=level_of(*parts))


def alike(parts: Sequence[Part]) -> list[tuple[Part, ...]]:
    """The parts in groups whose typical values share an axis: those of positive values far from others stand apart."""
    known = [(part, part.array.values[np.isfinite(part.array.values)]) for part in parts]
    if not known or any(len(values) == 0 or values.min() <= 0 for _, values in known):
        return [tuple(parts)] if parts else []
    middle = sorted(((float(np.median(values)), i) for i, (_, values) in enumerate(known)))
    groups: list[list[int]] = []
    for (value, i), (before, _) in zip(middle, [middle[0], *middle], strict=False):
        if not groups or value > FAR * before:
            groups.append([])
        groups[-1].append(i)
    return [tuple(parts[i] for i in sorted(group)) for group in sorted(groups, key=min)]


def logarithmic(lines: Sequence[Line], shared: tuple[float, float]) -> bool:
    """Whether the shared limits ask for a logarithmic axis: all above 0 and far apart."""
    return shared[0] > 0 and shared[1] / shared[0] > LOGARITHMIC


def even(lines: Sequence[Line]) -> str:
    """What is said of lines that have one and the same value everywhere, without doubt; empty for others."""
    known = np.concatenate([np.concatenate([line.y, line.low, line.high]) for line in lines])
    known = known[np.isfinite(known)]
    if len(known) == 0 or known.min() != known.max():
        return ""
    return f"It is {number(float(known[0]))} everywhere, and so not drawn."


def shared_limits(lines: Sequence[Line], include: Sequence[float] = ()) -> tuple[float, float]:
    """Limits for all panels; a small positive lower end where a logarithmic axis fits."""
    known = np.concatenate([np.concatenate([line.y, line.low, line.high]) for line in lines])
    known = np.append(known[np.isfinite(known)], include)
    if len(known) and known.min() > 0 and known.max() / known.min() > LOGARITHMIC:
        return float(known.min()) / 1.2, float(known.max()) * 1.2
    low, high = limits(lines, include)
    if low > 0 and high / low > LOGARITHMIC / 5:
        low = 0.0
    return low, high
