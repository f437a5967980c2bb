"""Views: what the template is given of a figure and of a section, with every figure drawn.

Does not own which figures there are (`sections`), or the page around them (`render`).
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from markupsafe import Markup

from vitdsl.reports.canvas import Call, Drawing, draw_svg, inline
from vitdsl.reports.figures._base import Panel, Plot
from vitdsl.reports.labels import plural, slug
from vitdsl.reports.sections import Section
from vitdsl.reports.strips import Strip, strips
from vitdsl.reports.tables import EMBEDDED, Table, records, to_csv, to_table
from vitdsl.runtime.results.csvs import is_table
from vitdsl.runtime.results.folder import Run

FIGURES = "figures"
Make = Callable[[Sequence[Call]], list[Drawing]]
"""Makes drawings, in their order."""


def made_here(calls: Sequence[Call]) -> list[Drawing]:
    """Drawings made one after the other."""
    return [call() for call in calls]


@dataclass(frozen=True)
class PanelView:
    """A drawn panel: its title and one or two renderings (class name, markup)."""

    title: str
    drawings: tuple[tuple[str, Markup], ...]


@dataclass(frozen=True)
class Group:
    """Panels that stand together: cells in a grid, or one panel over the whole width; above them their colour scale."""

    bar: PanelView | None = None
    cells: tuple[PanelView, ...] = ()
    whole: PanelView | None = None


@dataclass(frozen=True)
class PlotView:
    """A figure of the page; `number` counts from 1, and 0 is none."""

    id: str
    title: str
    caption: str
    takeaway: str
    groups: tuple[Group, ...]
    table: Table
    csv: str
    open: bool
    metrics: tuple[str, ...] = ()
    value: str = ""
    number: int = 0

    @property
    def drawn(self) -> int:
        """How many panels it has."""
        return sum(len(group.cells) + (group.whole is not None) for group in self.groups)


@dataclass(frozen=True)
class SectionView:
    """A section: its main figure, those that stand beside it, and the folded ones of its other values.

    The figure that opens the page stands there, and not in its section.
    """

    id: str
    title: str
    what: str
    main: PlotView | None
    beside: tuple[PlotView, ...]
    more: tuple[PlotView, ...]
    undefined: tuple[str, ...]
    strips: tuple[Strip, ...] = ()

    @property
    def plots(self) -> tuple[PlotView, ...]:
        """All its figures, in order."""
        return (*([self.main] if self.main else []), *self.beside, *self.more)


def section_view(run: Run, section: Section, drawn: list[PlotView]) -> SectionView:
    """A section with its figures as drawn, the one of its main value first; what pictures show is listed folded."""
    known = run.manifest.metrics
    what = dict.fromkeys(known[name].what for name in section.metrics if name in known)
    undefined = dict.fromkeys(reason for part in section.parts for reason in part.undefined())
    pictured = strips(run, next(iter(section.values.values())))
    beside = [plot for plot in drawn[1:] if plot.open and not pictured]
    return SectionView(
        f"s-{slug('-'.join(section.metrics))}",
        section.title,
        " ".join(filter(None, what)),
        drawn[0],
        tuple(beside),
        tuple(plot for plot in drawn[1:] if plot not in beside),
        tuple(undefined),
        pictured,
    )


def plot_views(
    plots: Sequence[Plot],
    most: int,
    beside: dict[str, str],
    marks: dict[str, Any],
    make: Make = made_here,
) -> list[PlotView]:
    """Figures drawn, within `style()`.

    Args:
        plots: The figures.
        most: How many rows the table of each may have.
        beside: Receives the stand-alone figures and tables by file name.
        marks: Receives what the page shows under the pointer.
        make: Makes the drawings.
    """
    calls = [
        partial(draw_svg, panel.draw, width, height, name == "wide")
        for plot in plots
        for panel in plot.panels
        for name, width, height in panel.sizes
    ]
    drawings = iter(make(calls))
    return [_plot_view(plot, drawings, most, beside, marks) for plot in plots]


def _plot_view(
    plot: Plot, drawings: Iterator[Drawing], most: int, beside: dict[str, str], marks: dict[str, Any]
) -> PlotView:
    groups: list[Group] = []
    several = len(plot.shown) > 1
    for number_, panel in enumerate(plot.panels):
        renderings = []
        for name, _, _ in panel.sizes:
            drawing = next(drawings)
            prefix = f"{plot.id}-{number_}-{name}"
            if not panel.bar:
                marks[prefix] = drawing.marks
            alt = plot.takeaway.replace("\n", " ")
            alt = f"{panel.title}. {alt}" if several else alt
            alt = "Colour scale of the panels below." if panel.bar else alt
            renderings.append((name, inline(drawing.svg, prefix, alt, marked=not panel.bar)))
            if name != "narrow":
                suffix = f"-{number_ + 1}" if len(plot.panels) > 1 else ""
                beside[f"{plot.id}{suffix}.svg"] = drawing.svg
        _gather(groups, panel, PanelView(panel.title, tuple(renderings)))
    rows = list(records([part for part in plot.parts if is_table(part.dataset, part.value)]))
    text = to_csv(rows)
    if rows:
        beside[f"{plot.id}.csv"] = text
    caption = plot.caption
    if len(rows) > EMBEDDED:
        text = to_csv(rows[:EMBEDDED])
        caption += (
            f" The CSV in this page has the first {EMBEDDED:,} of {plural(len(rows), 'row')};"
            f" `{FIGURES}/{plot.id}.csv` in the run folder has all."
        )
    return PlotView(
        plot.id,
        plot.title,
        caption,
        plot.takeaway,
        tuple(groups),
        to_table(rows, most),
        text,
        plot.open,
        tuple(dict.fromkeys(part.metric for part in plot.parts)),
        plot.parts[0].value,
    )


def _gather(groups: list[Group], panel: Panel, view: PanelView) -> None:
    """Put a panel where it stands: with the cells before it, under the scale before it, or alone."""
    last = groups[-1] if groups else None
    open_ = last is not None and last.whole is None
    if panel.bar or last is None or not (open_ and (panel.cell or not last.cells)):
        last = Group(view) if panel.bar else Group(None, (view,)) if panel.cell else Group(None, (), view)
        groups.append(last)
    elif panel.cell:
        groups[-1] = replace(last, cells=(*last.cells, view))
    else:
        groups[-1] = replace(last, whole=view)


def opened(
    views: list[SectionView], first: tuple[str, str] | None
) -> tuple[PlotView | None, list[SectionView]]:
    """The figure that opens the page, and the sections without it; figures are numbered as they stand.

    Args:
        views: All sections.
        first: Metric and value that the figure shows, the value empty for any; None for the first figure of all.
    """
    every = [plot for view in views for plot in view.plots if plot.drawn]
    metric, value = first or ("", "")
    fitting = [plot for plot in every if not metric or metric in plot.metrics]
    front = next((plot for plot in fitting if plot.value == value), next(iter(fitting), None))
    count = iter(range(1 if front is None else 2, sys.maxsize))
    left = []
    for view in views:
        numbered = {
            plot.id: replace(plot, number=next(count) if plot.drawn else 0)
            for plot in view.plots
            if front is None or plot.id != front.id
        }

        def of(plots: tuple[PlotView, ...], numbered: dict[str, PlotView] = numbered) -> tuple[PlotView, ...]:
            return tuple(numbered[plot.id] for plot in plots if plot.id in numbered)

        main = numbered.get(view.main.id) if view.main else None
        left.append(replace(view, main=main, beside=of(view.beside), more=of(view.more)))
    return front and replace(front, number=1), left
