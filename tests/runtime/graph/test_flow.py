"""Prefix tokens, grids and attention of families whose models do not say them, held against plain PyTorch hooks.

The references are written from the formulas, in float64, on hooks of the plain model; which tokens are prefix tokens is
written here from the papers. What cannot be read is refused by the name of what it is.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from unsaid import images, measured, read, seen
from vitdsl.dsl.study import Model
from vitdsl.runtime.graph.edit import Lane
from vitdsl.runtime.graph.merge import merge
from vitdsl.runtime.graph.site import Site
from vitdsl.runtime.graph.sites import Sites, sites_of
from vitdsl.runtime.graph.tap import Tap
from vitdsl.runtime.metrics.attention_distance import AttentionDistance
from vitdsl.runtime.metrics.attention_distance import Params as Distance
from vitdsl.runtime.metrics.attention_entropy import AttentionEntropy
from vitdsl.runtime.metrics.skip_ratio import TERMS, SkipRatio
from vitdsl.runtime.models.loading import skeleton

CLOSE = {"rtol": 1e-9, "atol": 1e-11}


def at_dropout(sites: Sites, name: str) -> Tensor:
    """Softmax weights as a module's dropout is given them."""
    drop = sites.model.get_submodule(f"{name}.attn_drop")
    (weights,) = seen(
        sites, lambda found: [drop.register_forward_pre_hook(lambda _, args: found.append(args[0].clone()))]
    )
    return weights


def of_levit(sites: Sites, name: str) -> Tensor:
    """LeViT's weights, from its queries, keys and biases."""
    module: Any = sites.model.get_submodule(name)
    (joint,) = seen(
        sites, lambda found: [module.qkv.register_forward_hook(lambda *got: found.append(got[-1].clone()))]
    )
    batch, tokens, _ = joint.shape
    size = [module.key_dim, module.key_dim, module.val_dim]
    q, k, _ = joint.view(batch, tokens, module.num_heads, -1).split(size, 3)
    logits = torch.einsum("bqhd,bkhd->bhqk", q, k) * module.scale
    return (logits + module.attention_biases[:, module.attention_bias_idxs]).softmax(-1)


def distance(weights: Tensor, prefix: int, grid: tuple[int, int], patch: tuple[float, float]) -> Tensor:
    """Of each image and head: the mean over patches of the distance that a query's weights reach."""
    where = torch.tensor(
        [(row * patch[0], col * patch[1]) for row in range(grid[0]) for col in range(grid[1])],
        dtype=torch.float64,
    )
    apart = ((where[:, None] - where[None]) ** 2).sum(-1).sqrt()
    return (weights[:, :, prefix:, prefix:] * apart).sum(-1).mean(-1)


GLOBAL = [  # model, attention, where its weights are seen, prefix, class token, grid, pixels between patches
    ("naflex", "blocks.1.attn", at_dropout, 0, False, (4, 4), (16, 16)),
    ("naflex_registers", "blocks.1.attn", at_dropout, 4, True, (6, 6), (16, 16)),
    ("pit", "transformers.0.blocks.0.attn", at_dropout, 1, True, (11, 11), (8, 8)),
    ("pit", "transformers.2.blocks.1.attn", at_dropout, 1, True, (3, 3), (32, 32)),
    ("pit_distilled", "transformers.1.blocks.0.attn", at_dropout, 2, True, (6, 6), (16, 16)),
    ("crossvit", "blocks.0.blocks.0.0.attn", at_dropout, 1, True, (20, 20), (12, 12)),
    ("crossvit", "blocks.2.blocks.1.0.attn", at_dropout, 1, True, (14, 14), (240 / 14, 240 / 14)),
    ("visformer", "stage2.1.attn", at_dropout, 0, False, (14, 14), (16, 16)),
    ("levit", "stages.0.blocks.1.attn", of_levit, 0, False, (14, 14), (16, 16)),
    ("levit", "stages.2.blocks.0.attn", of_levit, 0, False, (4, 4), (64, 64)),
]


