"""Tokens: a value of each site and token, a line for each token and kind of unit."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from vitdsl.reports.canvas import Draw
from vitdsl.reports.figures._base import Figure, Panel, Plot, assembled
from vitdsl.reports.figures._by_depth import APART, alike, draw_by_depth, even, logarithmic, shared_limits
from vitdsl.reports.figures._labels import level_of, level_words
from vitdsl.reports.figures._lines import Line, distinct
from vitdsl.reports.labels import TOKEN_NAMES, listing, plural, sentence
from vitdsl.reports.parts import Array, Part
from vitdsl.reports.sentences import derived, lead_and_details, means, way

MOST_TOKENS = 8
"""More tokens than this are no lines that one can tell apart."""
ONE_AXIS = 6
"""Up to so many lines of several models share one axis."""
WAYS = {1: "rise", -1: "fall", 0: "stay about the same"}
DASH_OF = {"spatial": 0, "cls": 1, "registers": 2, "distillation": 3}


class Tokens(Figure):
    """Sites with tokens."""

    def fits(self, part: Part) -> bool:
        """Sites and a few tokens."""
        return part.dims == {"site", "token"} and part.array.sizes["token"] <= MOST_TOKENS

    def plot(self, id: str, parts: Sequence[Part]) -> Plot:
        """All models on one axis, or a panel for each where that would be crowded."""
        groups = alike([part for part in parts if part.defined])
        found = [_panels(group, len(groups) > 1) for group in groups]
        panels, log = [panel for some, _ in found for panel in some], any(log for _, log in found)
        caption = f"{sentence(parts[0].name)} at each site, intact model, by token and kind of unit."
        same = even([line for part in parts for line in _lines(part)]) if panels else ""
        panels, caption = ([], same) if same else (panels, caption)
        joint = (group for group in groups if len(_together(group)) <= ONE_AXIS)
        said = next(filter(None, map(level_words, joint)), "")
        caption += f" {said}" if said else ""
        caption += " Logarithmic axis." if log else ""
        caption += APART if len(groups) > 1 else ""
        return assembled(id, parts, caption, _takeaway(parts), panels, intervals=True)


def _panels(parts: Sequence[Part], apart: bool) -> tuple[list[Panel], bool]:
    """The panels of parts that share an axis, and whether that is logarithmic."""
    lines = {part.path: _lines(part) for part in parts}
    every = [line for some in lines.values() for line in some]
    if not every:
        return [], False
    shared = shared_limits(every, [level.value for level in level_of(*parts)])
    joint = _together(parts)
    if len(joint) <= ONE_AXIS:
        draw: Draw = partial(draw_by_depth, parts=parts, lines=joint, shared=shared)
        title = listing([part.label for part in parts]) if apart else "By depth"
        return [Panel(title, draw, False, 380, 360)], logarithmic(every, shared)
    panels = []
    for part in parts:
        draw = partial(draw_by_depth, parts=[part], lines=lines[part.path], shared=shared)
        panels.append(Panel(part.label, draw, height=380))
    return panels, logarithmic(every, shared)


def _lines(part: Part, condition: int = 0) -> list[Line]:
    """One line for each token and kind of branch, in the model's colour: dash by token, marker by kind of branch."""
    array, low, high = (
        a.isel(condition=condition).transpose("site", "token").values for a in (part.array, *part.bounds)
    )
    depth = part.depths()
    lines = []
    for label, t, look, keep in _kinds(part):
        dash = DASH_OF.get(part.names("token")[t], len(DASH_OF) + t)
        here = tuple(np.array(part.names())[keep].tolist())
        ends = (array[keep, t], low[keep, t], high[keep, t])
        lines.append(Line(label, depth[keep], *ends, part.hue, look, dash, bool(look % 2), here))
    return distinct([line for line in lines if np.isfinite(line.y).any()])


def _kinds(part: Part) -> Iterator[tuple[str, int, int, np.ndarray]]:
    """Each token at each kind of branch: what it is called, which token and which kind, and its sites."""
    if "branch_kind" in part.dataset.coords and part.dataset["branch_kind"].dims == ("site",):
        kinds = np.array([str(k) for k in part.dataset["branch_kind"].values])
    else:
        kinds = np.array([""] * part.array.sizes["site"])
    for t, token in enumerate(part.names("token")):
        for look, kind in enumerate(dict.fromkeys(kinds)):
            yield ", ".join(filter(None, (kind, TOKEN_NAMES.get(token, token)))), t, look, kinds == kind


def _together(parts: Sequence[Part]) -> list[Line]:
    """The token lines of all models for one axis."""
    several = len(parts) > 1
    return distinct(
        [
            replace(line, label=f"{part.label}, {line.label}" if several else line.label)
            for part in parts
            for line in _lines(part)
        ]
    )


def _takeaway(parts: Sequence[Part]) -> str:
    """First half against second half: of each group the line that changes most, and which way the others go."""
    said = []
    for part in parts:
        halves = [(label, *_halves(part, t, keep)) for label, t, _, keep in _kinds(part)]
        known = [one for one in halves if np.isfinite(one[1])]
        if known:
            far = max(known, key=lambda one: abs(one[1]))
            others = [one[4] for one in known if one is not far]
            ways = [f"{count} {word}" for goes, word in WAYS.items() if (count := others.count(goes))]
            more = f"; of {plural(len(others), 'other line')}, {listing(ways)}" if len(others) > 1 else ""
            said.append(f"{part.label}: {far[0]} {far[2]} \N{RIGHTWARDS ARROW} {far[3]}{more}.")
    return lead_and_details(
        f"{sentence(parts[0].name)}, mean of the first half \N{RIGHTWARDS ARROW} of the second half, where it changes "
        "most.",
        said,
    )


def _halves(part: Part, token: int, keep: np.ndarray) -> tuple[float, str, str, int]:
    """How far the mean moves from the first half of some sites to the second, both with intervals, and which way."""
    depth = part.depths()
    known = keep & np.isfinite(part.array.isel(condition=0).transpose("site", "token").values[:, token])
    if not known.any():
        return float("nan"), "", "", 0
    first = depth <= (depth[known].min() + depth[known].max()) / 2

    def read(values: Array, sites: np.ndarray) -> Array:
        return means(values[..., 0, sites, token], -1)

    reads = [partial(read, sites=np.flatnonzero(known & half)) for half in (first, ~first)]
    values = np.asarray(part.array.transpose("condition", "site", "token").values, np.float64)
    early, late = (float(one(values)) for one in reads)
    before, after = (derived(part, one, ("site", "token")) for one in reads)
    goes = way(part, lambda values: reads[1](values) - reads[0](values), ("site", "token"))
    return late - early, before, after, goes
