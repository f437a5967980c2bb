"""Units, blocks and stages that are passed by, against the plain model with blocks that give what they are given."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hooked import CLOSE, FAMILIES, changed, edits, exact, output, places, plain
from studies import TINY_VIT, bound, study
from vitdsl import testing
from vitdsl.dsl.diagnostics import StudyError
from vitdsl.dsl.study import Entry
from vitdsl.runtime.ablations.remove_branch import RemoveBranch
from vitdsl.runtime.ablations.remove_skip import RemoveSkip
from vitdsl.runtime.ablations.remove_unit import RemoveUnit, units_of

UNIT = RemoveUnit(Entry())
BLOCK = {
    "vit": ("blocks.1", ["blocks.1.attn", "blocks.1.mlp"]),
    "swin": ("layers.0.blocks.1", ["layers.0.blocks.1.attn", "layers.0.blocks.1.mlp"]),
    "resnet": ("layer1.0", ["layer1.0"]),
    "convnext": ("stages.2.blocks.1", ["stages.2.blocks.1"]),
    "mixer": ("blocks.3", ["blocks.3.mlp_tokens", "blocks.3.mlp_channels"]),
}
STAGE = {  # a stage, and the blocks in it that a hook makes pass on what they are given
    "vit": ("blocks", ["blocks.0", "blocks.1", "blocks.2"]),
    "swin": ("layers.1", ["layers.1.blocks.0", "layers.1.blocks.1"]),
    "convnext": ("stages.2", ["stages.2.blocks.0", "stages.2.blocks.1"]),
    "mixer": ("blocks", [f"blocks.{i}" for i in range(8)]),
}


def passes_on(module: nn.Module, given: tuple[Any, ...], out: Tensor) -> Tensor:
    first: Tensor = given[0]
    return first


def shortcut(module: Any, given: tuple[Tensor], out: Tensor) -> Tensor:
    """What a ResNet's block gives without its branch."""
    found: Tensor = module.act2(given[0] if module.downsample is None else module.downsample(given[0]))
    return found


@pytest.mark.parametrize("name", list(FAMILIES))
def test_a_block_without_its_units_gives_what_it_is_given(name: str) -> None:
    bench, (block, units) = exact(name), BLOCK[name]
    some = edits(bench, UNIT, places(bench, "output", [block]))
    assert [place.site.name for place, _ in some if place.site] == units
    values = changed(bench, *some)
    assert torch.equal(values[bench.sites.nodes["output"][block]], values[bench.sites.nodes["input"][block]])
    torch.testing.assert_close(output(bench, *some), plain(bench, {block: passes_on}), **CLOSE)


@pytest.mark.parametrize("name", list(STAGE))
def test_a_stage_without_its_units_keeps_what_stands_between_them(name: str) -> None:
    """Such as the downsampling at the head of a stage, which is no unit."""
    bench, (stage, blocks) = exact(name), STAGE[name]
    found = output(bench, *edits(bench, UNIT, places(bench, "output", [stage])))
    torch.testing.assert_close(found, plain(bench, dict.fromkeys(blocks, passes_on)), **CLOSE)


@pytest.mark.parametrize("stage", ["layer2", "layer2.0"])
def test_a_projected_shortcut_stays(stage: str) -> None:
    bench = exact("resnet")
    (unit,) = units_of(bench.sites.place(stage, "output"))
    assert bench.sites.units[unit].projected
    some = edits(bench, UNIT, places(bench, "output", [stage]))
    torch.testing.assert_close(output(bench, *some), plain(bench, {"layer2.0": shortcut}), **CLOSE)
    stream, skip = (bench.sites.nodes[role][unit] for role in ("stream", "skip"))
    assert torch.equal(changed(bench, *some)[stream], bench.intact[skip])


