"""What a figure is, and which figures there are: found by folder scan.

A figure is one file in this folder, named as the figure, holding one class that derives from `Figure`. The
class says which parts it fits, how they are drawn, and what the caption and the takeaway say. Of the figures
that fit a part, the one with the lowest `order` draws it.

Does not own: what a part is (`parts`), which parts stand together (`sections`), how a drawing becomes SVG
(`canvas`).
"""

import importlib
import inspect
import pkgutil
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, replace
from functools import cache
from typing import ClassVar

import numpy as np

from vitdsl.reports.canvas import Draw
from vitdsl.reports.labels import number, sentence
from vitdsl.reports.parts import Part
from vitdsl.reports.theme import CELL, NARROW, WIDE
from vitdsl.runtime.results.csvs import is_table
from vitdsl.runtime.results.trainings import width_over_images

FIGURES = "vitdsl.reports.figures"
INTERVALS = "Bars and bands are 95 % intervals over images."
MOST_PANELS = 8


@dataclass(frozen=True)
class Panel:
    """One drawing. A `cell` stands in a grid at one size; others are drawn for wide pages and for phones.

    A `bar` is no panel of its own: it shows the colour scale of those that follow.
    """

    title: str
    draw: Draw
    cell: bool = True
    height: int = 400
    narrow_height: int = 330
    _: KW_ONLY
    bar: bool = False

    @property
    def sizes(self) -> tuple[tuple[str, int, int], ...]:
        """Its renderings: name, width and height in CSS pixels."""
        if self.cell:
            return (("cell", CELL, self.height),)
        return (("wide", WIDE, self.height), ("narrow", NARROW, self.narrow_height))


@dataclass(frozen=True)
class Plot:
    """A figure: panels with one caption, one takeaway and one table; without panels, the table alone.

    An `open` one stands below the main figure of its section, and not among the folded values.
    """

    id: str
    title: str
    caption: str
    takeaway: str
    panels: tuple[Panel, ...]
    parts: tuple[Part, ...]
    open: bool = False

    @property
    def shown(self) -> tuple[Panel, ...]:
        """Its panels, without the colour scales above them."""
        return tuple(panel for panel in self.panels if not panel.bar)

    @property
    def size(self) -> int:
        """How many numbers its table has."""
        return sum(part.array.size for part in self.parts if is_table(part.dataset, part.value))


class Figure(ABC):
    """One way to show parts; knows them by their dimensions, never by their metric."""

    order: ClassVar[int] = 10
    """Of the figures that fit, the lowest is taken."""
    draws_conditions: ClassVar[bool] = False
    """Whether it draws every condition; else it is given the intact model, and `_conditions` draws the others."""

    @property
    def name(self) -> str:
        """Its name, which is its file's."""
        return type(self).__module__.rpartition(".")[2]

    @abstractmethod
    def fits(self, part: Part) -> bool:
        """Whether it can show the part."""

    @abstractmethod
    def plot(self, id: str, parts: Sequence[Part]) -> Plot:
        """The parts of one value as panels, caption and takeaway; `assembled` puts these together.

        Args:
            id: What the page calls it.
            parts: Parts that it fits; those with defined numbers, if any has such.
        """

    def beside(self, part: Part) -> str:
        """What the parts of one section have in common: by default that this figure shows them."""
        return self.name

    def whose(self, part: Part) -> str:
        """The model that a part is of; of two that are compared, both."""
        return part.model

    def calls(self, part: Part) -> tuple[str, ...]:
        """What a part may be called beside others, the shortest first; empty where it has no such name."""
        model, title = self.whose(part), part.title
        data = str(part.dataset.coords["data"].item()) if "data" in part.dataset.coords else ""
        named = f"{model}, {part.metric}"
        return (model, f"{model}, {title}" if title else "", named, f"{named}, {data}" if data else named)

    def heading(self, parts: Sequence[Part]) -> str:
        """The heading of a section to which the study gives none."""
        return parts[0].name

    def findings(self, parts: Sequence[Part]) -> list[str]:
        """Sentences that are worth the page's head."""
        return []


def assembled(
    id: str,
    parts: Sequence[Part],
    caption: str,
    takeaway: str,
    panels: Sequence[Panel] = (),
    *,
    intervals: bool = False,
) -> Plot:
    """A plot from what a figure found out: no more panels than a page takes, none where nothing is defined.

    Args:
        id: What the page calls it.
        parts: What it shows.
        caption: How to read it.
        takeaway: What it shows, from its numbers.
        panels: The drawings.
        intervals: Whether a panel draws intervals, so that the caption says what they are.
    """
    panels = panels if any(part.defined for part in parts) else ()
    count = sum(not panel.bar for panel in panels)
    if count > MOST_PANELS:
        caption += f" {MOST_PANELS} of {count} panels are drawn; the data has all."
        bars = sum(panel.bar for panel in panels[:MOST_PANELS])
        panels = panels[: MOST_PANELS + bars]
    if intervals and panels and any(np.isfinite(part.bounds[0].values).any() for part in parts):
        caption += f" {_intervals(parts)}"
    return Plot(id, sentence(parts[0].name), caption, takeaway, tuple(panels), tuple(parts))


def _intervals(parts: Sequence[Part]) -> str:
    """What the intervals of a figure are over."""
    counts = {int(part.dataset.attrs.get("trainings", 1)) for part in parts}
    if counts == {1}:
        return INTERVALS
    widths = [
        width_over_images(part.dataset, part.value) for part in parts if "trainings" in part.dataset.attrs
    ]
    known = [width for width in widths if np.isfinite(width)]
    said = f"Means over {' or '.join(map(str, sorted(counts)))} trainings; bars and bands are 95 % intervals over "
    said += "trainings and images" + (
        f", of which images alone would make {number(float(np.median(known)))} of the width."
        if known
        else "."
    )
    return said


@cache
def figures(package: str = FIGURES) -> tuple[Figure, ...]:
    """Every figure of a folder, those that are asked first in front.

    Args:
        package: The import name of the folder to scan.

    Raises:
        RuntimeError: A file does not hold one figure.
    """
    found: list[Figure] = []
    for info in pkgutil.iter_modules(importlib.import_module(package).__path__):
        if info.name.startswith("_"):
            continue
        module = importlib.import_module(f"{package}.{info.name}")
        here = [
            kind
            for _, kind in inspect.getmembers(module, inspect.isclass)
            if issubclass(kind, Figure)
            and kind.__module__ == module.__name__
            and not inspect.isabstract(kind)
        ]
        if len(here) != 1:
            raise RuntimeError(
                f"{module.__file__} holds {len(here) or 'no'} figures; a figure's file holds one"
            )
        found.append(here[0]())
    return tuple(sorted(found, key=lambda figure: (figure.order, figure.name)))


def figure_of(part: Part) -> Figure:
    """The figure that shows a part; the last one, `table`, fits all."""
    return next(figure for figure in figures() if figure.fits(part))


def told_apart(parts: Sequence[Part]) -> tuple[Part, ...]:
    """The parts of one figure, no two called alike: those that would be take their next name."""
    ways = [figure_of(part).calls(part) for part in parts]
    labels = [next(filter(None, way)) for way in ways]
    for step in range(1, max(map(len, ways))):
        counts = Counter(labels)
        labels = [
            way[step] if counts[label] > 1 and step < len(way) and way[step] else label
            for label, way in zip(labels, ways, strict=True)
        ]
    return tuple(replace(part, label=label) for part, label in zip(parts, labels, strict=True))
