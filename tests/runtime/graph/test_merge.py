"""The merged graph: every condition gives what it gives alone, and what is equal is computed once."""

import gc
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, fx, nn

from studies import RESNET18, TINY_VIT, changed
from vitdsl.dsl.study import Entry, Model
from vitdsl.runtime.ablations._base import Ablation
from vitdsl.runtime.ablations.remove_branch import RemoveBranch
from vitdsl.runtime.ablations.remove_skip import RemoveSkip
from vitdsl.runtime.graph.edit import Lane, Place
from vitdsl.runtime.graph.merge import Merged, merge
from vitdsl.runtime.graph.overwrite import OVER
from vitdsl.runtime.graph.sites import Sites, same_sites, sites_of
from vitdsl.runtime.graph.tap import Reducer, Tap
from vitdsl.runtime.models.loading import load, skeleton
from vitdsl.runtime.plan.lanes import rewriting

FAMILIES = {
    "vit": Model(**changed(TINY_VIT, {"depth": 3, "num_classes": 5})),
    "resnet18": Model(**changed(RESNET18, {"num_classes": 5, "zero_init_last": False})),
    "convnext": Model(
        arch="convnext_atto", options={"depths": (1, 1, 2, 1)}, weights="random", input_size=64
    ),
    "swin": Model(
        arch="swin_tiny_patch4_window7_224",
        options={"img_size": 56, "depths": (2, 2), "embed_dim": 24, "num_heads": (2, 4), "num_classes": 5},
        weights="random",
    ),
    "efficientnet": Model(
        arch="efficientnet_b0", options={"num_classes": 5}, weights="random", input_size=32
    ),
}


def keep(tensor: Tensor, *, site: Any) -> Tensor:
    return tensor.clone()


def view(tensor: Tensor, *, site: Any) -> Tensor:
    return tensor.flatten(1)[:, :7]


def sites_for(model: Model) -> tuple[Sites, Tensor]:
    module = load(model, seed=0, folder=Path()).module
    bare = skeleton(model)
    size = (3, *[model.input_size or model.options["img_size"]] * 2)
    sites = same_sites(module, sites_of(bare, size))
    return sites, torch.randn(2, *size, generator=torch.Generator().manual_seed(0))


def lane(sites: Sites, name: str, *edits: tuple[Ablation, str]) -> Lane:
    places = [(kind, sites.place(path, kind.roles[0])) for kind, path in edits]
    return Lane(name, tuple((place, rewriting(kind, place)) for kind, place in places))


def tap(sites: Sites, path: str = "", role: str = "stream", size: Sequence[int] = (3, 32, 32)) -> Tap:
    node = sites.nodes[role][path] if path else sites.traced.output
    return Tap((node,), Reducer(keep), sites.site(path, role if path else "output"))


def together(sites: Sites, lanes: Sequence[Lane], taps: dict[str, list[Tap]]) -> Merged:
    return merge(sites.model, sites.traced.graph, lanes, taps)


def calls(module: fx.GraphModule) -> int:
    return sum(node.op.startswith("call") and "tap" not in str(node.target) for node in module.graph.nodes)


SKIP, BRANCH = RemoveSkip(Entry()), RemoveBranch(Entry())


@pytest.mark.parametrize("name", FAMILIES)
def test_each_condition_equals_itself_in_a_graph_of_its_own_bit_for_bit(name: str) -> None:
    sites, images = sites_for(FAMILIES[name])
    units = list(sites.units)
    lanes = [Lane("baseline")]
    for path in units:
        lanes += [lane(sites, f"{kind.name}@{path}", (kind, path)) for kind in (SKIP, BRANCH)]
    lanes.append(lane(sites, "two", (SKIP, units[0]), (BRANCH, units[-1])))
    lanes.append(lane(sites, "same start", (SKIP, units[0]), (SKIP, units[1])))
    wanted = [tap(sites), tap(sites, units[0]), tap(sites, units[-1], "branch")]
    merged = together(sites, lanes, {one.name: wanted for one in lanes})
    with torch.inference_mode():
        found = merged.module(images)
        outputs = set()
        alone_nodes = 0
        for one in lanes:
            alone = together(sites, [one], {one.name: wanted})
            alone_nodes += calls(alone.module)
            values = alone.module(images)
            for which in wanted:
                (ours,), (theirs,) = (
                    found[merged.slots[one.name, which]],
                    values[alone.slots[one.name, which]],
                )
                assert torch.equal(ours, theirs), (one.name, which.site.name)
            outputs.add(found[merged.slots[one.name, wanted[0]]][0].numpy().tobytes())
    assert len(outputs) == len(lanes)  # every ablation changes the output, each its own way
    assert calls(merged.module) < 0.75 * alone_nodes
    assert merged.work["merged"] < merged.work["separate"]