@pytest.mark.parametrize("name", list(FAMILIES))
def test_a_single_unit_is_a_removed_branch(name: str) -> None:
    bench, (_, units) = exact(name), BLOCK[name]
    one, other = (
        changed(bench, *edits(bench, kind, places(bench, role, units[-1:])))
        for kind, role in ((UNIT, "output"), (RemoveBranch(Entry()), "branch"))
    )
    assert all(torch.equal(value, other[node]) for node, value in one.items())


def test_the_class_token_alone_passes_by_a_block() -> None:
    bench = exact("vit")
    some = edits(bench, UNIT, places(bench, "output", ["blocks.1"], "cls"))
    found = changed(bench, *some)[bench.sites.nodes["output"]["blocks.1"]]
    before, after = (bench.intact[bench.sites.nodes[role]["blocks.1"]] for role in ("input", "output"))
    assert torch.equal(found[:, 0], before[:, 0])
    assert torch.equal(found[:, 1:], after[:, 1:])


def test_with_other_edits_in_the_order_of_the_study() -> None:
    """Without the skip of one of its units nothing of the stream before the block is left, whichever comes first."""
    bench = exact("vit")
    block = edits(bench, UNIT, places(bench, "output", ["blocks.1"]))
    skip = edits(bench, RemoveSkip(Entry()), places(bench, "skip", ["blocks.1.mlp"]))
    for order in ((block, skip), (skip, block)):
        values = changed(bench, *(edit for one in order for edit in one))
        assert not values[bench.sites.nodes["output"]["blocks.1"]].any()
    lower = edits(bench, RemoveBranch(Entry()), places(bench, "branch", ["blocks.0.mlp"]))
    values = changed(bench, *lower, *block)
    came_in = bench.intact[bench.sites.nodes["skip"]["blocks.0.mlp"]]
    assert torch.equal(values[bench.sites.nodes["output"]["blocks.1"]], came_in)


@pytest.mark.parametrize("name", list(FAMILIES))
def test_what_holds_no_unit_is_refused(name: str) -> None:
    bench = exact(name)
    head = bench.sites.names("output")[-1]
    assert "holds none" in (UNIT.refuse_place(bench.sites.place(head, "output")) or "")


@pytest.mark.parametrize(("name", "at"), [("swin", "layers.0.blocks.1"), ("resnet", "layer2")])
def test_laws(name: str, at: str) -> None:
    testing.check_ablation(UNIT, FAMILIES[name], at=[at])


STUDY = study(
    "units",
    data="{probe: {source: noise, total: 8, batch: 8}}",
    models={"vit": TINY_VIT},
    ablations={"gone": '{kind: remove_unit, of: vit, at: "blocks.*", each: true}'},
    metrics={"ratio": "{kind: skip_ratio, of: vit}"},
)


def test_each_block_is_one_condition_with_the_name_and_depth_of_the_block() -> None:
    from vitdsl.runtime.plan.frames import frame

    plan = bound(STUDY)
    coords = frame(plan, plan.groups[0]).coords
    assert coords["condition"].values.tolist() == ["baseline", "gone@blocks.0", "gone@blocks.1"]
    assert coords["ablated_site"].values.tolist() == ["", "blocks.0", "blocks.1"]
    assert coords["ablated_depth"].values[1:].tolist() == [0.5, 1.0]
    branches = bound(STUDY.replace("remove_unit", "remove_branch")).models["vit"].conditions
    assert len(branches) == 1 + 4, "a removed branch is one condition for each"


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ('at: "blocks.0.norm1"', "it is no residual unit and holds none"),
        ('at: "blocks.*", role: stream', "`remove_unit` acts on `output`, not on `stream`"),
        ('at: "blocks.*", tokens: [99]', "it has 17 tokens, so there is no token 99"),
    ],
)
def test_errors(fields: str, says: str) -> None:
    with pytest.raises(StudyError) as caught:
        bound(STUDY.replace('at: "blocks.*"', fields))
    assert says in str(caught.value)
