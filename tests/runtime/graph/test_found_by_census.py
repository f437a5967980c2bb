"""What counting over all of timm found: units inside attention, weights without queries, attention between images."""

from typing import Any

import timm
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from unsaid import read
from vitdsl.runtime.graph.attention import Weights
from vitdsl.runtime.graph.propagate import modules_of
from vitdsl.runtime.graph.sites import Sites, same_sites, sites_of
from vitdsl.runtime.graph.tokens import refuse_weights


def values(sites: Sites, images: Tensor) -> dict[fx.Node, Any]:
    """What every node of a model's graph gives."""
    graph, found = sites.traced.graph, dict[fx.Node, Any]()

    class Keeps(fx.Interpreter):
        def run_node(self, n: fx.Node) -> Any:
            found[n] = super().run_node(n)
            return found[n]

    with torch.no_grad():
        Keeps(fx.GraphModule(modules_of(sites.model, graph), graph)).run(images)
    return found


def test_the_pooled_query_that_mvitv2_adds_to_its_attention_is_a_unit_in_the_unit() -> None:
    """A skip around the attention alone: the paper's residual pooling. The block's unit keeps the name."""
    sites = read("mvit")
    attn = sites.model.get_submodule("stages.2.blocks.1.attn")
    inner, outer = sites.units["stages.2.blocks.1.attn:1"], sites.units["stages.2.blocks.1.attn"]
    assert inner.branch_kind == outer.branch_kind == "attention" and not inner.projected
    seen: dict[str, Tensor] = {}
    handles = [
        attn.norm_q.register_forward_hook(lambda *got: seen.update(query=got[-1].clone())),  # type: ignore[union-attr, operator]
        attn.proj.register_forward_pre_hook(lambda _, args: seen.update(sum=args[0].clone())),  # type: ignore[union-attr, operator]
    ]
    images = torch.randn(2, *sites.input_size, dtype=torch.float64)
    with torch.no_grad():
        sites.model(images)
    for handle in handles:
        handle.remove()
    found = values(sites, images)
    torch.testing.assert_close(found[inner.skip], seen["query"], rtol=1e-9, atol=1e-11)
    total = seen["sum"].unflatten(-1, (seen["query"].shape[1], -1)).transpose(1, 2)
    torch.testing.assert_close(found[inner.branch], total - seen["query"], rtol=1e-9, atol=1e-11)


def test_weights_that_are_multiplied_into_values_and_summed_are_attention_without_queries() -> None:
    torch.manual_seed(0)
    model = timm.create_model("mobilevitv2_050").double().eval()
    with torch.device("meta"):
        sites = same_sites(model, sites_of(timm.create_model("mobilevitv2_050").eval(), (3, 128, 128)))
    names = list(sites.attention.weights)
    assert len(names) == 2 + 4 + 3 == len([one for one in sites.units.values() if one.name.endswith(".attn")])
    seen: list[Tensor] = []
    drop = model.get_submodule(f"{names[0]}.attn_drop")
    drop.register_forward_pre_hook(lambda _, args: seen.append(args[0].clone()))
    images = torch.randn(2, 3, 128, 128, dtype=torch.float64)
    with torch.no_grad():
        model(images)
    weights = sites.attention.weights[names[0]]
    torch.testing.assert_close(values(sites, images)[weights.node], seen[0], rtol=1e-9, atol=1e-11)
    assert (weights.kind, weights.shares) == ("attention without queries", True)
    site = sites.site(names[0], "attention")
    assert "no queries" in (refuse_weights(site) or "") and refuse_weights(site, of_tokens=False) is None


class Net(nn.Module):
    def __init__(self, body: Any) -> None:
        super().__init__()
        self.body, self.conv = body, nn.Conv2d(3, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(self.conv(x).flatten(2))


def attention(body: Any) -> list[Weights]:
    return list(sites_of(Net(body).to("meta").eval(), (3, 4, 6)).attention.weights.values())


def between_images(x: Tensor) -> Tensor:
    """As in CSATv2: a product of two matrices where one for each image was meant."""
    features = x.mean(1)
    return (features @ features.transpose(-1, -2)).softmax(-1) @ features


def over_branches(x: Tensor) -> Tensor:
    """As in SKNet: features are weighed, not tokens."""
    two = x.unflatten(1, (2, 4))
    return (two * two.mean((2, 3), keepdim=True).softmax(1)).sum(1)


def normed_again(x: Tensor) -> Tensor:
    """As in ConViT: a sum of shares themselves."""
    shares = (x.transpose(1, 2) @ x).softmax(-1) * 0.5
    return (shares / shares.sum(-1, keepdim=True)) @ x.transpose(1, 2)


def difference(x: Tensor) -> Tensor:
    """As in differential transformers: a fixed share of the one is taken from the other."""
    one, other = ((part.transpose(1, 2) @ part).softmax(-1) for part in x.chunk(2, 1))
    return (one - 0.3 * other) @ x.transpose(1, 2)


def separable(x: Tensor) -> Tensor:
    return x * (x * F.softmax(x[:, :1], dim=-1)).sum(-1, keepdim=True)


def test_kinds_of_small_programs() -> None:
    assert [one.kind for one in attention(between_images)] == ["attention between the images of a batch"]
    assert attention(over_branches) == []
    assert [one.kind for one in attention(normed_again)] == ["changed weights"]
    assert [one.kind for one in attention(difference)] == ["differential attention"]
    (found,) = attention(separable)
    assert (found.kind, found.shape[0], found.shape[2]) == ("attention without queries", 1, 24)
