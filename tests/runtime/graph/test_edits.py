"""Edits at places: composed in order, seen by those whom the role speaks of, at some tokens alone."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from studies import TINY_VIT, bound, changed, study
from vitdsl.dsl.study import Entry, Model
from vitdsl.runtime.ablations._base import Ablation
from vitdsl.runtime.ablations.remove_branch import RemoveBranch
from vitdsl.runtime.ablations.remove_skip import RemoveSkip
from vitdsl.runtime.graph.edit import Lane, Operation, Place, Rewriter
from vitdsl.runtime.graph.merge import Merged, merge
from vitdsl.runtime.graph.sites import Sites, same_sites, sites_of
from vitdsl.runtime.graph.tap import Reducer, Tap
from vitdsl.runtime.models.loading import load, skeleton
from vitdsl.runtime.plan.lanes import rewriting

MODEL = Model(**changed(TINY_VIT, {"depth": 3, "num_classes": 5}))
SKIP, BRANCH = RemoveSkip(Entry()), RemoveBranch(Entry())
IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def twice(tensor: Tensor) -> Tensor:
    return tensor * 2


def plus_one(tensor: Tensor) -> Tensor:
    return tensor + 1


class Apply(Ablation):
    """Any operation at any place."""

    name = "apply"
    roles = ("output", "input", "stream", "skip", "branch", "attention", "heads")

    def __init__(self, function: Any) -> None:
        super().__init__(Entry())
        self.function = function

    def rewrite(self, place: Place, build: Rewriter) -> Any:
        return build.call(Operation(self.function), build.before)


def keep(tensor: Tensor, *, site: Any) -> Tensor:
    return tensor.clone()


@pytest.fixture(scope="module")
def sites() -> Sites:
    module = load(MODEL, seed=0, folder=Path()).module
    return same_sites(module, sites_of(skeleton(MODEL), (3, 32, 32)))


def tap(sites: Sites, name: str = "", role: str = "output") -> Tap:
    node = sites.nodes[role][name] if name else sites.traced.output
    return Tap((node,), Reducer(keep), sites.site(name, role))


def lane(sites: Sites, *edits: tuple[Ablation, Place]) -> Lane:
    return Lane("edited", tuple((place, rewriting(kind, place)) for kind, place in edits))


def together(sites: Sites, edited: Lane, taps: list[Tap]) -> Merged:
    return merge(
        sites.model, sites.traced.graph, [Lane("baseline"), edited], {"baseline": taps, "edited": taps}
    )


def read(sites: Sites, edited: Lane, taps: list[Tap]) -> dict[str, list[Tensor]]:
    """What some taps give in both lanes."""
    merged = together(sites, edited, taps)
    with torch.inference_mode():
        found = merged.module(IMAGES)
    return {
        name: [found[merged.slots[name, one]][0].clone() for one in taps] for name in ("baseline", "edited")
    }


@pytest.mark.parametrize("order", [1, -1])
def test_a_removed_skip_stays_removed_where_the_branch_goes_too(sites: Sites, order: int) -> None:
    """Once the second edit at an add replaced the first: the stream was the skip again, bit for bit."""
    name = "blocks.1.attn"
    edits = [(SKIP, sites.place(name, "skip")), (BRANCH, sites.place(name, "branch"))][::order]
    found = read(sites, lane(sites, *edits), [tap(sites, name, "stream"), tap(sites, name, "skip")])
    stream, skip = found["edited"]
    assert not stream.any()
    assert skip.any()


def test_a_removed_skip_or_branch_costs_no_operation(sites: Sites) -> None:
    name = "blocks.1.attn"
    for kind, role, other in ((SKIP, "skip", "branch"), (BRANCH, "branch", "skip")):
        edited = lane(sites, (kind, sites.place(name, role)))
        merged = together(sites, edited, [tap(sites, name, "stream")])
        assert not [node for node in merged.module.graph.nodes if "edit" in str(node.target)]
        found = read(sites, edited, [tap(sites, name, "stream"), tap(sites, name, other)])
        assert torch.equal(*found["edited"])


@pytest.mark.parametrize("role", ["output", "stream", "heads", "attention"])
def test_two_edits_at_one_tensor_apply_in_order(sites: Sites, role: str) -> None:
    name = "blocks.1.attn"
    place, here = sites.place(name, role), tap(sites, name, role)
    one = read(sites, lane(sites, (Apply(twice), place), (Apply(plus_one), place)), [here])
    other = read(sites, lane(sites, (Apply(plus_one), place), (Apply(twice), place)), [here])
    (intact,) = one["baseline"]
    assert torch.equal(one["edited"][0], intact * 2 + 1)
    assert torch.equal(other["edited"][0], (intact + 1) * 2)


@pytest.mark.parametrize("role", ["skip", "branch"])
def test_two_edits_at_one_operand_apply_in_order_and_the_others_see_nothing(sites: Sites, role: str) -> None:
    name = "blocks.1.attn"
    place = sites.place(name, role)
    taps = [tap(sites, name, one) for one in ("stream", "skip", "branch")]
    found = read(sites, lane(sites, (Apply(twice), place), (Apply(plus_one), place)), taps)
    stream, skip, branch = found["edited"]
    assert torch.equal(skip, found["baseline"][1]) and torch.equal(branch, found["baseline"][2])
    changed = skip * 2 + 1 + branch if role == "skip" else skip + (branch * 2 + 1)
    torch.testing.assert_close(stream, changed)


def test_an_edit_behind_another_sees_what_it_left(sites: Sites) -> None:
    """A removed branch below, then a doubled stream above: the doubled one is of the changed stream."""
    low, high = sites.place("blocks.0.mlp", "branch"), sites.place("blocks.2.mlp", "stream")
    taps = [tap(sites, "blocks.2.mlp", role) for role in ("stream", "skip", "branch")]
    found = read(sites, lane(sites, (BRANCH, low), (Apply(twice), high)), taps)
    stream, skip, branch = found["edited"]
    assert torch.equal(stream, (skip + branch) * 2)
    assert not torch.allclose(skip, found["baseline"][1])


def test_the_input_of_a_module_is_seen_by_that_module_alone(sites: Sites) -> None:
    """The stream before a block feeds its first norm and its skip; the input of the norm is the norm's."""
    place = sites.place("blocks.1.norm1", "input")
    taps = [tap(sites, "blocks.1.attn", "skip"), tap(sites, "blocks.1.norm1"), tap(sites, "blocks.0")]
    found = read(sites, lane(sites, (Apply(plus_one), place)), taps)
    assert torch.equal(found["edited"][0], found["baseline"][0])
    assert torch.equal(found["edited"][2], found["baseline"][2])
    with torch.inference_mode():
        wanted = sites.model.get_submodule("blocks.1.norm1")(found["baseline"][2] + 1)
    torch.testing.assert_close(found["edited"][1], wanted)


