"""Uniform attention against plain models whose attention was written by hand."""

from typing import Any

import pytest
import torch
from torch import Tensor

from ablated import FAMILIES, bench_of, output, place, plain, refusals, refused, same, values
from vitdsl import testing
from vitdsl.dsl.study import Entry
from vitdsl.runtime.ablations.uniform_attention import UniformAttention, uniform

KIND = UniformAttention(Entry())


def mean_of_values(self: Any, x: Tensor, **_: Any) -> Tensor:
    """A ViT's attention whose queries all take the mean of the values."""
    v = self.qkv(x).chunk(3, -1)[2]
    result: Tensor = self.proj(v.mean(1, keepdim=True).expand_as(x))
    return result


def mean_of_seen(self: Any, x: Tensor, mask: Tensor | None = None) -> Tensor:
    """Swin's attention in a window, all keys alike but those that the mask hides by -100."""
    q, k, v = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
    logits = (q * self.scale) @ k.mT + self._get_rel_pos_bias()
    if mask is not None:
        logits = (logits.unflatten(0, (-1, len(mask))) + mask[None, :, None]).flatten(0, 1)
    seen = (logits > -50).double()
    heads = (seen / seen.sum(-1, keepdim=True)).float() @ v
    result: Tensor = self.proj(heads.transpose(1, 2).flatten(2))
    return result


@pytest.mark.parametrize("name", ["vit", "gap"])
def test_all_take_the_mean_of_the_values(name: str) -> None:
    bench = bench_of(name)
    weights = values(bench, (KIND, "blocks.1.attn"))[place(bench, KIND, "blocks.1.attn").node]
    assert torch.equal(weights, torch.full_like(weights, 1 / weights.shape[-1]))
    same(output(bench, (KIND, "blocks.1.attn")), plain(bench, ("blocks.1.attn", "forward", mean_of_values)))
    both = [(KIND, "blocks.0.attn"), (KIND, "blocks.1.attn")]
    hooks = [(at, "forward", mean_of_values) for _, at in both]
    same(output(bench, *both), plain(bench, *hooks))


@pytest.mark.parametrize("at", ["layers.0.blocks.0.attn", "layers.0.blocks.1.attn", "layers.1.blocks.0.attn"])
def test_keys_that_a_mask_hides_stay_hidden(at: str) -> None:
    bench = bench_of("swin")
    theirs = plain(bench, (at, "forward", mean_of_seen))
    weights = values(bench, (KIND, at))[place(bench, KIND, at).node]
    hidden = weights == 0
    assert bool(hidden.any()) == (at == "layers.0.blocks.1.attn"), (
        "only windows that are shifted have hidden keys"
    )
    intact = bench.intact[place(bench, KIND, at).node]
    assert torch.equal(hidden, intact < 1e-20)
    torch.testing.assert_close(weights.sum(-1), torch.ones_like(weights[..., 0]), rtol=0, atol=1e-6)
    same(output(bench, (KIND, at)), theirs)


def test_a_query_without_visible_keys_sees_all() -> None:
    weights, mask = torch.rand(4, 2, 3, 3), torch.full((1, 2, 1, 3, 3), float("-inf"))
    mask[0, 0] = 0
    mask[0, 1, 0, 0, 1] = 0
    found = uniform(weights, mask, shapes=((2, 2, 3, 3),))
    third = torch.full((3, 3), 1 / 3)
    assert torch.equal(found[0, 0], third) and torch.equal(found[2, 1], third)
    assert torch.equal(found[1, 0], torch.stack([torch.tensor([0.0, 1.0, 0.0]), third[0], third[0]]))
    assert torch.equal(found[3], found[1])


def test_laws() -> None:
    testing.check_ablation(KIND, FAMILIES["swin"], at=["layers.0.blocks.1.attn"])


@pytest.mark.parametrize("name", ["resnet", "mixer"])
def test_a_model_without_attention(name: str) -> None:
    refused(refusals(name, kind="uniform_attention"), "VD210", "there is no attention of `model`")


def test_windows_are_not_refused() -> None:
    assert not refusals("swin", kind="uniform_attention", at='"layers.*.blocks.*.attn"')
    found = refusals("swin", kind="uniform_attention", at="layers.0.blocks.0.attn", tokens="[1]")
    refused(found, "VD242", "windows")
