"""Local attention against a softmax whose logits are masked, written by hand."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from ablated import bench_of, output, place, plain, refusals, refused, same, values
from vitdsl import testing
from vitdsl.runtime.ablations.local_attention import LocalAttention, Params, local
from vitdsl.runtime.ablations.uniform_attention import UniformAttention

SIDE = 4
CASES: list[tuple[float, Any]] = [
    (0, "square"),
    (1, "square"),
    (1, "round"),
    (1.5, "round"),
    (2, "round"),
    (2, "square"),
]


def kind_of(radius: float, distance: Any = "square") -> LocalAttention:
    return LocalAttention(Params(radius=radius, distance=distance))


def mask_of(radius: float, distance: str, prefix: int) -> Tensor:
    """What is added to the logits, key by key."""
    count = prefix + SIDE * SIDE
    mask = torch.zeros(count, count)
    for query in range(SIDE * SIDE):
        for key in range(SIDE * SIDE):
            down = abs(query // SIDE - key // SIDE)
            across = abs(query % SIDE - key % SIDE)
            far = (down**2 + across**2) ** 0.5 if distance == "round" else max(down, across)
            if far > radius + 1e-9:
                mask[prefix + query, prefix + key] = float("-inf")
    return mask


@pytest.mark.parametrize("name", ["vit", "gap"])
@pytest.mark.parametrize(("radius", "distance"), CASES)
def test_the_weights_are_those_of_masked_logits(name: str, radius: float, distance: Any) -> None:
    bench, at, prefix = bench_of(name), "blocks.0.attn", int(name == "vit")
    kind, mask = kind_of(radius, distance), mask_of(radius, distance, prefix)
    node = place(bench, kind, at).node
    found = values(bench, (kind, at))[node]
    logits = bench.intact[node.all_input_nodes[0]].double()
    wanted = (logits + mask).softmax(-1)
    assert float((found - wanted).abs().max()) < 2**-22, "the logits and the weights are rounded"
    assert torch.equal(found == 0, (mask < 0).expand_as(found))

    def attention(self: Any, x: Tensor, **_: Any) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        heads = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        result: Tensor = self.proj(heads.transpose(1, 2).flatten(2))
        return result

    same(output(bench, (kind, at)), plain(bench, (at, "forward", attention)))


def test_in_double_precision_it_is_the_masked_softmax() -> None:
    logits = 6 * torch.randn(2, 3, 17, 17, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for radius, distance in CASES:
        found = local(logits.softmax(-1), radius=radius, distance=distance, grid=(SIDE, SIDE), prefix=1)
        wanted = (logits + mask_of(radius, distance, 1)).softmax(-1)
        torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-15)


def test_a_radius_of_the_whole_grid_changes_nothing() -> None:
    bench = bench_of("vit")
    node = place(bench, kind_of(3), "blocks.0.attn").node
    torch.testing.assert_close(
        values(bench, (kind_of(3), "blocks.0.attn"))[node], bench.intact[node], rtol=0, atol=2**-22
    )


def test_grids_that_are_not_square_and_weights_that_underflow() -> None:
    weights = torch.zeros(1, 1, 7, 7, dtype=torch.float64)
    weights[..., 3] = 1
    found = local(weights, radius=1, distance="square", grid=(2, 3), prefix=1)[0, 0]
    assert found[1:, 3].tolist() == [0, 1, 1, 0, 1, 1], "token 3 is row 0, column 2"
    assert found[1].tolist() == [0.2, 0.2, 0.2, 0, 0.2, 0.2, 0], "nothing near it has weight"
    found = local(weights, radius=0, distance="square", grid=(2, 3), prefix=1)[0, 0]
    assert torch.equal(found[0], weights[0, 0, 0]), "the prefix sees all"
    assert torch.equal(found[1], torch.tensor([0.5, 0.5, 0, 0, 0, 0, 0], dtype=torch.float64))
    half = local(
        torch.rand(1, 1, 7, 7).softmax(-1).bfloat16(), radius=1, distance="round", grid=(2, 3), prefix=1
    )
    assert half.dtype == torch.bfloat16


def test_after_uniform_attention_the_mean_of_the_neighbours() -> None:
    bench, at = bench_of("gap"), "blocks.0.attn"
    kind, other = kind_of(1), UniformAttention(UniformAttention.Params())
    node = place(bench, kind, at).node
    near = (mask_of(1, "square", 0) == 0).double()
    wanted = (near / near.sum(-1, keepdim=True)).float().expand(3, 3, -1, -1)
    torch.testing.assert_close(values(bench, (other, at), (kind, at))[node], wanted)
    assert torch.equal(values(bench, (kind, at), (other, at))[node], torch.full_like(wanted, 1 / 16))


def test_laws() -> None:
    testing.check_ablation(kind_of(1))


@pytest.mark.parametrize(
    ("name", "at", "code", "says"),
    [
        ("swin", "layers.0.blocks.0.attn", "VD242", "windows"),
        ("resnet", None, "VD210", "there is no attention of `model`"),
        ("mixer", None, "VD210", "there is no attention of `model`"),
    ],
)
def test_where_keys_have_no_place(name: str, at: str | None, code: str, says: str) -> None:
    refused(refusals(name, kind="local_attention", radius=1, **({"at": at} if at else {})), code, says)


def test_a_negative_radius() -> None:
    refused(refusals("vit", kind="local_attention", radius=-1), "VD221", "radius")