def test_the_input_of_a_block_is_seen_by_all_of_the_block(sites: Sites) -> None:
    place = sites.place("blocks.1", "input")
    found = read(sites, lane(sites, (Apply(twice), place)), [tap(sites, "blocks.1"), tap(sites, "blocks.0")])
    assert torch.equal(found["edited"][1], found["baseline"][1])
    with torch.inference_mode():
        wanted = sites.model.get_submodule("blocks.1")(found["baseline"][1] * 2)
    torch.testing.assert_close(found["edited"][0], wanted)


@pytest.mark.parametrize(
    ("tokens", "changed"),
    [("cls", [0]), ("spatial", list(range(1, 17))), ((3, -1), [3, 16]), ("all", list(range(17)))],
)
def test_only_the_selected_tokens_change(sites: Sites, tokens: Any, changed: list[int]) -> None:
    name = "blocks.1.mlp"
    place = sites.place(name, "skip", tokens=tokens)
    found = read(sites, lane(sites, (SKIP, place)), [tap(sites, name, one) for one in ("stream", "branch")])
    stream, branch = found["edited"]
    kept = [token for token in range(17) if token not in changed]
    assert torch.equal(stream[:, changed], branch[:, changed])
    assert torch.equal(stream[:, kept], found["baseline"][0][:, kept])


@pytest.mark.parametrize("tokens", ["spatial", (0, 5)])
def test_tokens_of_a_map_are_its_positions(tokens: Any) -> None:
    model = Model(arch="resnet18", options={"num_classes": 5}, weights="random", input_size=32)
    module = load(model, seed=0, folder=Path()).module
    there = same_sites(module, sites_of(skeleton(model), (3, 32, 32)))
    place = there.place("layer2.0", "output", tokens=tokens)
    found = read(there, lane(there, (Apply(plus_one), place)), [tap(there, "layer2.0")])
    difference = (found["edited"][0] - found["baseline"][0]).flatten(2)
    changed = list(range(16)) if tokens == "spatial" else [0, 5]
    kept = [token for token in range(16) if token not in changed]
    torch.testing.assert_close(difference[..., changed], torch.ones(2, 128, len(changed)))
    assert not difference[..., kept].any()


def test_one_tensor_under_two_names_is_reduced_once(sites: Sites) -> None:
    """A block's output is the stream after its second unit."""
    taps = [tap(sites, "blocks.1"), tap(sites, "blocks.1.mlp", "stream")]
    assert taps[0] != taps[1]
    merged = merge(sites.model, sites.traced.graph, [Lane("baseline")], {"baseline": taps})
    assert len({merged.slots["baseline", one] for one in taps}) == 1
    assert sum(str(node.target).startswith("tap") for node in merged.module.graph.nodes) == 1


def test_a_model_trained_without_a_skip_keeps_it_out_where_the_branch_is_removed() -> None:
    from vitdsl.runtime.plan.lanes import lane_of

    trained = changed(
        TINY_VIT, {"depth": 3}, weights=None, train="{data: {source: digits, split: train}, without: no_skip}"
    )
    text = study(
        "both",
        data="{probe: {source: noise, total: 8, batch: 8}}",
        models={"vit": trained},
        ablations={
            "no_skip": '{kind: remove_skip, of: vit, at: "blocks.1.attn"}',
            "no_branch": '{kind: remove_branch, of: vit, at: "blocks.*.attn", each: true}',
        },
        metrics={"ratio": "{kind: skip_ratio, of: vit}"},
    )
    planned = bound(text).models["vit"]
    module = load(planned.entry, seed=0, folder=Path()).module
    there = same_sites(module, planned.sites)
    wanted = [tap(there, "blocks.1.attn", role) for role in ("stream", "skip")]
    lanes = [lane_of(planned, condition, there) for condition in planned.conditions]
    merged = merge(module, there.traced.graph, lanes, {one.name: wanted for one in lanes})
    with torch.inference_mode():
        found = merged.module(IMAGES)
    stream, skip = (found[merged.slots["no_branch@blocks.1.attn", one]][0] for one in wanted)
    assert not torch.equal(stream, skip)
    assert not stream.any()