@pytest.mark.parametrize("name", FAMILIES)
def test_values_written_over_others_change_no_lane_and_no_tap(name: str) -> None:
    sites, images = sites_for(FAMILIES[name])
    units = list(sites.units)
    lanes = [Lane("baseline"), *(lane(sites, path, (SKIP, path)) for path in units)]
    reads = [tap(sites), *(tap(sites, path, role) for path in units for role in ("stream", "branch", "skip"))]
    reads += [Tap(one.nodes, Reducer(view), one.site) for one in reads]  # a tap may be careless
    taps = {one.name: reads for one in lanes}
    plain = merge(sites.model, sites.traced.graph, lanes, taps)
    ours = merge(sites.model, sites.traced.graph, lanes, taps, over=True)
    assert plain.slots == ours.slots and plain.work == ours.work
    assert any(OVER in node.meta for node in ours.module.graph.nodes)
    kept = images.clone()
    with torch.inference_mode():
        for (one,), (other,) in zip(plain.module(images), ours.module(images), strict=True):
            assert torch.equal(one, other)
    assert torch.equal(images, kept)


def test_lanes_share_beyond_the_baseline() -> None:
    """Two conditions with the same first edit part at the second; three units later only one of them is left."""
    sites, _ = sites_for(FAMILIES["vit"])
    first, second = (SKIP, "blocks.0.attn"), (BRANCH, "blocks.2.mlp")
    counts = []
    for lanes in (
        [lane(sites, "one", first)],
        [lane(sites, "one", first), lane(sites, "both", first, second)],
        [Lane("baseline"), lane(sites, "one", first)],
        [Lane("baseline"), lane(sites, "one", first), lane(sites, "both", first, second)],
    ):
        counts.append(calls(together(sites, lanes, {one.name: [tap(sites)] for one in lanes}).module))
    after = counts[1] - counts[0]
    assert counts[3] - counts[2] == after  # "both" costs the same with the baseline beside it
    assert after < counts[0] / 4


def test_a_condition_read_only_before_its_edit_costs_nothing() -> None:
    sites, images = sites_for(FAMILIES["vit"])
    early = tap(sites, "blocks.0.mlp")
    lanes = [Lane("baseline"), lane(sites, "late", (SKIP, "blocks.2.mlp"))]
    both = together(sites, lanes, {"baseline": [early], "late": [early]})
    assert both.slots["baseline", early] == both.slots["late", early]
    assert calls(both.module) == calls(together(sites, lanes[:1], {"baseline": [early]}).module)
    assert both.work["separate"] == 2 * both.work["merged"]
    assert len(both.module(images)) == 1


def test_a_lane_that_stands_for_the_baseline_with_edits_is_not_the_intact_model() -> None:
    """A model trained without a part has the edit in its baseline, and no intact lane at all."""
    sites, images = sites_for(FAMILIES["vit"])
    edited = lane(sites, "baseline", (SKIP, "blocks.1.attn"))
    merged = together(sites, [edited], {"baseline": [tap(sites)]})
    ((output,),) = merged.module(images)
    with torch.inference_mode():
        assert not torch.allclose(output, sites.model(images))
    other = lane(sites, "other", (SKIP, "blocks.1.attn"), (SKIP, "blocks.2.attn"))
    two = together(sites, [edited, other], {"baseline": [tap(sites)], "other": [tap(sites)]})
    assert torch.equal(two.module(images)[two.slots["baseline", tap(sites)]][0], output)


