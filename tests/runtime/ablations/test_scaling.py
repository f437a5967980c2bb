"""Scaled branches and skips against hooks on the plain model, whose modules give the branch or see the stream."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hooked import CLOSE, FAMILIES, Hook, changed, edits, exact, output, places, plain
from studies import TINY_VIT, bound, study
from vitdsl import testing
from vitdsl.dsl.diagnostics import StudyError
from vitdsl.dsl.study import Entry
from vitdsl.runtime.ablations.remove_branch import RemoveBranch
from vitdsl.runtime.ablations.remove_skip import RemoveSkip
from vitdsl.runtime.ablations.scale_branch import Params as BranchParams
from vitdsl.runtime.ablations.scale_branch import ScaleBranch
from vitdsl.runtime.ablations.scale_skip import Params as SkipParams
from vitdsl.runtime.ablations.scale_skip import ScaleSkip

LAST = {  # the module whose output is what a unit adds, and the unit
    "vit": ("blocks.1.attn", "blocks.1.attn"),
    "swin": ("layers.0.blocks.1.mlp", "layers.0.blocks.1.mlp"),
    "resnet": ("layer2.0", "layer2.0.bn2"),
    "convnext": ("stages.2.blocks.0", "stages.2.blocks.0.mlp"),
    "mixer": ("blocks.3.mlp_channels", "blocks.3.mlp_channels"),
}


def branch(by: float) -> ScaleBranch:
    return ScaleBranch(BranchParams(by=by))


def skip(by: float) -> ScaleSkip:
    return ScaleSkip(SkipParams(by=by))


def times(by: float) -> Hook:
    def hook(module: nn.Module, given: Any, out: Tensor) -> Tensor:
        return out * by

    return hook


@pytest.mark.parametrize("by", [0.5, -2.0])
@pytest.mark.parametrize("name", list(FAMILIES))
def test_a_scaled_branch_is_that_of_the_plain_model(name: str, by: float) -> None:
    bench, (unit, module) = exact(name), LAST[name]
    found = output(bench, *edits(bench, branch(by), places(bench, "branch", [unit])))
    torch.testing.assert_close(found, plain(bench, {module: times(by)}), **CLOSE)


@pytest.mark.parametrize("name", list(FAMILIES))
def test_a_scaled_skip_is_that_of_the_plain_model(name: str) -> None:
    """by z + f(z) = by (z + f(z) / by): the stream behind is scaled, which a hook at the block's own parts can do."""
    bench, (unit, module) = exact(name), LAST[name]
    if name == "resnet":  # a projected shortcut is a module of its own
        hooks = {"layer2.0.downsample": times(0.25)}
    else:
        hooks = {module: times(4), **_behind(bench.sites.model, unit, 0.25)}
    found = output(bench, *edits(bench, skip(0.25), places(bench, "skip", [unit])))
    torch.testing.assert_close(found, plain(bench, hooks), **CLOSE)


def _behind(model: nn.Module, unit: str, by: float) -> dict[str, Hook]:
    """Hooks that scale the stream after a unit: at its block's end, where it is the last; else at what reads it."""
    block, _, last = unit.rpartition(".")
    if (
        last == "attn"
    ):  # the MLP reads the stream through a norm, which must see it scaled, and the block's end adds it
        seen: list[Tensor] = []

        def norm(module: nn.Module, given: tuple[Tensor], out: Tensor) -> Tensor:
            seen.append(given[0])
            return module.forward(given[0] * by)

        return {f"{block}.norm2": norm, block: lambda _, __, out: out + (by - 1) * seen.pop()}
    return {block if "mlp" in last else unit: times(by)}


@pytest.mark.parametrize("name", list(FAMILIES))
def test_zero_is_removal_and_one_is_nothing_bit_for_bit(name: str) -> None:
    bench, (unit, _) = exact(name), LAST[name]
    for kind, removal, role in ((branch, RemoveBranch, "branch"), (skip, RemoveSkip, "skip")):
        there = places(bench, role, [unit])
        found, wanted = (changed(bench, *edits(bench, one, there)) for one in (kind(0), removal(Entry())))
        assert all(torch.equal(value, wanted[node]) for node, value in found.items())
        same = changed(bench, *edits(bench, kind(1), there))
        assert all(torch.equal(value, bench.intact[node]) for node, value in same.items())


@pytest.mark.parametrize("name", list(FAMILIES))
def test_they_compose_with_each_other_and_in_the_order_of_the_study(name: str) -> None:
    bench, (unit, _) = exact(name), LAST[name]
    node = {role: bench.sites.nodes[role][unit] for role in ("branch", "skip", "stream")}
    half, twice = (
        edits(bench, kind, places(bench, kind.roles[0], [unit])) for kind in (branch(0.5), skip(2))
    )
    removed = edits(bench, RemoveBranch(Entry()), places(bench, "branch", [unit]))
    f, z = bench.intact[node["branch"]], bench.intact[node["skip"]]
    for order in ((half, twice), (twice, half)):
        found = changed(bench, *(edit for one in order for edit in one))
        torch.testing.assert_close(found[node["stream"]], 2 * z + f / 2, **CLOSE)
    found = changed(bench, *half, *half)
    torch.testing.assert_close(found[node["stream"]], z + f / 4, **CLOSE)
    for order in ((half, removed, twice), (removed, twice, half)):
        found = changed(bench, *(edit for one in order for edit in one))
        assert torch.equal(found[node["stream"]], 2 * z)


def test_some_tokens() -> None:
    bench, unit = exact("vit"), "blocks.1.mlp"
    node = {role: bench.sites.nodes[role][unit] for role in ("branch", "skip", "stream")}
    f, z = bench.intact[node["branch"]], bench.intact[node["skip"]]
    found = changed(bench, *edits(bench, branch(3), places(bench, "branch", [unit], "cls")))[node["stream"]]
    torch.testing.assert_close(found[:, :1], (z + 3 * f)[:, :1], **CLOSE)
    assert torch.equal(found[:, 1:], bench.intact[node["stream"]][:, 1:])


@pytest.mark.parametrize(("kind", "name"), [(branch(0.5), "resnet"), (skip(2), "swin")])
def test_laws(kind: ScaleBranch | ScaleSkip, name: str) -> None:
    testing.check_ablation(kind, FAMILIES[name], at=[LAST[name][0]])


@pytest.mark.parametrize("kind", ["scale_branch", "scale_skip"])
def test_a_sweep_is_one_condition_for_each_factor_and_unit(kind: str) -> None:
    text = study(
        "swept",
        data="{probe: {source: noise, total: 8, batch: 8}}",
        models={"vit": TINY_VIT},
        ablations={
            "by": f'{{kind: {kind}, of: vit, at: "blocks.*.attn", each: true, by: 1, vary: {{by: [0, 0.5]}}}}'
        },
        metrics={"ratio": "{kind: skip_ratio, of: vit}"},
    )
    conditions = bound(text).models["vit"].conditions
    assert [one.id for one in conditions[1:]] == [
        f"by@blocks.{block}.attn[by={by}]" for by in ("0", "0.5") for block in (0, 1)
    ]
    assert [one.coordinates for one in conditions[1::2]] == [{"by": 0}, {"by": 0.5}]
    for wrong, says in (("much", "a number"), (".nan", "number"), (".inf", "number")):
        with pytest.raises(StudyError) as caught:
            bound(text.replace("by: 1,", f"by: {wrong},").replace("vary: {by: [0, 0.5]}", ""))
        assert says in str(caught.value), str(caught.value)
