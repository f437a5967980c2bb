"""Masked heads against the plain model, whose projections are given other inputs by hooks."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hooked import CLOSE, FAMILIES, Hook, changed, edits, exact, output, places, plain
from studies import TINY_RESNET, TINY_VIT, bound, study
from vitdsl import testing
from vitdsl.dsl.diagnostics import StudyError
from vitdsl.runtime.ablations.mask_heads import MaskHeads, Params

AT = {"vit": "blocks.1.attn", "swin": "layers.0.blocks.1.attn"}
WHOLE = {"vit": "blocks.1.attn", "swin": "layers.1.blocks.1.attn"}
"""Attention whose first axis is the image: the last stage of the Swin is one window."""
HEADS = {"blocks.1.attn": 3, "layers.0.blocks.1.attn": 2, "layers.1.blocks.1.attn": 4}


def kind(*heads: int, **fields: Any) -> MaskHeads:
    return MaskHeads(Params(**({"heads": heads} if heads else {}), **fields))


def projected(attention: str, masked: list[int], other: Tensor | float = 0.0) -> dict[str, Hook]:
    """A hook on the projection behind attention: in what it is given, the heads lie one beside the other."""

    def hook(module: nn.Module, given: tuple[Any, ...], out: Tensor) -> Tensor:
        parts = list(given[0].chunk(HEADS[attention], -1))
        instead = other.chunk(HEADS[attention], -1) if isinstance(other, Tensor) else None
        for head in masked:
            parts[head] = parts[head] * 0 if instead is None else instead[head].expand_as(parts[head])
        found: Tensor = module.forward(torch.cat(parts, -1))
        return found

    return {f"{attention}.proj": hook}


@pytest.mark.parametrize("name", list(AT))
@pytest.mark.parametrize("masked", [[0], [1], [0, 1]])
def test_masked_heads_are_zeros_before_the_projection(name: str, masked: list[int]) -> None:
    """Also in Swin's shifted windows, whatever window a token is in."""
    bench, at = exact(name), AT[name]
    found = output(bench, *edits(bench, kind(*masked), places(bench, "heads", [at])))
    torch.testing.assert_close(found, plain(bench, projected(at, masked)), **CLOSE)


@pytest.mark.parametrize("name", list(WHOLE))
def test_masked_heads_are_means_over_images(name: str) -> None:
    bench, at = exact(name), WHOLE[name]
    given: list[Tensor] = []
    plain(bench, {f"{at}.proj": lambda _, one, __: given.append(one[0])})
    mean = given[0].mean(0, keepdim=True)
    found = output(bench, *edits(bench, kind(1, to="mean"), places(bench, "heads", [at])))
    torch.testing.assert_close(found, plain(bench, projected(at, [1], mean)), **CLOSE)


def test_the_other_heads_are_the_models_own_bit_for_bit() -> None:
    bench = exact("vit")
    node = bench.sites.nodes["heads"]["blocks.1.attn"]
    for to in ("zero", "mean"):
        found = changed(bench, *edits(bench, kind(1, to=to), places(bench, "heads", ["blocks.1.attn"])))[node]
        assert torch.equal(found[:, [0, 2]], bench.intact[node][:, [0, 2]])
        assert not torch.equal(found[:, 1], bench.intact[node][:, 1])


@pytest.mark.parametrize(
    ("one", "other"), [(kind(keep=(1,)), kind(0, 2)), (kind(-1), kind(2)), (kind(keep=-3), kind(1, 2))]
)
def test_keep_and_negative_numbers(one: MaskHeads, other: MaskHeads) -> None:
    bench = exact("vit")
    values = [
        changed(bench, *edits(bench, k, places(bench, "heads", ["blocks.1.attn"]))) for k in (one, other)
    ]
    assert all(torch.equal(value, values[1][node]) for node, value in values[0].items())


def test_fused_attention_is_masked_too() -> None:
    """Nothing un-fuses what is masked: the heads' outputs are there either way."""
    from vitdsl.runtime.run.compile import compile_model

    plan = bound(STUDY)
    planned = plan.models["vit"]
    assert not planned.unfuse
    compiled = compile_model(planned, planned.sites.model, plan.groups)
    names = [str(node.target) for node in compiled.merged.module.graph.nodes]
    assert any("scaled_dot_product_attention" in name for name in names)


