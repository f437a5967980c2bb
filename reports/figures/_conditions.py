"""Conditions: maps of conditions against sites, for values of the intact model that conditions change.

A figure draws one condition, the intact model. What the others change of it is drawn here, for any dimensions: a row
for each condition, a column for each site, a map for each token or other named label; the mean over what else there is.
Does not own how the intact model is drawn (the figures), or the differences (`reports.changed`).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from vitdsl.reports.changed import change_of, compares, differing
from vitdsl.reports.figures._base import MOST_PANELS, Figure, Panel, Plot, assembled
from vitdsl.reports.figures._frames import Side, frame_of
from vitdsl.reports.figures._heatmap import LETTERS, Heatmap, draw_heatmap, sites_along
from vitdsl.reports.figures._scales import Scale, bar_of, scale_of, scale_of_changes
from vitdsl.reports.labels import TOKEN_NAMES, estimate, fold, listing, sentence, ticks, with_unit
from vitdsl.reports.names import BASELINE
from vitdsl.reports.parts import Array, Part
from vitdsl.reports.rivals import among
from vitdsl.reports.sentences import cut
from vitdsl.reports.theme import CELL

MOST_LABELS = 4
"""So many named labels of a dimension, such as tokens, get a map each; of more there is the mean."""
MOST_ROWS = 40
"""Up to so many rows, each is named."""
ROW = 15
"""Height of a row in CSS pixels, between the least and the largest height of a map."""
LEAST, LARGEST = 280, 520
PLACES = frozenset(("row", "col"))
ALONG = ("site", "site_x")
Read = Callable[[Part, Sequence[str]], tuple[Array, Array, Array]]
"""Numbers of a part and the ends of their intervals, with the mean over some dimensions taken."""


@dataclass(frozen=True)
class Rows:
    """Conditions of one part with numbers `[row, column]` and their intervals, as one map shows them."""

    part: Part
    title: str
    rows: tuple[int, ...]
    numbers: tuple[Array, Array, Array]


def plot_of(figure: Figure, id: str, parts: Sequence[Part]) -> Plot:
    """The plot of a figure, with what conditions change where the figure itself draws one condition."""
    if figure.draws_conditions:
        return figure.plot(id, parts)
    first = [one for one in map(intact, parts) if one is not None]
    plot = figure.plot(id, first) if first else assembled(id, parts, "", "")
    found = changes(parts)
    takeaway = plot.takeaway or f"{sentence(parts[0].name)}, by condition."
    return replace(
        plot,
        caption=" ".join(filter(None, (plot.caption, found.caption))),
        takeaway="\n".join([takeaway, *found.details]),
        panels=(*plot.panels, *found.panels),
        parts=tuple(parts),
    )


def intact(part: Part) -> Part | None:
    """What of a part a figure draws that knows of no conditions: the intact model, or the only condition there is.

    None where several conditions have no intact model beside them, or are compared with it already.
    """
    if len(part.conditions) == 1:
        name = part.condition(0)
        return part if part.conditions == [BASELINE] else replace(part, label=f"{part.label}, {name}")
    if BASELINE not in part.conditions or ((part.relative or part.paired) and part.ablated):
        return None
    at = part.conditions.index(BASELINE)
    return replace(part, dataset=part.dataset.isel(condition=[at]))


@dataclass(frozen=True)
class Changes:
    """Panels that stand after those of the intact models, with what the caption and the takeaway say of them."""

    panels: tuple[Panel, ...] = ()
    caption: str = ""
    details: tuple[str, ...] = ()


def changes(parts: Sequence[Part]) -> Changes:
    """What the conditions of the parts change, where they have several."""
    several = [part for part in parts if len(part.conditions) > 1 and part.dims]
    compared = [part for part in several if compares(part)]
    others = [part for part in several if not compares(part) and part.ablated]
    found = (_of_changes(compared), _of_values(others))
    return Changes(
        tuple(panel for one in found for panel in one.panels),
        " ".join(one.caption for one in found if one.caption),
        cut([detail for one in found for detail in one.details]),
    )


def _of_changes(parts: Sequence[Part]) -> Changes:
    shown = [one for one in _shown(parts, _change) if np.any(np.nan_to_num(one.numbers[0]))]
    details = tuple(filter(None, map(_most_changed, parts)))
    if not shown:
        return Changes(details=details)
    part, values = shown[0].part, [one.numbers[0] for one in shown]
    size = _is_map(part)
    scale = scale_of_changes(values, sizes=size)
    name = f"{'size of the change' if size else 'change'} of {part.name}"
    shown = [replace(one, title=f"Change in {one.title}") for one in shown]
    caption = f"Maps of changes: {'how far each condition is' if size else 'each condition less'} "
    caption += f"{'from ' if size else ''}the intact model, on the same images{_mean_words(part)}."
    caption += f" {_ORDER}{scale.words}"
    panels = row_panels(shown, scale)
    bar = bar_of(part, scale, values, with_unit(name, part.units))
    return Changes((bar, *panels), caption, details)


def _of_values(parts: Sequence[Part]) -> Changes:
    shown = _shown(parts, _values)
    if not shown:
        return Changes()
    part, values = shown[0].part, [one.numbers[0] for one in shown]
    scale = scale_of([one.part for one in shown], values)
    mean = _mean_words(part)
    caption = f"{_ORDER[:-1]}{mean}."
    return Changes((bar_of(part, scale, values), *row_panels(shown, scale)), caption)


_ORDER = "One row for each condition, from early changes (bottom) to late ones."


def row_panels(shown: Sequence[Rows], scale: Scale) -> list[Panel]:
    """A panel for each map, all in frames of one size."""
    maps = [_heatmap(one) for one in shown]
    frame = frame_of([(one.below, one.beside) for one in maps], CELL)
    most = max(len(one.rows) for one in shown)
    height = round(min(LARGEST, max(LEAST, ROW * most)) + frame.outside)
    return [
        Panel(one.title, partial(draw_heatmap, one=map_, frame=frame, scale=scale), height=height)
        for one, map_ in zip(shown, maps, strict=True)
    ]


def by_ablation(part: Part) -> dict[str, tuple[int, ...]]:
    """The conditions of each ablation, from early changes to late ones."""
    kinds, depth = (
        part.of_condition(name, default) for name, default in (("ablation", ""), ("ablated_depth", np.nan))
    )
    found: dict[str, list[int]] = {}
    for i in part.ablated:
        found.setdefault(str(kinds[i]), []).append(i)
    return {
        kind: tuple(rows[i] for i in np.argsort([float(depth[j]) for j in rows], kind="stable"))
        for kind, rows in found.items()
    }


def _heatmap(one: Rows) -> Heatmap:
    part, (values, low, high) = one.part, one.numbers
    below, columns = sites_along(part, _along(part), "Site read" if _along(part) in ALONG else _along(part))
    kinds = [str(part.of_condition("ablation", "")[i]) for i in one.rows]
    names, words = row_names(part, one.rows, len(set(kinds)) > 1)
    step = -(-len(names) // MOST_ROWS)
    at = range(0, len(names), step)
    spots = tuple((i + 0.5) / len(names) for i in at)
    return Heatmap(
        values,
        [part.condition(i) for i in one.rows],
        part.names(_along(part)),
        below,
        Side(spots, tuple(fold(names[i], LETTERS) for i in at), words),
        [
            [estimate(float(v), float(a), float(b), part.units) for v, a, b in zip(*row, strict=True)]
            for row in zip(values, low, high, strict=True)
        ],
        (tuple(i for i in range(1, len(kinds)) if kinds[i] != kinds[i - 1]), columns),
    )


def row_names(part: Part, rows: Sequence[int], several: bool) -> tuple[list[str], str]:
    """What the rows are called: by the site changed where that tells them apart, else in full; and words for all."""
    changed = [str(s) for s in part.of_condition("ablated_site", "")]
    for names in (
        [changed[i] for i in rows],
        [", ".join(filter(None, (changed[i], part.variant(i)))) for i in rows],
        [part.variant(i) for i in rows],
    ):
        if all(names) and len(set(names)) == len(names) and not several:
            _, short, pattern = ticks(names, len(names))
            what = "Site changed" if changed[rows[0]] else ""
            return short, " ".join(filter(None, (what, f"({pattern})" if pattern else "")))
    return [part.condition(i) for i in rows], ""


def _along(part: Part) -> str:
    """The dimension of the columns."""
    dims = [str(dim) for dim in part.array.dims if dim != "condition"]
    return next((dim for dim in ALONG if dim in dims), dims[0])


def _labels(part: Part) -> str:
    """A dimension whose labels get a map each: few words, such as tokens; empty where there is none."""
    dims = [str(dim) for dim in part.array.dims if dim not in ("condition", _along(part))]
    few = (dim for dim in dims if 1 < part.array.sizes[dim] <= MOST_LABELS and not dim.startswith("site"))
    return next((dim for dim in few if not any(name.isdigit() for name in part.names(dim))), "")


def _is_map(part: Part) -> bool:
    """Whether it has places, over which changes cancel, so that their sizes are read."""
    return any(dim in part.dims for dim in PLACES)


def _mean_words(part: Part) -> str:
    """Over what the mean is taken, for a caption."""
    over = [str(dim) for dim in part.array.dims if dim not in ("condition", _along(part), _labels(part))]
    many = {
        "frequency": "frequencies",
        "row": "",
        "col": "places",
        "site_y": f"sites of {part.model_of('site_y')}",
    }
    over = [dim for dim in over if part.array.sizes[dim] > 1]
    return f", mean over {listing([w for w in (many.get(d, f'{d}s') for d in over) if w])}" if over else ""


def _shown(parts: Sequence[Part], read: Read) -> list[Rows]:
    """The maps, as few as a page takes: first each label and ablation apart, then labels as their mean, then all."""
    found: list[Rows] = []
    for labels, kinds in ((True, True), (False, True), (False, False)):
        found = [one for part in parts for one in _rows(part, read, labels=labels, kinds=kinds)]
        if len(found) <= MOST_PANELS:
            break
    return found[:MOST_PANELS]


def _rows(part: Part, read: Read, *, labels: bool, kinds: bool) -> Iterator[Rows]:
    apart, along = _labels(part) if labels else "", _along(part)
    over = [str(dim) for dim in part.array.dims if dim not in ("condition", along, apart)]
    order = [str(dim) for dim in part.array.dims if str(dim) not in over]
    numbers = tuple(
        np.moveaxis(one, order.index(along), 1) if apart else one[..., None] for one in read(part, over)
    )
    groups = by_ablation(part)
    if not kinds:
        groups = {"": tuple(i for rows in groups.values() for i in rows)}
    for k, label in enumerate(part.names(apart) if apart else [""]):
        for kind, rows in groups.items():
            value, low, high = (one[list(rows), :, k] for one in numbers)
            if np.isfinite(value).any():
                called = part.called.ablation(kind) if kind else ""
                title = ", ".join(filter(None, (part.label, TOKEN_NAMES.get(label, label), called)))
                yield Rows(part, title, rows, (value, low, high))


def _change(part: Part, over: Sequence[str]) -> tuple[Array, Array, Array]:
    return change_of(part, over, size=_is_map(part))


def _values(part: Part, over: Sequence[str]) -> tuple[Array, Array, Array]:
    """The numbers themselves, with intervals where no mean is taken."""
    axes = tuple(list(part.array.dims).index(dim) for dim in over)
    arrays = [np.asarray(one.values, np.float64) for one in (part.array, *part.bounds)]
    if not axes:
        return arrays[0], arrays[1], arrays[2]
    values = arrays[0].mean(axes)
    return values, np.full_like(values, np.nan), np.full_like(values, np.nan)


def _most_changed(part: Part) -> str:
    """The condition that changes most, on average over all that a part has; and how many others may be that one."""
    sizes = differing(part, sorted(part.dims), size=True)
    found = sizes(np.asarray(part.array.values, np.float64))
    known = [i for i in part.ablated if np.isfinite(found[i])]
    if not known:
        return ""
    far = max(known, key=lambda i: found[i])
    if not found[far] > 0:
        return f"{part.label}: no condition changes it."
    others = among(part, known, far, sizes, "large")
    said = estimate(float(found[far]), units=part.units)
    return f"{part.label}: largest change with {part.condition(far)}, {said} on average{others}."
