"""Matrix: every site with every site; across two models also the best match by depth."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from vitdsl.reports.canvas import Sheet
from vitdsl.reports.figures._base import Figure, Panel, Plot, assembled
from vitdsl.reports.figures._conditions import changes, intact
from vitdsl.reports.figures._frames import frame_of
from vitdsl.reports.figures._heatmap import Heatmap, draw_heatmap, flat, sites_along
from vitdsl.reports.figures._labels import label_inside, level_of
from vitdsl.reports.figures._lines import Line, depth_axis, draw_lines, limits
from vitdsl.reports.figures._scales import Scale, bar_of, scale_of
from vitdsl.reports.figures._tiles import MOST_TILES, tiles
from vitdsl.reports.labels import fold, listing, number, sentence
from vitdsl.reports.parts import Array, Part
from vitdsl.reports.sentences import NOTHING, derived, mean, means, way
from vitdsl.reports.theme import CELL, FONT_PX, LIGHT

MOST_MEANS = 3
"""Means that a sentence lists; of more it says the ends."""
MATCH = 430
"""Height of a panel of best matches in CSS pixels."""


class Matrix(Figure):
    """A value of two sites."""

    draws_conditions = True

    def fits(self, part: Part) -> bool:
        """Sites of x and of y; more than one pair."""
        sizes = part.array.sizes
        return part.dims == {"site_x", "site_y"} and sizes["site_x"] * sizes["site_y"] > 1

    def calls(self, part: Part) -> tuple[str, ...]:
        """Its heading, else its models."""
        models = pair(part)
        return (
            part.title or models,
            f"{part.title}: {models}" if part.title else "",
            f"{models}, {part.metric}",
        )

    def heading(self, parts: Sequence[Part]) -> str:
        """What is compared, and in which models where these are few."""
        pairs = list(dict.fromkeys(map(pair, parts)))
        return f"{parts[0].name} between layers" + (f": {pairs[0]}" if len(pairs) == 1 else "")

    def plot(self, id: str, parts: Sequence[Part]) -> Plot:
        """A heatmap for each group and condition; for two models a panel of best matches."""
        maps, constant = [], []
        for part in (one for one in map(intact, parts) if one is not None and one.defined):
            even = flat(part, _values(part)[0])
            if even:
                constant.append(f"{part.label}: {even}, too near for a map.")
            else:
                maps.append((part, _heatmap(part, _values(part)[0])))
        several = [part for part in parts if part.ablated and len(part.conditions) > 1]
        few = [part for part in several if len(part.ablated) <= MOST_TILES]
        more = changes([part for part in several if len(part.ablated) > MOST_TILES])
        drawn = [one.values for _, one in maps] + [_values(part) for part in few]
        panels: list[Panel] = []
        if drawn:
            scale = scale_of(parts, drawn)
            pairs = _pairs(parts)
            panels = [bar_of(parts[0], scale, drawn), *_squares(maps, scale)]
            panels += [_matches(part, len(pairs) > 1) for part in pairs]
            panels += [tiles(part, _values(part).swapaxes(1, 2), scale) for part in few]
        caption = (
            "Every site with every site; the first sites at the bottom left. One colour scale for all panels."
        )
        caption = " ".join(filter(None, (caption if drawn else "", *constant, more.caption)))
        takeaway = "\n".join([_takeaway(parts), *more.details])
        return assembled(id, parts, caption, takeaway, [*panels, *more.panels])


def _values(part: Part) -> Array:
    """The maps, `[condition, site_x, site_y]`."""
    found: Array = np.asarray(part.array.transpose("condition", "site_x", "site_y").values, np.float64)
    return found


def pair(part: Part) -> str:
    """Which models are compared: `ViT`, or `ViT against ResNet`."""
    return " against ".join(part.models) or part.model


def _squares(maps: Sequence[tuple[Part, Heatmap]], scale: Scale) -> list[Panel]:
    """The maps as squares of one size."""
    if not maps:
        return []
    frame = frame_of([(one.below, one.beside) for _, one in maps], CELL)
    height = round(CELL - frame.beside + frame.outside)
    return [
        Panel(part.label, partial(draw_heatmap, one=one, frame=frame, scale=scale), height=height)
        for part, one in maps
    ]


def _pairs(parts: Sequence[Part]) -> list[Part]:
    """The intact models of the parts that compare two."""
    found = [one for one in map(intact, parts) if one is not None and one.defined]
    return [part for part in found if len(part.models) == 2 and part.array.sizes["site_x"] > 2]


def _matches(part: Part, several: bool) -> Panel:
    x, y = part.models
    title = f"{part.label}: best match" if several else f"Best match in {y} for each site of {x}"
    return Panel(title, partial(_draw_match, part=part), height=MATCH)


def _heatmap(part: Part, values: Array) -> Heatmap:
    """Sites against sites; the first layers at the bottom left. `values` is [site_x, site_y]."""
    (below, columns), (beside, rows) = (sites_along(part, dim) for dim in ("site_x", "site_y"))
    return Heatmap(values.T, part.names("site_y"), part.names("site_x"), below, beside, cuts=(rows, columns))


def _best_match(part: Part) -> tuple[Array, Array, Array]:
    """For each site of x: its depth, the depth of the most similar site of y, and how similar that is."""
    values = _values(part)[0]
    known = np.isfinite(values).any(1)
    sign = -1.0 if part.attr("direction") == "lower" else 1.0
    filled = np.where(np.isfinite(values), sign * values, -np.inf)
    depth = np.where(known, part.depths("site_y")[filled.argmax(1)], np.nan)
    return part.depths("site_x"), depth, np.where(known, sign * filled.max(1), np.nan)


def _draw_match(sheet: Sheet, wide: bool, part: Part) -> None:
    """Where in y each site of x finds its match (above), and how good the match is (below)."""
    above, below = sheet.subplots(2, 1, sharex=True, height_ratios=[1.25, 1])
    x, y = part.models
    depth, matched, value = _best_match(part)
    nothing = np.full_like(depth, np.nan)
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
    draw_lines(above, [Line("", depth, matched, nothing, nothing, part.hue)])
    above.set_ylim(-0.05, 1.05)
    above.set_yticks([0, 0.5, 1])
    above.set_ylabel("depth of the\nbest match")
    line = Line("", depth, value, nothing, nothing, part.hue, 2, 2)
    draw_lines(below, [line])
    levels = level_of(part)
    below.set_ylim(*limits([line], [0.0, *(one.value for one in levels)]))
    below.set_ylabel(fold(part.name, 22))
    depth_axis(below, fold(f"Depth in {x}", 40))
    for level in levels:
        label_inside(below, level, [line])
    sheet.align_ylabels([above, below])


def _takeaway(parts: Sequence[Part]) -> str:
    """How alike first and last sites are, and where the best matches across models lie."""
    known = [one for one in map(intact, parts) if one is not None and one.defined]
    within = [part for part in known if len(part.models) == 1]
    across = [part for part in known if len(part.models) == 2]
    name = sentence(parts[0].name)
    lead = ""
    if within:
        far, near = (_listed(within, read) for read in (_far, _near))
        lead = f"{name}, mean between the first and the last third of the sites: {far}; between neighbours: {near}."
    said = [text for text in map(_match, across) if text]
    if not lead and not said and any(part.defined for part in parts):
        return f"{name}, by condition."
    return "\n".join([lead, *said] if lead else said) or NOTHING


def _listed(parts: Sequence[Part], read: Callable[[Array], Array]) -> str:
    """A mean of each part with its interval; of many, the smallest and the largest."""
    known = sorted((float(read(_values(part)[:1])), derived(part, read), part.label) for part in parts)
    words = [f"{said} in {label}" for _, said, label in known]
    if len(words) > MOST_MEANS:
        return f"from {words[0]} to {words[-1]}, {len(words) - 2} others between"
    return listing([f"{derived(part, read)} in {part.model}" for part in parts])


def _far(values: Array) -> Array:
    """Mean similarity of the first with the last third of the sites, of `[..., condition, site_x, site_y]`."""
    third = max(1, values.shape[-1] // 3)
    return means(values[..., 0, :third, -third:], (-2, -1))


def _near(values: Array) -> Array:
    """Mean similarity of neighbouring sites."""
    return means(np.diagonal(values[..., 0, :, :], 1, -2, -1), -1)


def _match(part: Part) -> str:
    """Where in y the sites of x find their best match."""
    x, y = part.models
    depth, matched, value = _best_match(part)
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
