"""Lines against depth on a scale that several panels share, logarithmic where the values ask for it."""

from collections.abc import Sequence

import numpy as np

from vitdsl.reports.canvas import Sheet
from vitdsl.reports.figures._lines import (
    Line,
    depth_axis,
    draw_lines,
    label_lines,
    limits,
    log_axis,
    reference_line,
)
from vitdsl.reports.labels import fold, with_unit
from vitdsl.reports.parts import Part

LOGARITHMIC = 15.0
"""Positive values that span a larger factor than this get a logarithmic axis."""


def draw_by_depth(
    sheet: Sheet,
    wide: bool,
    part: Part,
    lines: Sequence[Line],
    shared: tuple[float, float],
    title: str = "",
) -> None:
    """Lines against depth on a scale that several panels share."""
    axes = sheet.subplots()
    low, high = shared
    level = part.attr("baseline_line", None)
    if logarithmic(lines, shared):
        log_axis(axes, low, high)
    else:
        axes.set_ylim(low, high)
    depth_axis(axes, "Depth" + (f" in {title}" if title else ""))
    axes.set_ylabel(fold(with_unit(part.name, part.units), 36))
    draw_lines(axes, lines)
    if level is not None:
        reference_line(axes, float(level), str(part.attr("baseline_label", "")))
    label_lines(sheet, axes, lines, direct=wide)


def logarithmic(lines: Sequence[Line], shared: tuple[float, float]) -> bool:
    """Whether the shared limits ask for a logarithmic axis: all above 0 and far apart."""
    return shared[0] > 0 and shared[1] / shared[0] > LOGARITHMIC


def shared_limits(lines: Sequence[Line], include: Sequence[float] = ()) -> tuple[float, float]:
    """Limits for all panels; a small positive lower end where a logarithmic axis fits."""
    known = np.concatenate([np.concatenate([line.y, line.low, line.high]) for line in lines])
    known = known[np.isfinite(known)]
    if len(known) and known.min() > 0 and known.max() / known.min() > LOGARITHMIC:
        return float(known.min()) / 1.2, float(known.max()) * 1.2
    low, high = limits(lines, include)
    if low > 0 and high / low > LOGARITHMIC / 5:
        low = 0.0
    return low, high