@pytest.mark.parametrize(("name", "module", "weights", "prefix", "is_class", "grid", "patch"), GLOBAL)
def test_distance_and_entropy_are_those_of_plain_hooks(
    name: str,
    module: str,
    weights: Callable[[Sites, str], Tensor],
    prefix: int,
    is_class: bool,
    grid: tuple[int, int],
    patch: tuple[float, float],
) -> None:
    sites = read(name)
    site = sites.site(module, "attention")
    assert (site.prefix, site.class_token, site.grid) == (prefix, is_class, grid)
    assert site.patch == pytest.approx(patch, rel=1e-12)
    given = weights(sites, module)
    assert given.std(-1).mean() > 1e-3 / given.shape[-1]
    reach = measured(sites, AttentionDistance(Distance()), module)[..., 0]
    expected = distance(given, prefix, grid, patch)
    torch.testing.assert_close(reach, expected, rtol=2e-6, atol=1e-6)  # the metric sums float32 products
    spread = measured(sites, AttentionEntropy(AttentionEntropy.Params()), module)
    torch.testing.assert_close(spread[..., 0], -torch.special.xlogy(given, given).sum(-1).mean(-1), **CLOSE)
    torch.testing.assert_close(spread[..., 1], given[..., :prefix].sum(-1).mean(-1), **CLOSE)


def hooked(
    sites: Sites, carried: str, added: str, *, argument: int = 0, output: bool = False
) -> list[Tensor]:
    """What a module is given (or gives), and what another one gives."""
    first, second = (sites.model.get_submodule(path) for path in (carried, added))

    def hooks(found: list[Tensor]) -> list[Any]:
        taken = (
            first.register_forward_hook(lambda *got: found.append(got[-1].clone()))
            if output
            else first.register_forward_pre_hook(lambda _, args: found.append(args[argument].clone()))
        )
        return [taken, second.register_forward_hook(lambda *got: found.append(got[-1].clone()))]

    return seen(sites, hooks)


RATIOS = [  # model, unit, where its stream is seen, and what its branch gives, prefix
    ("naflex", "blocks.0.mlp", "blocks.0.norm2", "blocks.0.drop_path2", 0),
    (
        "pit",
        "transformers.1.blocks.0.attn",
        "transformers.1.blocks.0",
        "transformers.1.blocks.0.drop_path1",
        1,
    ),
    ("crossvit", "blocks.1.blocks.1.0.mlp", "blocks.1.blocks.1.0.norm2", "blocks.1.blocks.1.0.drop_path2", 1),
    ("mvit", "stages.2.blocks.1.attn", "stages.2.blocks.1", "stages.2.blocks.1.drop_path1", 1),
    ("mvit", "stages.2.blocks.1.mlp", "stages.2.blocks.1.norm2", "stages.2.blocks.1.drop_path2", 1),
    ("hiera", "blocks.4.attn", "blocks.4", "blocks.4.drop_path1", 0),
    ("xcit", "blocks.0.mlp", "blocks.0.norm2", "blocks.0.drop_path2", 0),
    ("cait", "blocks.1.mlp", "blocks.1.norm2", "blocks.1.drop_path", 0),
    ("coat", "serial_blocks1.0.mlp", "serial_blocks1.0.norm2", "serial_blocks1.0.mlp", 1),
    ("coat", "serial_blocks3.1.mlp", "serial_blocks3.1.norm2", "serial_blocks3.1.mlp", 1),
]


@pytest.mark.parametrize(("name", "unit", "carried", "added", "prefix"), RATIOS)
def test_ratios_at_class_and_patch_tokens_are_those_of_plain_hooks(
    name: str, unit: str, carried: str, added: str, prefix: int
) -> None:
    sites = read(name)
    site = sites.site(unit, "skip")
    assert (site.layout, site.prefix, site.class_token) == ("tokens", prefix, prefix > 0)
    found = measured(sites, SkipRatio(SkipRatio.Params()), unit)
    hooks = hooked(sites, carried, added)
    skip, branch = hooks[-2:]
    ratio = skip.norm(dim=-1) / branch.norm(dim=-1)
    means = found[..., TERMS] / found[..., 0]
    torch.testing.assert_close(means[:, 2], ratio[:, prefix:].mean(1), **CLOSE)
    if prefix:
        torch.testing.assert_close(means[:, 0], ratio[:, :prefix].mean(1), **CLOSE)
    assert found[0, :, -1].tolist() == [float(prefix), 0.0, float(skip.shape[1] - prefix)]