def test_two_edits_compose() -> None:
    """One head here and one there, and the two of one place after another."""
    bench, at = exact("vit"), places(exact("vit"), "heads", ["blocks.1.attn"])
    below = edits(bench, kind(2), places(bench, "heads", ["blocks.0.attn"]))
    hooks = {
        **projected("blocks.1.attn", [0, 1]),
        **_renamed(projected("blocks.1.attn", [2]), "blocks.0.attn"),
    }
    found = output(bench, *below, *edits(bench, kind(0), at), *edits(bench, kind(1), at))
    torch.testing.assert_close(found, plain(bench, hooks), **CLOSE)


def _renamed(hooks: dict[str, Hook], attention: str) -> dict[str, Hook]:
    return {f"{attention}.proj": hook for hook in hooks.values()}


@pytest.mark.parametrize("name", ["resnet", "convnext", "mixer"])
def test_families_without_attention_have_no_heads(name: str) -> None:
    assert not exact(name).sites.names("heads")


@pytest.mark.parametrize("some", [kind(0), kind(1, to="mean"), kind(keep=(0,))])
def test_laws(some: MaskHeads) -> None:
    at = ["layers.1.blocks.1.attn"] if some.fit() else ["layers.0.blocks.1.attn"]
    testing.check_ablation(some, FAMILIES["swin"], at=at)


STUDY = study(
    "masks",
    data="{probe: {source: noise, total: 8, batch: 8}}",
    models={"vit": TINY_VIT, "res": TINY_RESNET},
    ablations={
        "mask": '{kind: mask_heads, of: vit, at: "blocks.*.attn", each: true, vary: {heads: [0, 1, 2]}}'
    },
    metrics={"ratio": "{kind: skip_ratio, of: vit}"},
)


def test_one_condition_for_each_head_of_each_block() -> None:
    conditions = bound(STUDY).models["vit"].conditions[1:]
    assert [one.id for one in conditions] == [
        f"mask@blocks.{block}.attn[heads={head}]" for head in (0, 1, 2) for block in (0, 1)
    ]
    assert [one.coordinates["heads"] for one in conditions] == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ("", "it takes either `heads` or `keep`"),
        ("heads: 0, keep: 1", "it takes either `heads` or `keep`"),
        ("heads: [0, 3]", "it has 3 heads, so there is no head 3"),
        ("heads: []", "no head is left to mask"),
        ("keep: [0, 1, -1]", "no head is left to mask"),
        ("heads: 1, over: probe", "`over` names images for a mean"),
        ("heads: first", "heads"),
        ("heads: 1, tokens: cls", "its tensor has no tokens"),
        ("heads: 1, role: attention", "acts on `heads`, not on `attention`"),
        ("heads: 1, of: res, at: layer1.0", "matches no attention of `res`"),
    ],
)
def test_errors(fields: str, says: str) -> None:
    text = STUDY.replace("vary: {heads: [0, 1, 2]}", fields)
    if "of: res" in fields:
        text = text.replace('of: vit, at: "blocks.*.attn", each: true, ', "")
    with pytest.raises(StudyError) as caught:
        bound(text)
    assert says in str(caught.value), str(caught.value)


def test_no_mean_where_the_first_axis_is_not_the_image() -> None:
    bench = exact("swin")
    (place,) = places(bench, "heads", [AT["swin"]])
    assert place.site is not None and place.site.layout == "windows"
    assert "write `to: zero`" in (kind(1, to="mean").refuse_place(place) or "")


def test_windowed_heads_can_be_named_in_a_study() -> None:
    swin = {
        "arch": "swin_tiny_patch4_window7_224",
        "options": {"img_size": 56, "depths": [2, 2], "embed_dim": 24, "num_heads": [2, 4]},
        "weights": "random",
    }
    text = study(
        "windows",
        data="{probe: {source: noise, total: 8, batch: 8}}",
        models={"swin": swin},
        ablations={
            "mask": '{kind: mask_heads, of: swin, at: "layers.*.blocks.*.attn", each: true, heads: 1}'
        },
        metrics={"ratio": "{kind: skip_ratio, of: swin}"},
    )
    assert len(bound(text).models["swin"].conditions) == 1 + 4
    with pytest.raises(StudyError, match="windows of images"):
        bound(text.replace("heads: 1", "heads: 1, to: mean"))
    with pytest.raises(StudyError, match="windows of images"):
        bound(text.replace("mask_heads", "mean_ablate").replace("heads: 1", "role: heads"))
