"""Best matches: for each site of one model the most similar site of another, how far down it is and how similar.

Which site is most similar is a choice, so its bars hold all depths whose sites are not clearly beaten, and those of the
best value allow for the choice (`vitdsl.runtime.results.bands`). Does not own the maps that it is read from (`matrix`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from vitdsl.reports.canvas import Sheet
from vitdsl.reports.figures._base import Panel
from vitdsl.reports.figures._conditions import intact
from vitdsl.reports.figures._labels import label_inside, level_of
from vitdsl.reports.figures._lines import Line, depth_axis, draw_lines, limits
from vitdsl.reports.labels import fold, number
from vitdsl.reports.parts import Array, Part
from vitdsl.reports.sentences import derived, mean, means, way
from vitdsl.reports.theme import FONT_PX, LIGHT
from vitdsl.runtime.results.bands import selected
from vitdsl.runtime.results.intervals import scale_of
from vitdsl.runtime.results.trainings import over_trainings

HEIGHT = 430
"""Of a panel in CSS pixels."""
DIMS = ("condition", "site_x", "site_y")


def maps_of(part: Part) -> Array:
    """The maps, `[condition, site_x, site_y]`."""
    found: Array = np.asarray(part.array.transpose(*DIMS).values, np.float64)
    return found


def pairs_of(parts: Sequence[Part]) -> list[Part]:
    """The intact models of the parts that compare two."""
    found = [one for one in map(intact, parts) if one is not None and one.defined]
    return [part for part in found if len(part.models) == 2 and part.array.sizes["site_x"] > 2]


def matches(part: Part, several: bool) -> Panel:
    """The panel of a pair; several pairs are told apart in its title."""
    x, y = part.models
    title = f"{part.label}: best match" if several else f"Best match in {y} for each site of {x}"
    return Panel(title, partial(_draw_match, part=part), height=HEIGHT)


@dataclass(frozen=True)
class Best:
    """The best matches of the sites of x.

    Attributes:
        depth: How deep each site is.
        names: Each with its match.
        place: How deep the match is, with the ends of its interval.
        value: How similar the match is, with the ends of its interval.
    """

    depth: Array
    names: tuple[str, ...]
    place: tuple[Array, Array, Array]
    value: tuple[Array, Array, Array]


def best_match(part: Part) -> Best:
    """The best matches of the intact model; NaN where no value is defined, and ends where there is no interval."""
    values, depths, names = maps_of(part)[0], part.depths("site_y"), []
    found = np.full((2, 3, len(values)), np.nan)
    for i, row in enumerate(values):
        known = np.isfinite(row)
        if known.any():
            best = np.flatnonzero(known)[_pick(part, row[known])]
            found[:, 0, i] = depths[best], row[best]
            found[:, 1:, i] = _ends(part, i, known, found[:, 0, i])
        said = f" with {part.names('site_y')[best]}" if known.any() else ""
        names.append(part.names("site_x")[i] + said)
    place, value = found
    return Best(part.depths("site_x"), tuple(names), (place[0], *place[1:]), (value[0], *value[1:]))


def _pick(part: Part, values: Array) -> np.ndarray:
    """Which of some values, `[..., n]`, is the most similar."""
    return np.asarray(values.argmin(-1) if part.attr("direction") == "lower" else values.argmax(-1))


def _ends(part: Part, site: int, known: np.ndarray, best: Array) -> Array:
    """The ends of the intervals of a site's best match, `[place or value, end]`, over images and trainings."""
    flip = part.array.dims[-1] == "site_x"
    rows, without, each = (
        None if one is None else (one.swapaxes(-1, -2) if flip else one)[..., 0, site, :][..., known]
        for one in (np.asarray(part.array.values, np.float64), part.replicates, part.trainings)
    )
    if rows is None or without is None:
        return np.full((2, 2), np.nan)
    depths = part.depths("site_y")[known]
    takes = ("argmin", "min") if part.attr("direction") == "lower" else ("argmax", "max")
    scale = scale_of(part.dataset[part.value].attrs)
    ends = np.array([selected(take, depths, rows, without, part.left_out, scale) for take in takes])
    if each is None:
        return ends
    at = _pick(part, each)
    other = np.stack([depths[at], np.take_along_axis(each, at[:, None], 1)[:, 0]], 1)
    reach = np.hypot(np.abs(ends - best[:, None]), over_trainings(other)[:, None])
    ends = best[:, None] + reach * [-1, 1]
    ends[0] = ends[0].clip(depths.min(), depths.max())
    return np.asarray(ends)


def _draw_match(sheet: Sheet, wide: bool, part: Part) -> None:
    """Where in y each site of x finds its match (above), and how good the match is (below)."""
    above, below = sheet.subplots(2, 1, sharex=True, height_ratios=[1.25, 1])
    x, y = part.models
    best = best_match(part)
    depth, matched = best.depth, best.place[0]
    above.plot([0, 1], [0, 1], color=LIGHT["muted"], linewidth=1, linestyle=(0, (4, 3)))
    under = np.nanmean(matched - depth) < 0 if np.isfinite(matched).any() else False
    above.annotate(
        "same depth",
        (0.6, 0.6) if under else (0.3, 0.3),
        (-6, 2) if under else (8, -2),
        textcoords="offset points",
        ha="right" if under else "left",
        va="bottom" if under else "top",
        color=LIGHT["muted"],
        fontsize=FONT_PX - 1,
    )
    draw_lines(above, [Line("", depth, *best.place, part.hue, names=best.names)])
    above.set_ylim(-0.05, 1.05)
    above.set_yticks([0, 0.5, 1])
    above.set_ylabel("depth of the\nbest match")
    line = Line("", depth, *best.value, part.hue, 2, 2, names=best.names)
    draw_lines(below, [line])
    levels = level_of(part)
    below.set_ylim(*limits([line], [0.0, *(one.value for one in levels)]))
    below.set_ylabel(fold(part.name, 22))
    depth_axis(below, fold(f"Depth in {x}", 40))
    for level in levels:
        label_inside(below, level, [line])
    sheet.align_ylabels([above, below])


def match(part: Part) -> str:
    """Where in y the sites of x find their best match."""
    x, y = part.models
    found = best_match(part)
    depth, matched, value = found.depth, found.place[0], found.value[0]
    if not np.isfinite(value).any():
        return ""
    early, late = depth <= 1 / 3, depth > 2 / 3
    early = early if early.any() else depth == depth.min()
    late = late if late.any() else depth == depth.max()
    places = [number(mean(matched[part_]), 2) for part_ in (early, late)]
    sign = -1.0 if part.attr("direction") == "lower" else 1.0
    reads = [
        partial(_best, sites=np.flatnonzero(some & np.isfinite(value)), sign=sign) for some in (early, late)
    ]
    first, last = (derived(part, read) for read in reads)
    goes = way(part, lambda values: reads[1](values) - reads[0](values))
    best = f"{'rises' if goes > 0 else 'falls'} from {first} to {last}"
    best = best if goes else f"is about as good in both: {first} and {last}"
    return (
        f"The first third of {x} is most like {y} at depth {places[0]} (mean), the last third at {places[1]}"
        f"; the best match {best}."
    )


def _best(values: Array, *, sites: np.ndarray, sign: float) -> Array:
    """Mean of the best match of some sites of x, of `[..., condition, site_x, site_y]`."""
    some = sign * values[..., 0, sites, :]
    return means(sign * np.where(np.isfinite(some), some, -np.inf).max(-1), -1)
