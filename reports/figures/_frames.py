"""Frames: axes of one size in all panels that stand together, with room beside them for the longest of their labels.

Text is measured with the font that draws it. Does not own what stands inside a frame.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from math import cos, radians, sin

from matplotlib.axes import Axes
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextToPath

from vitdsl.reports.canvas import Sheet
from vitdsl.reports.theme import DRAWN_WITH, FONT_PX

TICK = FONT_PX - 1
"""Size of the letters at ticks, in CSS pixels."""
TURN = 55.0
"""How far names that have no room side by side are turned."""
GAP = 8
"""Between ticks and axes, and around all."""


@cache
def length(text: str, size: float = TICK) -> float:
    """How wide the widest line of a text is, in CSS pixels."""
    font = FontProperties(family=[DRAWN_WITH], size=size)
    measure = TextToPath().get_text_width_height_descent
    return max(float(measure(line, font, False)[0]) for line in text.split("\n"))


@dataclass(frozen=True)
class Side:
    """What stands along one side: where the labels are (as shares of the side), the labels, and words for all."""

    at: tuple[float, ...]
    labels: tuple[str, ...]
    words: str = ""

    @property
    def longest(self) -> float:
        """Width of the longest label."""
        return max(map(length, self.labels), default=0.0)

    @property
    def lines(self) -> int:
        """Lines of the tallest label."""
        return max((label.count("\n") + 1 for label in self.labels), default=0)


@dataclass(frozen=True)
class Frame:
    """Room around the axes in CSS pixels."""

    left: float
    below: float
    above: float
    right: float

    @property
    def beside(self) -> float:
        """Room to the left and the right."""
        return self.left + self.right

    @property
    def outside(self) -> float:
        """Room above and below."""
        return self.above + self.below

    def axes(self, sheet: Sheet) -> Axes:
        """The axes in their place on a sheet of any size."""
        axes = sheet.add_subplot()
        width, height = float(sheet.bbox.width), float(sheet.bbox.height)
        inside = (width - self.beside) / width, (height - self.outside) / height
        axes.set_position((self.left / width, self.below / height, *inside))
        return axes


def frame_of(sides: Iterable[tuple[Side, Side]], width: float, *, above: float = 10) -> Frame:
    """A frame that has room for the labels of each panel.

    Args:
        sides: For each panel what stands below its axes, and to the left of them.
        width: Of a panel.
        above: Room above.
    """
    pairs = list(sides)
    below, beside = ([pair[i] for pair in pairs] for i in (0, 1))
    left = GAP + max(side.longest for side in beside) + _words(beside, 1) + GAP
    inside = width - left - GAP
    deep = 0.0
    for side in below:
        room = side.lines * TICK * 1.2
        if _crowded(side, inside):
            room = side.longest * sin(radians(TURN)) + room * cos(radians(TURN))
            left = max(left, GAP + side.longest * cos(radians(TURN)) - inside * min(side.at))
        deep = max(deep, room)
    return Frame(left, GAP + deep + _words(below, 1) + GAP, above, GAP + 4)


def _words(sides: Sequence[Side], lines: int) -> float:
    return lines * FONT_PX * 1.35 if any(side.words for side in sides) else 0.0


def _crowded(side: Side, width: float) -> bool:
    """Whether neighbours among the labels would touch."""
    pairs = zip(side.at, side.at[1:], side.labels, side.labels[1:], strict=False)
    return any(
        (there - here) * width < (length(one) + length(other)) / 2 + 6 for here, there, one, other in pairs
    )


def label_side(axes: Axes, side: Side, which: str) -> None:
    """Write the labels of one side of axes."""
    low, high = axes.get_xlim() if which == "x" else axes.get_ylim()
    at = [low + share * (high - low) for share in side.at]
    if which == "x":
        axes.set_xticks(at, side.labels)
        for label in axes.get_xticklabels() if _crowded(side, _width(axes)) else ():
            label.set(rotation=TURN, ha="right", rotation_mode="anchor")
        axes.set_xlabel(side.words)
    else:
        axes.set_yticks(at, side.labels)
        axes.set_ylabel(side.words)


def _width(axes: Axes) -> float:
    """Width of axes in CSS pixels."""
    figure = axes.get_figure(root=False)
    assert figure is not None
    return float(axes.get_position().width * figure.bbox.width)
