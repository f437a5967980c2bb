"""What the page of `vitdsl look` shows of one image, part by part: answers, attention, fields, norms, layers.

Owns which maps are shown, and what is said of each part. Does not own the numbers (`sight`), the pictures of maps
(`tiles`), or the page around the parts (`look`).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from vitdsl.reports.figures._attention import some
from vitdsl.reports.figures._base import figure_of
from vitdsl.reports.labels import listing, number, plural
from vitdsl.reports.parts import Array, Part
from vitdsl.reports.sight import Answer, View
from vitdsl.reports.tables import longest
from vitdsl.reports.tiles import Row, Tile, logarithmic, source_of
from vitdsl.reports.views import PlotView, plot_views

BLOCKS, HEADS, LAYERS, ROLLED = 6, 16, 12, 6
"""So many are shown at most, evenly spaced, the first and the last among them."""
FIELD_DECADES = 4.0
ALIKE = 0.9995
"""Layers of which all pairs reach this are said to be alike, and not drawn."""


@dataclass(frozen=True)
class Piece:
    """One part of what is shown of an image: heading, lead, caption, tiles in rows, or a figure of the report.

    Where it stands `beside` the image, the image is shown again at its side.
    """

    id: str
    title: str
    lead: str
    caption: str = ""
    rows: tuple[Row, ...] = ()
    size: str = "small"
    answers: tuple[Answer, ...] = ()
    table: tuple[tuple[str, ...], ...] = ()
    plot: PlotView | None = None
    beside: bool = False


def pieces(view: View, marks: dict[str, Any]) -> Iterator[Piece]:
    """Everything that is shown of an image, in order.

    Args:
        view: What was found in it.
        marks: Receives what the page shows under the pointer.
    """
    for some_of in (_answers, _attention, _rollout, _field, _norms):
        yield from some_of(view)
    yield from _alike(view, marks)


def hero(view: View) -> Iterator[Tile]:
    """The image, and over it the maps that say most."""
    yield Tile("what the model gets", "", "the image after preprocessing, normalisation undone")
    rollout, attention = view.values("rollout", "map"), view.values("attention", "map")
    if rollout is not None:
        last = view.names("rollout")[-1]
        yield _tile(rollout[-1], "attention rollout", f"{last}, attention rollout", view.even, place=last)
    if attention is not None:
        last, name = view.names("attention")[-1], f"attention of the {view.query}"
        mean = np.nanmean(attention[-1], 0)
        yield _tile(mean, name, f"{last}, {name}, mean over heads", view.even, place=last)
    norms, names = view.values("norms", "map"), view.names("norms")
    if norms is not None:
        for i in [len(norms) - 1] if attention is not None else some(len(norms), 3):
            yield _tile(norms[i], "token norms", f"{names[i]}, norms", None, place=names[i])


def _tile(
    values: Array, name: str, said: str, even: float | None, *, place: str = "", note: str = ""
) -> Tile:
    """A map, with its largest value: in times of even attention, where that is known.

    Args:
        values: The map.
        name: What stands below it.
        said: The same in full.
        even: The weight of even attention, for maps of attention.
        place: The layer, for a map that lies over the photograph.
        note: The number below it; the largest value if not given.
    """
    top = float(np.nanmax(values)) if np.isfinite(values).any() else float("nan")
    times = f"{number(top / even)}\N{MULTIPLICATION SIGN}" if even else number(top)
    marked = " log" if logarithmic(values) else ""
    said += f": largest {number(top)}"
    said += f", {number(top / even)} times even attention" if even else f", smallest {number(_least(values))}"
    note = (note or f"{place} {times}".strip()) + marked
    return Tile(name, note, said, source_of(values), bool(place))


def _least(values: Array) -> float:
    return float(np.nanmin(values)) if np.isfinite(values).any() else float("nan")


def _answers(view: View) -> Iterator[Piece]:
    found = view.answers
    if found:
        top = found[0]
        lead = f"The likeliest answer is {top.said}, with a confidence of {_percent(top.confidence)}."
        if view.sight.cautions:
            lead = f"It would say {top.said}, {_percent(top.confidence)}: this means nothing."
        yield Piece(f"i{view.number}-answers", "Answers", lead, answers=tuple(found))


def _attention(view: View) -> Iterator[Piece]:
    maps = view.values("attention", "map")
    if maps is None:
        return
    names, heads = view.names("attention"), view.names("attention", "head")
    rows = []
    for i in some(len(names), BLOCKS):
        real = [h for h in range(len(heads)) if np.isfinite(maps[i, h]).any()]
        chosen = [real[j] for j in some(len(real), HEADS)]
        tiles = tuple(
            _tile(maps[i, h], f"head {heads[h]}", f"{names[i]}, head {heads[h]}", view.even) for h in chosen
        )
        less = f"{len(chosen)} of {len(real)} heads" if len(chosen) < len(real) else ""
        rows.append(Row(names[i], less, tiles))
    said = view.widths
    ends = [said[0], said[-1]] if len(said) > 1 else said
    words = listing([f"{_percent(middle)} in {name}" for name, _, middle, _ in ends])
    less = f" {len(rows)} of {plural(len(names), 'block')} are shown." if len(rows) < len(names) else ""
    yield Piece(
        f"i{view.number}-attention",
        f"Attention of the {view.query}",
        f"Half of what a head gives to patches lies within this share of the image, median over heads: {words}.",
        f"One map for each head, a row of heads for each block: what the {view.query} gives to each patch. The number "
        f"is the largest weight, in times of even attention (1 / {round(1 / view.even)}).{less}",
        tuple(rows),
        beside=True,
    )


def _rollout(view: View) -> Iterator[Piece]:
    maps, names = view.values("rollout", "map"), view.names("rollout")
    if maps is None:
        return
    chosen = some(len(names), ROLLED)
    tiles = tuple(_tile(maps[i], names[i], f"{names[i]}, rollout", view.even) for i in chosen)
    less = f" {len(tiles)} of {plural(len(names), 'block')} are shown." if len(tiles) < len(names) else ""
    whose = view.query if view.query == "class token" else "mean over all patches"
    yield Piece(
        f"i{view.number}-rollout",
        "Attention rollout",
        "From which patches a block may have taken what it carries, if attention and skips alone moved it.",
        f"The attention of all blocks up to each one, multiplied, skips included, mean over heads: {whose}. Numbers as "
        f"above: times even attention.{less}",
        (Row("", "", tiles),),
        "middle",
    )


def _field(view: View) -> Iterator[Piece]:
    maps, found = view.values("field", "map"), view.fields
    if maps is None:
        return
    tiles = []
    for i, (name, half, most) in enumerate(found):
        centre = view.sight.centres[name]
        circles = tuple((*centre, radius) for radius in (half, most) if np.isfinite(radius))
        note = f"{number(half, 2)} px, {number(most, 2)} px" + (" log" if logarithmic(maps[i]) else "")
        said = f"{name}: half of the gradient within {number(half)} px, 90 % within {number(most)} px"
        tiles.append(Tile(name, note, said, source_of(maps[i], FIELD_DECADES), circles=circles))
    known = [one for one in found if np.isfinite(one[2])]
    ends = [known[0], known[-1]] if len(known) > 1 else known
    words = listing([f"{number(most)} px in {name}" for name, _, most in ends])
    channels = view.sight.run.manifest.metrics[f"field_{view.number}"].params.get("channels")
    yield Piece(
        f"i{view.number}-field",
        "Effective receptive field",
        f"Nine tenths of the gradient of a layer's centre lie within {words}." if words else "Not defined.",
        "Which pixels the centre position of a layer depends on: the mean absolute gradient of "
        f"{channels} channels, evenly spaced. The circles hold half, and 90 %, of it; so say the numbers. Distances "
        f"are from the middle of the centre patch.",
        (Row("", "", tuple(tiles)),),
        "large",
    )


def _norms(view: View) -> Iterator[Piece]:
    maps, names = view.values("norms", "map"), view.names("norms")
    means, shares = view.values("norms", "mean"), view.values("norms", "outlier_share")
    if maps is None or means is None or shares is None:
        return
    groups = view.names("norms", "token")
    chosen = some(len(names), LAYERS)
    tiles = []
    for i in chosen:
        low, top = number(_least(maps[i]), 2), number(float(np.nanmax(maps[i])), 2)
        tiles.append(_tile(maps[i], names[i], f"{names[i]}, norms", None, note=f"{low} to {top}"))
    most = int(np.nanargmax(shares)) if np.isfinite(shares).any() else 0
    lead = "No token stands out by its norm in any layer."
    if shares[most] * maps[most].size >= 1:
        lead = f"Tokens stand out most in {names[most]}: {_percent(float(shares[most]))} of them."
    words = {"cls": "class token", "registers": "registers", "spatial": "patches"}
    last = listing([f"{words[group]} {number(float(means[-1, i]))}" for i, group in enumerate(groups)])
    less = f" {len(tiles)} of {plural(len(names), 'layer')} are shown." if len(tiles) < len(names) else ""
    yield Piece(
        f"i{view.number}-norms",
        "Token norms",
        lead,
        f"The norm of each place's features; the numbers are the smallest and the largest. A token stands out where "
        "its log norm is more than 5 median absolute deviations above the median. "
        f"Mean norms in {names[-1]}: {last}.{less}",
        (Row("", "", tuple(tiles)),),
        "middle",
    )


def _alike(view: View, marks: dict[str, Any]) -> Iterator[Piece]:
    steps, nearest = view.steps, view.nearest
    path = next(
        (path for path in view.sight.run.groups if path.strip("/").startswith(f"alike_{view.number}/")), ""
    )
    if not path or not nearest:
        return
    part = Part(path, view.sight.run.groups[path], "cka")
    least = float(np.nanmin(part.array.values))
    plot, lead = None, f"All layers are alike: token-wise CKA is {number(least, 4)} or more for each pair."
    if least < ALIKE:
        found = figure_of(part).plot(f"i{view.number}-alike-cka", [part])
        (plot,) = plot_views([found], longest([found.size]), {}, marks)
        lead = ""
        if steps:
            name, then, value = min(steps, key=lambda step: step[2])
            lead = f"From one layer to the next, places change most between {name} and {then}: "
            lead += f"token-wise CKA {number(value)}."
    grid = view.sight.run.manifest.metrics[f"alike_{view.number}"].params.get("grid")
    averaged = f" Layers are first averaged to {grid[0]} x {grid[1]} places." if grid else ""
    yield Piece(
        f"i{view.number}-alike",
        "Layers that are alike",
        lead,
        "Token-wise CKA: whether two layers put the same pairs of places of this image close together (linear CKA with "
        "unbiased HSIC, whose samples are the image's spatial tokens). It is not the CKA of many images, and says "
        f"nothing of how layers tell images apart.{averaged}",
        table=tuple((name, other, number(value)) for name, other, value in nearest),
        plot=plot,
    )


def _percent(share: float) -> str:
    return f"{number(100 * share, 2)} %"
