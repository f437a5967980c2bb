"""A class token that is put back, against the plain model whose blocks are given an earlier one by hooks."""

from typing import Any

import pytest
import torch
from torch import Tensor

from hooked import CLOSE, Hook, changed, edits, exact, output, places, plain
from studies import TINY_VIT, bound, study
from vitdsl import testing
from vitdsl.dsl.diagnostics import StudyError
from vitdsl.dsl.study import Entry, Model
from vitdsl.runtime.ablations.freeze_cls import FreezeCls, Params
from vitdsl.runtime.ablations.remove_branch import RemoveBranch
from vitdsl.runtime.kinds import explain
from vitdsl.testing.bench import Bench

REGISTERS = Model(
    arch="vit_small_patch14_reg4_dinov2",
    options={
        "img_size": 28,
        "embed_dim": 24,
        "num_heads": 3,
        "depth": 3,
        "num_classes": 5,
        "init_values": 0.5,
    },
    weights="random",
)


def kind(origin: str) -> FreezeCls:
    return FreezeCls(Params(**{"from": origin}))


def frozen(origin: str, at: list[str]) -> dict[str, Hook]:
    """Hooks that keep the class token that one module gives, and put it into what others give."""
    kept: list[Tensor] = []

    def keep(module: Any, given: Any, out: Tensor) -> None:
        kept.append(out[:, 0].clone())

    def put(module: Any, given: Any, out: Tensor) -> Tensor:
        out = out.clone()
        out[:, 0] = kept[0]
        return out

    return {origin: keep, **dict.fromkeys(at, put)}


@pytest.mark.parametrize(
    ("origin", "at"),
    [
        ("blocks.0", ["blocks.1"]),
        ("blocks.0", ["blocks.1", "blocks.2"]),
        ("blocks.1", ["blocks.2"]),
        ("norm_pre", ["blocks.0", "blocks.1", "blocks.2"]),
    ],
)
def test_the_class_token_of_an_earlier_block_is_put_back(origin: str, at: list[str]) -> None:
    bench = exact("vit")
    wanted = plain(bench, frozen(origin, at))
    found = output(bench, *edits(bench, kind(origin), places(bench, "output", at)))
    torch.testing.assert_close(found, wanted, **CLOSE)
    streams = places(bench, "stream", [f"{block}.mlp" for block in at])
    assert torch.equal(output(bench, *edits(bench, kind(origin), streams)), found)


def test_no_other_token_changes_at_the_place() -> None:
    bench = exact("vit")
    node = bench.sites.nodes["stream"]["blocks.1.attn"]
    origin = bench.intact[bench.sites.nodes["stream"]["blocks.0.attn"]]
    found = changed(bench, *edits(bench, kind("blocks.0.attn"), places(bench, "stream", ["blocks.1.attn"])))[
        node
    ]
    assert torch.equal(found[:, 0], origin[:, 0])
    assert torch.equal(found[:, 1:], bench.intact[node][:, 1:])


def test_a_units_name_is_the_stream_behind_it_and_not_its_modules_output() -> None:
    bench, node = exact("vit"), exact("vit").sites.nodes
    at = places(bench, "stream", ["blocks.1.mlp"])
    found = changed(bench, *edits(bench, kind("blocks.0.mlp"), at))[node["stream"]["blocks.1.mlp"]][:, 0]
    assert torch.equal(found, bench.intact[node["stream"]["blocks.0.mlp"]][:, 0])
    assert not torch.equal(found, bench.intact[node["output"]["blocks.0.mlp"]][:, 0])


def test_what_was_changed_before_is_part_of_the_frozen_token_and_what_comes_after_is_not() -> None:
    bench = exact("vit")
    freeze = edits(bench, kind("blocks.0"), places(bench, "output", ["blocks.2"]))
    node = bench.sites.nodes["output"]["blocks.2"]
    for unit, moved in (("blocks.0.mlp", True), ("blocks.1.mlp", False)):
        remove = edits(bench, RemoveBranch(Entry()), places(bench, "branch", [unit]))
        own = changed(bench, *remove)[bench.sites.nodes["output"]["blocks.0"]][:, 0]
        for order in ((remove, freeze), (freeze, remove)):
            found = changed(bench, *(edit for one in order for edit in one))[node]
            assert torch.equal(found[:, 0], own)
        intact = bench.intact[bench.sites.nodes["output"]["blocks.0"]][:, 0]
        assert torch.equal(own, intact) is not moved