def test_a_stream_of_the_class_token_alone_has_no_patches() -> None:
    sites = read("cait")
    site = sites.site("blocks_token_only.1.mlp", "skip")
    assert (site.shape[0], site.prefix, site.class_token, site.grid) == (1, 1, True, None)
    found = measured(sites, SkipRatio(SkipRatio.Params()), "blocks_token_only.1.mlp")
    assert found[0, :, -1].tolist() == [1.0, 0.0, 0.0]
    weights = sites.site("blocks_token_only.1.attn", "attention")
    assert (weights.shape[-2:], weights.prefix, weights.class_token) == ((1, 17), 1, False)


def test_talking_heads_are_read_where_they_multiply_values_and_have_no_shares() -> None:
    for name, module, mixed in (
        ("cait", "blocks.0.attn", "attn_drop"),
        ("efficientformer", "stages.3.blocks.3.token_mixer", "talking_head2"),
    ):
        sites = read(name)
        site = sites.site(module, "attention")
        assert site.kind == "talking heads" and not site.shares and site.layout == "attention"
        for kind in (AttentionEntropy(AttentionEntropy.Params()), AttentionDistance(Distance())):
            assert "talking heads" in (kind.refuse(site) or "")
        child = sites.model.get_submodule(f"{module}.{mixed}")
        (given,) = seen(
            sites,
            lambda found, child=child: [child.register_forward_hook(lambda *got: found.append(got[-1]))],
        )
        node = sites.nodes["attention"][module]
        tap = Tap((node,), AttentionDistance(Distance()).reducer(), site)
        merged = merge(sites.model, sites.traced.graph, [Lane("baseline")], {"baseline": [tap]})
        with torch.inference_mode():
            found = merged.module(images(sites))[merged.slots["baseline", tap]][0][..., 0]
        assert site.grid is not None and site.patch is not None
        torch.testing.assert_close(
            found, distance(given, site.prefix or 0, site.grid, site.patch), rtol=1e-5, atol=1e-5
        )


@pytest.mark.parametrize("size", [224, 96])
def test_channel_attention_is_not_read_as_spatial_though_it_has_as_many_channels_as_tokens(size: int) -> None:
    """XCiT nano has heads of 32 channels; 96 pixels have 6 x 6 tokens, and with 36 channels a head as many."""
    heads = {"num_heads": 4, "embed_dim": 144} if size == 96 else {}
    model = Model(
        arch="xcit_nano_12_p16_224", weights="random", options={"img_size": size, "depth": 1, **heads}
    )
    site = sites_of(skeleton(model), (3, size, size)).site("blocks.0.attn", "attention")
    assert site.kind == "channel attention" and site.grid is None and site.prefix is None
    assert size == 224 or site.shape == (4, 36, 36)
    assert "channel attention" in (AttentionDistance(Distance()).refuse(site) or "")
    assert AttentionEntropy(AttentionEntropy.Params()).refuse(site) is None


def test_windows_are_refused_at_any_rank() -> None:
    sites = read("hiera")
    first, last = (sites.site(name, "attention") for name in ("blocks.0.attn", "blocks.11.attn"))
    for kind in (AttentionEntropy(AttentionEntropy.Params()), AttentionDistance(Distance())):
        assert "windows" in (kind.refuse(first) or "")
    assert last.layout == "attention" and last.grid == (7, 7)


class Hidden(nn.Module):
    """Attention whose tokens come in an order that nothing says."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 4, 4)
        self.qkv = nn.Linear(8, 24)
        self.register_buffer("order", torch.randperm(16))

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.conv(x).flatten(2).transpose(1, 2)[:, self.order]
        q, k, v = self.qkv(tokens).unflatten(2, (3, 2, 4)).permute(2, 0, 3, 1, 4).unbind(0)
        found = (q @ k.transpose(-1, -2)).softmax(-1) @ v
        return (tokens + found.transpose(1, 2).flatten(2)).mean(1)


def test_tokens_in_an_unknown_order_are_refused() -> None:
    with torch.device("meta"):
        sites = sites_of(Hidden().eval(), (3, 16, 16))
    ((name, _),) = sites.nodes["attention"].items()
    site: Site = sites.site(name, "attention")
    assert site.prefix is None and site.grid is None
    assert AttentionDistance(Distance()).refuse(site) == "its 16 tokens are not the model's patch grid"
    (unit,) = sites.units
    assert "not known" in (SkipRatio(SkipRatio.Params()).refuse(sites.site(unit, "skip")) or "")
