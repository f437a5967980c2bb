"""Sections: which parts stand together on the page, and the figures that show them.

A section holds the groups whose metrics share a kind and the dimensions of their values, so that panels which
invite comparison stand side by side on one scale. Does not own how a figure shows them (`figures`).
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from vitdsl.reports.figures._base import Plot, figure_of, told_apart
from vitdsl.reports.figures._conditions import plot_of
from vitdsl.reports.labels import listing, sentence, slug
from vitdsl.reports.names import BASELINE, names_of
from vitdsl.reports.parts import Part
from vitdsl.runtime.results.csvs import values_of
from vitdsl.runtime.results.folder import Run
from vitdsl.runtime.results.trainings import joined


@dataclass(frozen=True)
class Section:
    """Metrics of one kind that one figure shows: `values` by name, each with its parts in display order."""

    title: str
    metrics: tuple[str, ...]
    values: dict[str, tuple[Part, ...]]

    @property
    def parts(self) -> Iterator[Part]:
        """All parts."""
        return (part for parts in self.values.values() for part in parts)


def sections(run: Run, *, each_training: bool = False) -> list[Section]:
    """The run's groups, gathered; in the order of the study, the value to look at first in front.

    Args:
        run: The run.
        each_training: Keep trainings of one model apart that differ in their seeds.
    """
    order = {name: i for i, name in enumerate(run.manifest.metrics)}
    groups = run.groups if each_training else joined(run.groups)
    called = names_of(run.manifest)
    paths = sorted(groups, key=lambda path: order.get(path.partition("/")[0], len(order)))
    gathered: dict[Any, list[Part]] = {}
    for path in paths:
        dataset = groups[path]
        values = values_of(dataset)
        if values:
            first = Part(path, dataset, values[0], called)
            first = replace(first, hue=called.hue(first.ids))
            key = (str(dataset.attrs.get("kind", first.metric)), figure_of(first).beside(first), first.dims)
            gathered.setdefault(key, []).append(first)
    return _distinct([_section(groups) for groups in gathered.values()])


def _distinct(found: list[Section]) -> list[Section]:
    """The sections; those that would be called alike say which metrics they have."""
    counts = Counter(section.title for section in found)
    return [
        replace(section, title=f"{section.title} ({listing(section.metrics)})")
        if counts[section.title] > 1
        else section
        for section in found
    ]


def _section(groups: Sequence[Part]) -> Section:
    values: dict[str, list[Part]] = {}
    for group in groups:
        for value in values_of(group.dataset):
            values.setdefault(value, []).append(group.of(value))
    main = max(values, key=lambda name: _interest(values[name]))
    ordered = {main: tuple(values[main]), **{name: tuple(parts) for name, parts in values.items()}}
    metrics = tuple(dict.fromkeys(part.metric for part in ordered[main]))
    first = ordered[main][0]
    title = (first.title if len(metrics) == 1 else "") or figure_of(first).heading(ordered[main])
    return Section(sentence(title), metrics, ordered)


def _interest(parts: Sequence[Part]) -> int:
    """1 for a difference from the intact model, where conditions are compared; 0 otherwise."""
    zero = [part.intact for part in parts if part.scalar and part.ablated and BASELINE in part.conditions]
    return int(bool(zero) and all(abs(v) < 1e-12 or np.isnan(v) for v in zero))


def plots(section: Section) -> Iterator[Plot]:
    """The figures of a section, the value to look at first in front; no two have one id."""
    taken: set[str] = set()
    kept = {value: parts for value, parts in section.values.items() if any(part.defined for part in parts)}
    left_out = [parts[0].name for value, parts in section.values.items() if value not in kept]
    for value, every in (kept or dict(list(section.values.items())[:1])).items():
        parts = [part for part in every if part.defined] if kept else every
        said = [
            _nowhere(left_out) if not taken else "",
            _not_in([one for one in every if not one.defined] if kept else []),
        ]
        for figure in dict.fromkeys(map(figure_of, parts)):
            same = told_apart([part for part in parts if figure_of(part) is figure])
            plot = plot_of(figure, f"{slug('-'.join(section.metrics))}-{slug(value)}", same)
            plot = replace(plot, caption=" ".join(filter(None, (plot.caption, *said))))
            said = []
            yield replace(plot, id=f"{plot.id}-{figure.name}") if plot.id in taken else plot
            taken.add(plot.id)


def _nowhere(names: Sequence[str]) -> str:
    """What is said of values without any number, once in a section."""
    return f"Nowhere defined here, and so left out: {listing(names)}." if names else ""


def _not_in(parts: Sequence[Part]) -> str:
    """What is said of groups without any number of a value that others have."""
    return f"Not defined for {listing([part.label for part in parts])}." if parts else ""
