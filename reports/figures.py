"""Which figures a section gets: dimensions decide. Owns captions and panels, not how a panel is drawn."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from matplotlib.figure import Figure

from vitdsl.reports import sentences
from vitdsl.reports.canvas import Draw
from vitdsl.reports.figure_effect import (
    MOST_ROWS,
    draw_effect,
    draw_list,
    effect_lines,
    intact,
    listed,
)
from vitdsl.reports.figure_lines import (
    draw_by_depth,
    draw_heads,
    logarithmic,
    profile_lines,
    shared_limits,
    together,
    token_lines,
)
from vitdsl.reports.figure_matrix import draw_drift, draw_match, draw_matrix, scale_of
from vitdsl.reports.labels import listing, plural, sentence, slug, wrap
from vitdsl.reports.parts import BASELINE, Part, Section
from vitdsl.reports.series import depth_axis, draw_lines, label_lines, limits
from vitdsl.reports.theme import CELL, NARROW, WIDE

INTERVALS = "Bars and bands are 95 % intervals over image blocks."
MOST_PANELS = 8
ONE_AXIS = 6
"""Up to so many lines of several models share one axis."""


@dataclass(frozen=True)
class Panel:
    """One drawing. A `cell` stands in a grid at one size; others are drawn for wide pages and for phones."""

    title: str
    draw: Draw
    cell: bool = True
    height: int = 400
    narrow_height: int = 330

    @property
    def sizes(self) -> tuple[tuple[str, int, int], ...]:
        """Its renderings: name, width and height in CSS pixels."""
        if self.cell:
            return (("cell", CELL, self.height),)
        return (("wide", WIDE, self.height), ("narrow", NARROW, self.narrow_height))


@dataclass(frozen=True)
class Plot:
    """A figure: panels with one caption, one takeaway and one table; without panels, the table alone."""

    id: str
    title: str
    caption: str
    takeaway: str
    panels: tuple[Panel, ...]
    parts: tuple[Part, ...]

    @property
    def size(self) -> int:
        """How many numbers it shows."""
        return sum(part.array.size for part in self.parts)


def plots(section: Section) -> Iterator[Plot]:
    """The figures of a section, the value to look at first in front."""
    for value, parts in section.values.items():
        for shape in dict.fromkeys(part.shape for part in parts):
            same = tuple(part for part in parts if part.shape == shape)
            here = tuple(part for part in same if part.defined)
            yield MAKERS[shape](f"{slug('-'.join(section.metrics))}-{slug(value)}", here or same)


def _plot(
    id: str, parts: Sequence[Part], caption: str, takeaway: str, panels: Sequence[Panel], shape: str = ""
) -> Plot:
    panels = panels if any(part.defined for part in parts) else ()
    if len(panels) > MOST_PANELS:
        caption += f" {MOST_PANELS} of {len(panels)} panels are drawn; the data has all."
    if panels and any(np.isfinite(part.bounds[0].values).any() for part in parts):
        caption += f" {INTERVALS}" if shape in ("lines", "both") else ""
    name = f"{id}-{slug(shape)}" if shape == "table" else id
    return Plot(name, sentence(parts[0].name), caption, takeaway, tuple(panels[:MOST_PANELS]), tuple(parts))


def _effect(id: str, parts: Sequence[Part]) -> Plot:
    panels = []
    words = []
    if effect_lines(parts):
        draw: Draw = partial(draw_effect, parts=parts)
        panels.append(Panel("Against depth", draw, cell=False, height=350))
        words.append("Each condition at the depth of the site that it changes.")
        levels = [intact(part) for part in parts if np.isfinite(intact(part))]
        if any(abs(v) > 1e-12 for v in levels):
            words.append("Dotted levels: the intact models.")
    rows = listed(parts)
    if rows and (not panels or any(part.conditions[i] != BASELINE for part, i in rows)):
        shown = rows[:MOST_ROWS]
        height = 70 + 24 * len(shown)
        panels.append(
            Panel("By condition", partial(draw_list, rows=shown), False, max(130, height), max(130, height))
        )
        words.append("One row for each condition that has no single depth.")
        if len(shown) < len(rows):
            words.append(f"{len(shown)} of {plural(len(rows), 'row')} are drawn.")
    return _plot(id, parts, " ".join(words), sentences.effect(parts), panels, "lines")


def _matrix(id: str, parts: Sequence[Part]) -> Plot:
    scale = scale_of(parts)
    panels = []
    for part in parts:
        array = part.array.transpose("condition", "site_x", "site_y")
        for i, condition in enumerate(part.conditions):
            values = np.asarray(array.values[i], np.float64)
            if not np.isfinite(values).any():
                continue
            title = part.title + ("" if condition == BASELINE else f", {condition}")
            draw: Draw = partial(draw_matrix, part=part, values=values, scale=scale)
            panels.append(Panel(title, draw, height=430))
    for part in parts:
        if len(part.models) == 2 and part.array.sizes["site_x"] > 2:
            x, y = part.models
            title = f"Best match in {y} for each site of {x}"
            panels.append(Panel(title, partial(draw_match, part=part), height=430))
    caption = (
        "Every site with every site; the first sites at the bottom left. One colour scale for all panels."
    )
    return _plot(id, parts, caption, sentences.matrix(parts), panels)


def _paired(id: str, parts: Sequence[Part]) -> Plot:
    scale = scale_of(parts)
    panels = []
    for part in parts:
        kinds = part.of_condition("ablation", "")
        for kind in dict.fromkeys(str(kinds[i]) for i in part.ablated):
            rows = [i for i in part.ablated if str(kinds[i]) == kind]
            depth = [float(part.of_condition("ablated_depth", np.nan)[i]) for i in rows]
            if not np.isfinite(np.asarray(part.array.values[rows])).any():
                continue
            rows = [rows[i] for i in np.argsort(depth, kind="stable")]
            draw: Draw = partial(draw_drift, part=part, rows=rows, scale=scale)
            panels.append(Panel(f"{part.model}, {kind}" if kind else part.model, draw, height=410))
    caption = (
        "One row for each condition, from early changes (bottom) to late ones; one colour scale for all."
    )
    if effect_lines(parts, column=-1):
        panels.append(
            Panel("The last site, by depth of the change", partial(_draw_last, parts=parts), False, 330)
        )
        caption += " Last panel: what reaches the last site of each model."
    return _plot(id, parts, caption, sentences.paired(parts), panels, "both")


def _draw_last(figure: Figure, wide: bool, parts: Sequence[Part]) -> None:
    axes = figure.subplots()
    lines = effect_lines(parts, column=-1)
    axes.set_ylim(*limits(lines))
    depth_axis(axes, "Depth of the changed site")
    axes.set_ylabel(wrap(parts[0].name, 34))
    draw_lines(axes, lines)
    label_lines(figure, axes, lines, direct=wide)


def _profile(id: str, parts: Sequence[Part]) -> Plot:
    lines = profile_lines(parts)
    draw: Draw = partial(draw_by_depth, part=parts[0], lines=lines, shared=shared_limits(lines))
    caption = f"{sentence(parts[0].name)} of each site, against its depth."
    return _plot(id, parts, caption, sentences.profile(parts), [Panel("By depth", draw, False, 350)], "lines")


def _tokens(id: str, parts: Sequence[Part]) -> Plot:
    lines = {part.path: token_lines(part) for part in parts}
    every = [line for some in lines.values() for line in some]
    panels = []
    log = False
    if every:
        level = parts[0].attr("baseline_line", None)
        shared = shared_limits(every, [] if level is None else [float(level)])
        log = logarithmic(every, shared)
        joint = together(parts)
        if len(joint) <= ONE_AXIS:
            draw: Draw = partial(draw_by_depth, part=parts[0], lines=joint, shared=shared)
            panels.append(Panel("By depth", draw, False, 380, 360))
        else:
            for part in parts:
                draw = partial(
                    draw_by_depth, part=part, lines=lines[part.path], shared=shared, title=part.model
                )
                panels.append(Panel(part.model, draw, height=380))
    caption = f"{sentence(parts[0].name)} at each site, intact model, by token and kind of unit."
    caption += " Logarithmic axis." if log else ""
    caption += _others(parts)
    return _plot(id, parts, caption, sentences.tokens(parts), panels, "lines")


def _heads(id: str, parts: Sequence[Part]) -> Plot:
    panels = [Panel(part.model, partial(draw_heads, part=part), False, 360, 340) for part in parts]
    caption = f"{sentence(parts[0].name)}: one dot for each head, sorted within each site."
    return _plot(id, parts, caption + _others(parts), sentences.heads(parts), panels, "lines")


def _table(id: str, parts: Sequence[Part]) -> Plot:
    dims = listing(sorted({d for part in parts for d in part.dims}))
    caption = f"{sentence(parts[0].name)} by condition" + (f", {dims}." if dims else ".")
    return _plot(id, parts, caption, sentences.table(parts), (), "table")


def _others(parts: Sequence[Part]) -> str:
    most = max(len(part.conditions) for part in parts)
    return f" The first of {plural(most, 'condition')} is drawn; the data has all." if most > 1 else ""


MAKERS: dict[str, Callable[[str, Sequence[Part]], Plot]] = {
    "effect": _effect,
    "matrix": _matrix,
    "paired": _paired,
    "profile": _profile,
    "tokens": _tokens,
    "heads": _heads,
    "table": _table,
}
