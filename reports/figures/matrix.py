"""Matrix: every site with every site; across two models also the best match by depth."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from vitdsl.reports.figures._base import Figure, Panel, Plot, assembled
from vitdsl.reports.figures._conditions import changes, intact
from vitdsl.reports.figures._frames import frame_of
from vitdsl.reports.figures._heatmap import Heatmap, draw_heatmap, flat, sites_along
from vitdsl.reports.figures._matches import maps_of, match, matches, pairs_of
from vitdsl.reports.figures._scales import Scale, bar_of, scale_of
from vitdsl.reports.figures._tiles import MOST_TILES, tiles
from vitdsl.reports.labels import listing, sentence
from vitdsl.reports.parts import Array, Part
from vitdsl.reports.sentences import NOTHING, derived, means
from vitdsl.reports.theme import CELL

MOST_MEANS = 3
"""Means that a sentence lists; of more it says the ends."""


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
            even = flat(part, maps_of(part)[0])
            if even:
                constant.append(f"{part.label}: {even}, too near for a map.")
            else:
                maps.append((part, _heatmap(part, maps_of(part)[0])))
        several = [part for part in parts if part.ablated and len(part.conditions) > 1]
        few = [part for part in several if len(part.ablated) <= MOST_TILES]
        more = changes([part for part in several if len(part.ablated) > MOST_TILES])
        drawn = [one.values for _, one in maps] + [maps_of(part) for part in few]
        paired = pairs_of(parts) if drawn else []
        panels: list[Panel] = []
        if drawn:
            scale = scale_of(parts, drawn)
            panels = [bar_of(parts[0], scale, drawn), *_squares(maps, scale)]
            panels += [matches(part, len(paired) > 1) for part in paired]
            panels += [tiles(part, maps_of(part).swapaxes(1, 2), scale) for part in few]
        caption = (
            "Every site with every site; the first sites at the bottom left. One colour scale for all panels."
        )
        if paired:
            caption += " Bars of best matches hold every depth whose site may be the best one."
        caption = " ".join(filter(None, (caption if drawn else "", *constant, more.caption)))
        takeaway = "\n".join([_takeaway(parts), *more.details])
        return assembled(id, parts, caption, takeaway, [*panels, *more.panels], intervals=bool(paired))


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


def _heatmap(part: Part, values: Array) -> Heatmap:
    """Sites against sites; the first layers at the bottom left. `values` is [site_x, site_y]."""
    (below, columns), (beside, rows) = (sites_along(part, dim) for dim in ("site_x", "site_y"))
    return Heatmap(values.T, part.names("site_y"), part.names("site_x"), below, beside, cuts=(rows, columns))


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
    said = [text for text in map(match, across) if text]
    if not lead and not said and any(part.defined for part in parts):
        return f"{name}, by condition."
    return "\n".join([lead, *said] if lead else said) or NOTHING


def _listed(parts: Sequence[Part], read: Callable[[Array], Array]) -> str:
    """A mean of each part with its interval; of many, the smallest and the largest."""
    known = sorted((float(read(maps_of(part)[:1])), derived(part, read), part.label) for part in parts)
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
