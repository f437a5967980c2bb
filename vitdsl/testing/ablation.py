"""The laws of ablations, on real models: they change their place, and nothing that does not lie behind it.

Does not own how edits compose and lanes merge (`runtime.graph`), or how a lane is laid and read here (`bench`).
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from vitdsl.dsl.study import Model
from vitdsl.runtime.ablations._base import Ablation
from vitdsl.runtime.graph.edit import Lane, Place
from vitdsl.runtime.graph.sites import Sites
from vitdsl.runtime.graph.tokens import as_tokens, refuse_tokens
from vitdsl.testing.bench import BASELINE, EDITED, Bench, Values, mark, marked
from vitdsl.testing.law import hold, law
from vitdsl.testing.page import check_page

SMALL_VIT = Model(
    arch="vit_tiny_patch16_224",
    options={"img_size": 32, "patch_size": 8, "embed_dim": 24, "num_heads": 3, "depth": 3, "num_classes": 5},
    weights="random",
)
"""The model that every ablation is held to: 17 tokens of width 24, three blocks, built in no time."""
CHOICES: tuple[str | tuple[int, ...], ...] = ("cls", "spatial", (1, -1))


def check_ablation(
    kind: Ablation,
    model: Model | None = None,
    *,
    at: Sequence[str] = (),
    folder: Path = Path(),
    seed: int = 0,
) -> None:
    """Hold an ablation to the laws, at some places of a small ViT and of a model of yours.

    The laws: `page` (its page is whole), `places` (there are some that it does not refuse), `same twice`, `something
    changes` (the value at the place, finite and of the same shape, and what is computed from it), `nothing else
    changes` (neither what is not computed from the place nor the intact model beside it), `merged as alone` (bit for
    bit), `in order` (with another edit at its place), `chosen tokens` (where tokens are named, these alone change).

    Args:
        kind: The ablation with its parameters.
        model: A model as a study names it, where the ablation is for others than ViTs.
        at: Names of places in your model (in the small ViT without one); otherwise the first, middle and last.
        folder: Where relative paths of the model's weights start.
        seed: For weights and images that are drawn.

    Raises:
        LawBroken: The first law that does not hold, by name and place.
    """
    check_page(type(kind))
    tried = 0
    for entry in [SMALL_VIT] if model is None else [SMALL_VIT, model]:
        last = entry is (model or SMALL_VIT)
        with law("places", of=f"`{entry.arch}`"):
            bench = Bench.of(entry, folder, seed)
            places = _places(kind, bench.sites, at if last else ())
            hold(bool(places) or not last, f"none with a role of {kind.roles} that it does not refuse")
        for place in places:
            _check_place(kind, bench, place)
        tried += len(places)


def _places(kind: Ablation, sites: Sites, at: Sequence[str]) -> list[Place]:
    found = []
    for role in kind.roles:
        names = [name for name in sites.names(role) if kind.refuse_place(sites.place(name, role)) is None]
        some = [names[0], names[len(names) // 2], names[-1]] if names else []
        found += [one for name in dict.fromkeys(at or some) for one in kind.places(sites.place(name, role))]
    return found


def _check_place(kind: Ablation, bench: Bench, place: Place) -> None:
    assert place.site is not None
    where = f"`{place.site.name}` ({place.site.role})"
    rewrite = bench.rewrite(kind, place)
    lane = Lane(EDITED, ((place, rewrite),))
    lanes = [Lane(BASELINE), lane]

    with law("same twice", where):
        both = bench.read(lanes)
        _equal(both[EDITED], bench.read(lanes, times=2)[EDITED], "another value the second time at")
    before = bench.at_place(place, [])
    with law("something changes", where):
        after = bench.at_place(place, [rewrite])
        hold(after.shape == before.shape, f"shape {list(after.shape)} instead of {list(before.shape)}")
        hold(after.dtype == before.dtype, f"{after.dtype} instead of {before.dtype}")
        hold(bool(after.isfinite().all()), "a value is not finite")
        hold(not torch.equal(after, before), "the value at the place is the model's own")
        behind = bench.behind(place)
        moved = [node for node in behind if not torch.equal(both[EDITED][node], bench.intact[node])]
        hold(bool(moved), "nothing that is computed from the place changes")
    with law("nothing else changes", where):
        _equal(both[BASELINE], bench.intact, "the intact model beside it changes at")
        kept = {node: value for node, value in bench.intact.items() if node not in behind}
        _equal(
            {node: both[EDITED][node] for node in kept},
            kept,
            "what is not computed from the place changes at",
        )
    with law("merged as alone", where):
        _equal(bench.read([lane])[EDITED], both[EDITED], "another value than beside the intact model at")
    with law("in order", where):
        found = bench.at_place(place, [rewrite, marked])
        hold(torch.equal(found, mark(after)), "an edit after it does not see what it left")
        found, wanted = bench.at_place(place, [marked, rewrite]), bench.by_hand(place, rewrite, before)
        torch.testing.assert_close(
            found,
            wanted,
            rtol=1e-4,
            atol=1e-5,
            msg=lambda words: f"it does not see the edit before it: {words}",
        )
    with law("chosen tokens", where):
        _check_tokens(kind, bench, place, before, after)


def _check_tokens(kind: Ablation, bench: Bench, place: Place, before: Tensor, after: Tensor) -> None:
    """At the chosen tokens what the ablation gives without a choice, at all others the model's own."""
    assert place.site is not None
    for tokens in CHOICES:
        chosen = replace(place, site=replace(place.site, tokens=tokens))
        site = chosen.site
        assert site is not None
        if site.layout not in ("tokens", "map", "map_last") or refuse_tokens(site) or kind.refuse(site):
            continue
        found = as_tokens(bench.at_place(chosen, [bench.rewrite(kind, chosen)]), site)
        own, full = as_tokens(before, site), as_tokens(after, site)
        count, first = found.shape[1], site.prefix or 0
        named = {"cls": [0], "spatial": list(range(first, count))}
        some = named[tokens] if isinstance(tokens, str) else [token % count for token in tokens]
        others = [token for token in range(count) if token not in some]
        hold(torch.equal(found[:, others], own[:, others]), f"`{tokens}` changes other tokens")
        hold(torch.equal(found[:, some], full[:, some]), f"`{tokens}` gives other values than all tokens")


def _equal(found: Values, wanted: Values, otherwise: str) -> None:
    differ = [str(node) for node, value in wanted.items() if not _alike(found[node], value)]
    hold(not differ, f"{otherwise} {', '.join(differ[:5])}")


def _alike(one: Tensor, other: Tensor) -> bool:
    """Bit for bit, NaN being NaN."""
    return one.shape == other.shape and torch.allclose(one, other, rtol=0, atol=0, equal_nan=True)