def test_two_at_one_place_and_the_last_holds() -> None:
    bench, there = exact("vit"), places(exact("vit"), "output", ["blocks.2"])
    first, second = (edits(bench, kind(origin), there) for origin in ("blocks.0", "blocks.1"))
    one, other = changed(bench, *first, *second), changed(bench, *second)
    assert all(torch.equal(value, other[node]) for node, value in one.items())


def test_registers_stay() -> None:
    from pathlib import Path

    bench = Bench.of(REGISTERS, Path(), seed=0)
    found = changed(bench, *edits(bench, kind("blocks.0"), places(bench, "output", ["blocks.1"])))
    node = bench.sites.nodes["output"]["blocks.1"]
    assert (
        torch.equal(found[node][:, 1:], bench.intact[node][:, 1:])
        and bench.sites.site("blocks.1", "output").prefix == 5
    )
    assert not torch.equal(found[node][:, 0], bench.intact[node][:, 0])


@pytest.mark.parametrize("name", ["swin", "resnet", "convnext", "mixer"])
def test_families_without_a_class_token_refuse(name: str) -> None:
    bench = exact(name)
    for role in FreezeCls.roles:
        for place in places(bench, role, bench.sites.names(role)):
            first = bench.sites.names("output")[0]
            assert "has no class token" in (kind(first).refuse_place(place) or "")


def test_laws() -> None:
    testing.check_ablation(kind("blocks.0"))
    testing.check_ablation(kind("blocks.0.attn"))


STUDY = study(
    "frozen",
    data="{probe: {source: noise, total: 8, batch: 8}}",
    models={"vit": TINY_VIT},
    ablations={"freeze": '{kind: freeze_cls, of: vit, from: blocks.0.attn, at: "blocks.1.*", each: true}'},
    metrics={"ratio": "{kind: skip_ratio, of: vit}"},
)


def test_one_place_at_a_time_or_all_and_a_sweep_of_origins() -> None:
    assert [one.id for one in bound(STUDY).models["vit"].conditions[1:]] == [
        "freeze@blocks.1.attn",
        "freeze@blocks.1.mlp",
    ]
    swept = STUDY.replace("each: true", 'vary: {from: ["blocks.0.attn", "blocks.0"]}')
    conditions = bound(swept).models["vit"].conditions[1:]
    assert [one.id for one in conditions] == ["freeze[from=blocks.0.attn]", "freeze[from=blocks.0]"]
    assert [len(one.sites) for one in conditions] == [2, 2]


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        ("from: blocks.0.attn, ", "", "lacks `from`"),
        ("blocks.0.attn", "blocks.0.atn", "there is no site `blocks.0.atn`"),
        ("blocks.0.attn", "blocks.1.attn", "it does not come after `blocks.1.attn`"),
        ("blocks.0.attn", "patch_embed.proj", "at `patch_embed.proj`, where the class token would come from"),
        ("blocks.0.attn", "blocks.0.mlp.fc1", "its tokens have width 24, and those at `blocks.0.mlp.fc1` 96"),
        ("each: true", "tokens: spatial", "it changes the class token alone"),
        ('"blocks.1.*"', "head, role: output", "has no class token"),
        ('"blocks.1.*"', "blocks.1.attn, role: branch", "not on `branch`"),
    ],
)
def test_errors(before: str, after: str, says: str) -> None:
    with pytest.raises(StudyError) as caught:
        bound(STUDY.replace(before, after))
    assert says in str(caught.value), str(caught.value)


def test_its_page_has_the_field_as_it_is_written() -> None:
    assert "\n  from: str\n" in (explain("freeze_cls") or "")