def test_several_lanes_without_edits_are_one_computation() -> None:
    sites, _ = sites_for(FAMILIES["vit"])
    merged = together(sites, [Lane("a"), Lane("b")], {"a": [tap(sites)], "b": [tap(sites, "blocks.0.mlp")]})
    assert set(merged.slots) == {("a", tap(sites)), ("b", tap(sites, "blocks.0.mlp"))}


class Counting(fx.Interpreter):
    """Runs a graph, freeing values after their last use, and counts the large tensors alive after each node."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module, garbage_collect_values=True)
        self.alive: list[weakref.ref[Tensor]] = []
        self.peak = 0

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if isinstance(value, Tensor) and value.numel() > 1000 and n.op != "get_attr":
            self.alive.append(weakref.ref(value))
        self.alive = [one for one in self.alive if one() is not None]
        self.peak = max(self.peak, sum(tensor.numel() for one in self.alive if (tensor := one()) is not None))
        return value


def test_memory_does_not_grow_with_the_number_of_conditions() -> None:
    sites, images = sites_for(FAMILIES["vit"])
    gc.collect()

    def measured(units: list[str]) -> tuple[int, int]:
        lanes = [Lane("baseline"), *(lane(sites, f"no@{path}", (SKIP, path)) for path in units)]
        norms = Tap(tap(sites).nodes, Reducer(lambda tensor, *, site: tensor.norm()), tap(sites).site)
        merged = together(sites, lanes, {one.name: [norms] for one in lanes})
        counting = Counting(merged.module)
        with torch.inference_mode():
            counting.run(images.repeat(4, 1, 1, 1))
        return counting.peak, merged.live

    (one, one_said), (all_, all_said) = measured(["blocks.0.attn"]), measured(list(sites.units))
    assert all_ <= one * 1.05
    assert all_said <= one_said * 1.05


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_random_residual_networks(data: st.DataObject) -> None:
    """Small networks with skips of any reach; random sets of edits; merged equals alone, bit for bit."""
    depth = data.draw(st.integers(2, 5))
    reach = [data.draw(st.integers(0, i)) for i in range(depth)]

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.layers = nn.ModuleList([nn.Linear(4, 4) for _ in range(depth)])

        def forward(self, x: Tensor) -> Tensor:
            values = [x]
            for layer, back in zip(self.layers, reach, strict=True):
                values.append(torch.tanh(layer(values[-1])) + values[back])
            return values[-1]

    net = Net().eval()
    graph = fx.Tracer().trace(net)
    adds = [node for node in graph.nodes if node.op == "call_function" and node.target is not torch.tanh]
    x = torch.randn(3, 4)
    site = sites_for_vector()
    edits = data.draw(
        st.lists(st.dictionaries(st.integers(0, depth - 1), st.booleans(), min_size=1), max_size=4)
    )

    def operand(node: fx.Node, which: int) -> Callable[[Any], Any]:
        return lambda build: build.value(node.args[which])

    lanes = [Lane("baseline")]
    for i, chosen in enumerate(edits):
        rewrites = {adds[at]: operand(adds[at], int(which)) for at, which in chosen.items()}
        lanes.append(Lane(f"{i}", tuple((Place(node), rewrite) for node, rewrite in rewrites.items())))
    taps = [
        Tap((node,), Reducer(keep), site) for node in data.draw(st.lists(st.sampled_from(adds), min_size=1))
    ]
    taps = list(dict.fromkeys(taps))
    merged = merge(net, graph, lanes, {one.name: taps for one in lanes})
    for one in lanes:
        alone = merge(net, graph, [one], {one.name: taps})
        for which in taps:
            ours = merged.module(x)[merged.slots[one.name, which]][0]
            assert torch.equal(ours, alone.module(x)[alone.slots[one.name, which]][0])


def sites_for_vector() -> Any:
    from vitdsl.runtime.graph.site import Site

    return Site("x", "output", (4,), "vector", 0.0)
