"""Lines of few points: none hides another; where they are said to be, they are."""

import re
from typing import Any

import numpy as np
import pytest

from vitdsl.reports.canvas import Drawing, Sheet, draw_svg, style
from vitdsl.reports.figures._lines import ASIDE, Line, depth_axis, draw_lines
from vitdsl.reports.theme import LIGHT, SERIES


def line(number: int, x: list[float], y: list[float]) -> Line:
    here = np.array(y)
    return Line(f"line {number}", np.array(x), here, here - 0.1, here + 0.1, number, number, number)


def drawn(*lines: Line) -> Drawing:
    def draw(sheet: Sheet, wide: bool) -> None:
        axes: Any = sheet.subplots()
        axes.set_ylim(0, 1)
        depth_axis(axes, "Depth")
        draw_lines(axes, lines)

    with style():
        return draw_svg(draw, 860, 350, True)


def asides(found: Drawing, count: int) -> list[tuple[float, float]]:
    """Of each line how far its marker and its bar are from the first point that it says, in CSS pixels."""
    told = {text.partition(",")[0]: x for x, _, text in reversed(found.marks["p"])}
    sides = []
    for number in range(count):
        colour = LIGHT[SERIES[number]]
        marker = re.search(rf'<use[^>]* x="([\d.]+)"[^>]*{colour}', found.svg)
        bar = re.search(rf'<path d="M ([\d.]+) [^"]*"[^>]*{colour}[^>]*stroke-opacity: 0.55', found.svg)
        assert marker and bar
        sides.append(tuple(float(one[1]) - told[f"line {number}"] for one in (marker, bar)))
    return sides  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("lines", "places"),
    [
        ([line(0, [0.5], [0.4]), line(1, [0.5], [0.4])], [-0.5, 0.5]),
        ([line(0, [0.5], [0.4]), line(1, [0.5], [0.4]), line(2, [0.5], [0.41])], [-1, 0, 1]),
        ([line(0, [0.5], [0.4]), line(1, [0.5], [0.6]), line(2, [0.6], [0.4])], [0, 0, 0]),
        ([line(0, [0.5], [0.4]), line(1, [0.2, 0.5, 0.8], [0.1, 0.4, 0.9])], [1, 0]),
        (
            [line(0, [0.5], [0.4]), line(1, [0.5], [0.4]), line(2, [0.2, 0.5, 0.8], [0.1, 0.4, 0.9])],
            [-1, 1, 0],
        ),
        ([line(0, [0.2, 0.5], [0.1, 0.4]), line(1, [0.5], [0.4]), line(2, [0.2], [0.1])], [-1, 0, 1]),
        ([line(0, [0.2, 0.5, 0.8], [0.1, 0.4, 0.9]), line(1, [0.2, 0.5, 0.8], [0.1, 0.4, 0.9])], [0, 0]),
        ([line(0, [0.5, 0.6], [0.4, np.nan]), line(1, [0.5], [0.4])], [-0.5, 0.5]),
    ],
)
def test_points_that_lie_on_one_another_stand_side_by_side_with_their_bars(
    lines: list[Line], places: list[float]
) -> None:
    for (marker, bar), place in zip(asides(drawn(*lines), len(lines)), places, strict=True):
        assert (marker, bar) == pytest.approx((ASIDE * place,) * 2, abs=0.1)
