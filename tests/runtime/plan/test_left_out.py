"""What a metric leaves out of a model is said, with its share; answers of a model without a head are refused."""

import pytest
import torch
from torch import Tensor, nn

from studies import bound, study
from vitdsl.dsl.diagnostics import StudyError
from vitdsl.runtime.graph.sites import sites_of
from vitdsl.runtime.plan.left_out import left_out
from vitdsl.runtime.plan.plan import Plan

DATA = {"probe": "{source: digits, split: test, images: 8, batch: 4}"}


def asked(arch: str, kind: str, options: dict[str, object] | None = None, **fields: str) -> Plan:
    model = {"arch": arch, "weights": "random", "options": options or {}}
    return bound(
        study("asked", data=DATA, models={"net": model}, metrics={"m": {"kind": kind, "of": "net", **fields}})
    )


def refusal(arch: str, kind: str, options: dict[str, object] | None = None, **fields: str) -> str:
    with pytest.raises(StudyError) as caught:
        asked(arch, kind, options, **fields)
    return str(caught.value)


class Whole(nn.Module):
    """Two residual blocks whose attention PyTorch keeps in one module, and one whose attention is open."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 4, 4)
        self.first, self.second = (nn.MultiheadAttention(8, 2, batch_first=True) for _ in range(2))
        self.qkv = nn.Linear(8, 24)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.conv(x).flatten(2).transpose(1, 2)
        for one in (self.first, self.second):
            tokens = tokens + one(tokens, tokens, tokens, need_weights=False)[0]
        q, k, v = self.qkv(tokens).unflatten(2, (3, 2, 4)).permute(2, 0, 3, 1, 4).unbind(0)
        found = (q @ k.transpose(-1, -2)).softmax(-1) @ v
        return (tokens + found.transpose(1, 2).flatten(2)).mean(1)


def test_attention_inside_a_module_that_is_one_node_is_counted() -> None:
    with torch.device("meta"):
        sites = sites_of(Whole().eval(), (3, 16, 16))
    assert len(sites.names("attention")) == 1
    hidden = "2 inside `MultiheadAttention` (such as `first`), which is traced as one piece"
    said = left_out(sites, "net", "attention", 1, {}, named=False)
    assert said == f"reads 1 of 3 attention modules of `net`; the others: {hidden}"
    assert not left_out(sites, "net", "attention", 1, {}, named=True)


def test_mixed_weights_are_counted_among_those_that_are_not_read() -> None:
    """ConViT has 10 blocks that blend their softmax with one of positions, and 2 others."""
    (said,) = asked("convit_tiny", "attention_distance").notes
    assert said.startswith(
        "metric `m` reads 2 of 12 attention modules of `net`; the others: `blocks.0.attn` and 9 more: "
    )
    assert not asked("test_vit", "attention_distance").notes


def test_sites_that_are_refused_are_grouped_by_their_reason() -> None:
    options: dict[str, object] = {"img_size": 56, "depths": [2, 2], "embed_dim": 12, "num_heads": [2, 4]}
    (said,) = asked("swin_tiny_patch4_window7_224", "attention_distance", options).notes
    assert (
        "reads 2 of 4 attention modules of `net`; the others: `layers.0.blocks.0.attn` and 1 more: " in said
    )
    assert "windows" in said


def test_where_all_is_refused_there_is_nothing_to_narrow() -> None:
    said = refusal("cait_xxs24_224", "attention_distance", {"img_size": 64, "depth": 2})
    assert "talking heads" in said and "narrow" not in said
    options: dict[str, object] = {"img_size": 56, "depths": [2, 2], "embed_dim": 12, "num_heads": [2, 4]}
    rollout = refusal("swin_tiny_patch4_window7_224", "attention_rollout", options)
    assert "narrow `at:`, such as to `layers.1.blocks.0.attn`" in rollout


@pytest.mark.parametrize("kind", ["accuracy", "answers", "prediction_flips"])
def test_a_model_without_a_head_has_no_answers(kind: str) -> None:
    said = refusal("test_vit", kind, {"num_classes": 0})
    assert "VD302" in said and "gives features" in said and "num_classes: 0" in said
    asked("test_vit", "skip_ratio", {"num_classes": 0})
