"""What the axes of a site mean: heads, windows, prefix tokens, grids, patches."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vitdsl.dsl.study import Model
from vitdsl.runtime.graph.edit import Lane
from vitdsl.runtime.graph.listing import listed
from vitdsl.runtime.graph.merge import merge
from vitdsl.runtime.graph.site import Site
from vitdsl.runtime.graph.sites import Sites, same_sites, sites_of
from vitdsl.runtime.graph.tap import Reducer, Tap
from vitdsl.runtime.models.loading import load, skeleton
from vitdsl.runtime.models.preprocessing import preprocessing

TINY: dict[str, Any] = {"embed_dim": 24, "num_heads": 3, "depth": 2, "num_classes": 5}


def entry(arch: str, size: int | None = None, **options: Any) -> Model:
    return Model(arch=arch, options=options, weights="random", input_size=size)


def sites_and_size(model: Model) -> tuple[Sites, tuple[int, ...]]:
    module = skeleton(model)
    size = preprocessing(module, model).input_size
    return sites_of(module, size), size


def site(model: Model, name: str, role: str = "output") -> Site:
    sites, size = sites_and_size(model)
    return sites.site(name, role)


VIT = entry("vit_tiny_patch16_224", **TINY, img_size=48)
DISTILLED = entry("deit_tiny_distilled_patch16_224", **TINY, img_size=48)
REGISTERS = entry("vit_small_patch14_reg4_dinov2", **TINY, img_size=70)
GAP = entry("vit_tiny_patch16_224", **TINY, img_size=48, class_token=False, global_pool="avg")
WIDE = entry("vit_tiny_patch16_224", **TINY, img_size=[32, 64])
FAMILIES = [VIT, DISTILLED, REGISTERS, GAP, WIDE]
EXPECTED = [  # prefix tokens, class token, grid, patch
    (1, True, (3, 3), (16, 16)),
    (2, True, (3, 3), (16, 16)),
    (5, True, (5, 5), (14, 14)),
    (0, False, (3, 3), (16, 16)),
    (1, True, (2, 4), (16, 16)),
]


@pytest.mark.parametrize(("model", "expected"), zip(FAMILIES, EXPECTED, strict=True))
@pytest.mark.parametrize(
    ("name", "role"), [("blocks.1", "output"), ("blocks.1.mlp", "stream"), ("norm", "input")]
)
def test_tokens_and_their_grid(model: Model, expected: tuple[Any, ...], name: str, role: str) -> None:
    found = site(model, name, role)
    prefix, class_token, grid, patch = expected
    assert found.layout == "tokens"
    assert (found.prefix, found.class_token, found.grid, found.patch) == expected
    assert found.shape == (prefix + grid[0] * grid[1], 24)


@pytest.mark.parametrize(("model", "expected"), zip(FAMILIES, EXPECTED, strict=True))
def test_attention_and_heads(model: Model, expected: tuple[Any, ...]) -> None:
    prefix, _, grid, _ = expected
    tokens = prefix + grid[0] * grid[1]
    weights, heads = site(model, "blocks.0.attn", "attention"), site(model, "blocks.0.attn", "heads")
    assert (weights.shape, weights.layout) == ((3, tokens, tokens), "attention")
    assert (heads.shape, heads.layout) == ((3, tokens, 8), "other")
    assert (weights.prefix, weights.grid) == (heads.prefix, heads.grid) == (prefix, grid)


def test_patches_before_the_class_token_have_no_prefix() -> None:
    found = site(VIT, "patch_embed")
    assert (found.shape, found.prefix, found.class_token, found.grid) == ((9, 24), 0, False, (3, 3))


def test_dynamic_sizes_have_the_grid_of_the_input_not_of_the_checkpoint() -> None:
    """7 x 28 patches are as many as the 14 x 14 that the model was built for; the image decides."""
    module = skeleton(entry("vit_tiny_patch16_224", **TINY, dynamic_img_size=True))
    for size, grid in (((3, 112, 448), (7, 28)), ((3, 96, 160), (6, 10)), ((3, 224, 224), (14, 14))):
        found = sites_of(module, size).site("blocks.0", "output")
        assert (found.grid, found.patch, found.prefix) == (grid, (16, 16), 1)


def test_patch_sizes_need_not_be_square() -> None:
    found = site(entry("vit_tiny_patch16_224", **TINY, img_size=[32, 64], patch_size=[8, 16]), "blocks.0")
    assert (found.grid, found.patch) == ((4, 4), (8, 16))


SWIN = entry(
    "swin_tiny_patch4_window7_224", img_size=56, depths=[2, 2], embed_dim=24, num_heads=[2, 4], num_classes=5
)


def test_swin_has_windows_inside_and_maps_between() -> None:
    assert site(SWIN, "layers.0.blocks.0.attn", "attention").layout == "windows"
    assert site(SWIN, "layers.0.blocks.0.attn").layout == "windows"
    stream = site(SWIN, "layers.0.blocks.0.attn", "stream")
    assert (stream.layout, stream.shape, stream.grid, stream.patch) == (
        "map_last",
        (14, 14, 24),
        (14, 14),
        (4, 4),
    )
    assert site(SWIN, "norm").layout == "map_last"


@pytest.mark.parametrize(
    ("model", "name", "layout", "grid"),
    [
        (entry("resnet18", 64), "layer2.0", "map", (8, 8)),
        (entry("resnet18", 64), "fc", "vector", None),
        (entry("convnext_tiny", 64), "stages.1.blocks.0", "map", (8, 8)),
        (
            entry("convnext_tiny", 64),
            "stages.1.blocks.0.mlp",
            "map_last",
            (8, 8),
        ),  # permuted inside the block
        (entry("convnext_tiny", 64), "stages.1.blocks.0.norm", "map_last", (8, 8)),
        (entry("efficientnet_b0", 64), "blocks.2.1", "map", (8, 8)),
        (entry("efficientnet_b0", 64), "blocks.2.1.se.conv_reduce", "map", (1, 1)),
        (entry("efficientnet_b0", 65), "blocks.2.1", "map", (9, 9)),
    ],
)
def test_which_axes_of_a_map_are_rows_and_columns(
    model: Model, name: str, layout: str, grid: tuple[int, int] | None
) -> None:
    found = site(model, name)
    assert (found.layout, found.grid) == (layout, grid)


def test_queries_by_head_are_neither_a_map_nor_tokens() -> None:
    model = entry("vit_tiny_patch16_224", **TINY, img_size=48, qk_norm=True)
    assert site(model, "blocks.0.attn.q_norm").layout == "other"


def test_weights_read_at_the_dropout_behind_them_are_no_map() -> None:
    found = site(VIT, "blocks.0.attn.attn_drop")
    assert (found.layout, found.shape) == ("attention", (3, 10, 10))


def values(
    model: Model, names: list[tuple[str, str]], *, fused: bool
) -> tuple[nn.Module, Tensor, list[Tensor]]:
    module = load(model, seed=0, folder=Path()).module
    size = preprocessing(module, model).input_size
    unfuse: frozenset[str] | None = frozenset() if fused else None
    sites = same_sites(module, sites_of(skeleton(model), size, unfuse=unfuse))
    taps = [
        Tap(
            (sites.nodes[role][name],),
            Reducer(lambda t, *, site: t.clone()),
            sites.site(name, role),
        )
        for name, role in names
    ]
    merged = merge(module, sites.traced.graph, [Lane("baseline")], {"baseline": taps})
    images = torch.randn(2, *size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        found = merged.module(images)
    return module, images, [found[merged.slots["baseline", tap]][0] for tap in taps]


@pytest.mark.parametrize("model", [VIT, DISTILLED, REGISTERS, entry("eva02_tiny_patch14_224", img_size=56)])
def test_heads_are_the_same_fused_and_not_and_are_what_the_projection_reads(model: Model) -> None:
    name = "blocks.1.attn"
    _, _, (fused,) = values(model, [(name, "heads")], fused=True)
    module, images, (heads, weights) = values(model, [(name, "heads"), (name, "attention")], fused=False)
    torch.testing.assert_close(fused, heads, rtol=1e-4, atol=1e-5)
    seen: list[Tensor] = []
    attn: Any = module.get_submodule(name)
    attn.proj.register_forward_pre_hook(lambda _, args: seen.append(args[0].clone()))
    attn.norm.register_forward_pre_hook(lambda _, args: seen.append(args[0].clone()))
    with torch.inference_mode():
        module(images)
    torch.testing.assert_close(heads.transpose(1, 2).flatten(2), seen[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:-1]), rtol=0, atol=1e-6)
    assert float(weights.min()) >= 0


def test_weights_times_values_are_the_heads() -> None:
    """Recomputed by hand from the queries, keys and values of the module."""
    name = "blocks.1.attn"
    module, _, (heads, weights, qkv) = values(
        VIT, [(name, "heads"), (name, "attention"), (f"{name}.qkv", "output")], fused=False
    )
    q, k, v = qkv.reshape(2, 10, 3, 3, 8).permute(2, 0, 3, 1, 4).unbind(0)
    by_hand = (q @ k.mT / 8**0.5).softmax(-1)
    torch.testing.assert_close(weights, by_hand, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(heads, by_hand @ v, rtol=1e-5, atol=1e-6)
    assert module.get_submodule(name).fused_attn is True


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.f = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.f(self.f(x.flatten(1)[:, :4]))
        return y


def test_a_module_called_twice_has_two_names() -> None:
    sites = sites_of(Twice().to("meta"), (3, 8, 8))
    assert sites.names("output") == ["f", "f:1"]
    assert sites.nodes["input"]["f:1"] is sites.nodes["output"]["f"]


def test_rows_of_the_sites_command() -> None:
    sites, _ = sites_and_size(VIT)
    rows = listed(sites, "branch", sites.names("branch"))
    assert rows[0] == {
        "site": "blocks.0.attn",
        "role": "branch",
        "shape": [10, 24],
        "depth": 0.25,
        "kind": "attention",
    }
    assert [row["depth"] for row in rows] == [0.25, 0.5, 0.75, 1.0]
    assert listed(sites, "output", ["patch_embed.proj"])[0]["kind"] == "Conv2d"
