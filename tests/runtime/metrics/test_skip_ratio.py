"""Skip ratio against loops over images and tokens in float64, and against hooks on plain timm modules."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import timm
import torch
import xarray as xr
from torch import Tensor, nn

from vitdsl import testing
from vitdsl.dsl.study import Entry
from vitdsl.runtime.graph.site import Site
from vitdsl.runtime.graph.sites import same_sites, sites_of
from vitdsl.runtime.metrics._base import Array
from vitdsl.runtime.metrics.skip_ratio import COSINES, GROUPS, SkipRatio, norms_and_cosines

KIND = SkipRatio(Entry())
VALUES = ("ratio", *COSINES, "undefined_share")


def cosine(a: Array, b: Array) -> float:
    below = np.linalg.norm(a) * np.linalg.norm(b)
    return float(a @ b / below) if below > 0 else np.nan


def reference(z: Tensor, f: Tensor, prefix: int, class_token: bool) -> dict[str, Array]:
    """For `[image, token, width]`: token by token, then the mean of what is defined, `[group]`."""
    found: dict[str, list[list[float]]] = {name: [[], [], []] for name in VALUES}
    for skips, branches in zip(z.double().numpy(), f.double().numpy(), strict=True):
        for token, (skip, branch) in enumerate(zip(skips, branches, strict=True)):
            group = 2 if token >= prefix else 0 if class_token and token == 0 else 1
            size = np.linalg.norm(branch)
            ratio = np.linalg.norm(skip) / size if size > 0 else np.nan
            row = [ratio, cosine(skip, skip + branch), cosine(skip, branch), cosine(branch, skip + branch)]
            for name, value in zip(VALUES, [*row, float(np.isnan(ratio))], strict=True):
                if not np.isnan(value):
                    found[name][group].append(float(value))
    return {
        name: np.asarray([np.mean(part) if part else np.nan for part in parts])
        for name, parts in found.items()
    }


def made(shape: tuple[int, ...], seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(shape, generator=generator)
    f = 0.4 * z + torch.randn(shape, generator=generator) * torch.rand(*shape[:2], *[1] * (len(shape) - 2))
    return z * 3, f


def run(site: Site, z: Tensor, f: Tensor, batch: int = 4) -> xr.Dataset:
    return testing.run(testing.group_of(KIND, [site]), testing.Stream({"baseline": ([(z, f)], None)}), batch)


def test_page() -> None:
    testing.check_page(SkipRatio)


@pytest.mark.parametrize(
    ("prefix", "class_token", "groups"),
    [
        (0, False, ["spatial"]),
        (1, True, ["cls", "spatial"]),
        (5, True, ["cls", "registers", "spatial"]),
        (4, False, ["registers", "spatial"]),
    ],
)
def test_laws(prefix: int, class_token: bool, groups: list[str]) -> None:
    sites = [
        testing.tokens_site(
            f"blocks.{i}.attn", prefix + 6, 8, prefix=prefix, class_token=class_token, grid=(2, 3)
        )
        for i in range(2)
    ]
    pairs = [made((10, prefix + 6, 8), seed) for seed in range(2)]
    assert KIND.coordinates(sites) == {"token": groups}
    chosen = [GROUPS.index(group) for group in groups]
    parts = [reference(z, f, prefix, class_token) for z, f in pairs]
    wanted = {name: np.stack([part[name][chosen] for part in parts])[None] for name in VALUES}
    stream = testing.Stream({"baseline": (pairs, None)})
    group = testing.group_of(KIND, sites)
    worst = testing.check_metric(group, stream, wanted, batch=4, any_batches=True, tolerance=1e-12)
    assert worst < 1e-12


def test_mean_of_ratios_is_not_ratio_of_means() -> None:
    site = testing.tokens_site("b", 4, 1, prefix=0)
    z = torch.tensor([[1.0, 1, 1, 1], [1, 1, 1, 1]])[..., None]
    f = torch.tensor([[1.0, 2, 4, 8], [1, 1, 1, 1]])[..., None]
    assert float(run(site, z, f)["ratio"].squeeze()) == pytest.approx(
        (1 + 0.5 + 0.25 + 0.125 + 4) / 8, abs=1e-15
    )


@pytest.mark.parametrize("layout", ["map", "map_last"])
@pytest.mark.parametrize("channels_last", [False, True])
def test_maps(layout: str, channels_last: bool) -> None:
    z, f = made((6, 5, 3, 4))
    flat = [one.flatten(2).transpose(1, 2) for one in (z, f)]
    wanted = reference(*flat, 0, False)
    shape = (5, 3, 4) if layout == "map" else (3, 4, 5)
    site = Site("layer1.0", "skip", shape, layout, 0.5, grid=(3, 4))
    if layout == "map_last":
        z, f = z.permute(0, 2, 3, 1), f.permute(0, 2, 3, 1)
        z, f = (z, f) if channels_last else (z.contiguous(), f.contiguous())
    elif channels_last:
        z, f = (one.contiguous(memory_format=torch.channels_last) for one in (z, f))
    found = run(site, z, f)
    for name in VALUES:
        np.testing.assert_allclose(found[name].values.squeeze(), wanted[name][2], atol=1e-12, err_msg=name)


def test_a_branch_that_adds_nothing_is_left_out_and_counted() -> None:
    z, f = made((6, 5, 8))
    f[2, 3], f[4, 0], f[5, 0] = 0, 0, 0
    site = testing.tokens_site("blocks.0.mlp", 5, 8)
    found, wanted = run(site, z, f), reference(z, f, 1, True)
    for name in VALUES:
        np.testing.assert_allclose(found[name].values[0, 0], wanted[name][[0, 2]], atol=1e-12, err_msg=name)
    np.testing.assert_allclose(found["undefined_share"].values[0, 0], [2 / 6, 1 / 24], atol=1e-15)
    assert found.attrs["undefined"] == "[]"


def test_a_branch_that_never_adds_anything_is_undefined_by_name() -> None:
    z, f = made((6, 5, 8))
    f[:, 0] = 0
    found = run(testing.tokens_site("blocks.0.mlp", 5, 8), z, f)
    assert np.isnan(found["ratio"].values[0, 0, 0]) and np.isfinite(found["ratio"].values[0, 0, 1])
    assert found["undefined_share"].values[0, 0].tolist() == [1.0, 0.0]
    assert "the branch of `blocks.0.mlp` adds nothing to its cls tokens" in found.attrs["undefined"]
    assert "spatial" not in found.attrs["undefined"]


def test_an_empty_skip_has_ratio_zero_and_a_branch_that_undoes_it_ratio_one() -> None:
    site = testing.tokens_site("b", 1, 3, prefix=0)
    z, f = torch.tensor([[[0.0, 0, 0]], [[1, 2, 3]]]), torch.tensor([[[1.0, 2, 3]], [[-1, -2, -3]]])
    found = run(site, z, f)
    assert float(found["ratio"].squeeze()) == pytest.approx(0.5, abs=1e-15)
    assert float(found["undefined_share"].squeeze()) == 0
    assert float(found["cos_skip_branch"].squeeze()) == pytest.approx(-1, abs=1e-15)
    assert float(found["cos_branch_stream"].squeeze()) == pytest.approx(1, abs=1e-15)
    assert np.isnan(float(found["cos_skip_stream"].squeeze()))


@pytest.mark.parametrize("scale", [1e-30, 1e-19, 1e-6, 1.0, 1e15, 1e30])
def test_any_scale_that_float32_holds(scale: float) -> None:
    z, f = made((4, 5, 8))
    site = testing.tokens_site("b", 5, 8)
    plain, scaled = run(site, z, f), run(site, z * scale, f * scale)
    for name in VALUES:
        np.testing.assert_allclose(scaled[name], plain[name], rtol=2e-6, err_msg=name)
    small = run(site, z, f * scale)
    np.testing.assert_allclose(small["ratio"], plain["ratio"] / scale, rtol=2e-6)


def test_half_precision() -> None:
    z, f = made((4, 5, 768))
    z, f = (50 * z).half(), (50 * f).half()
    found, wanted = run(testing.tokens_site("b", 5, 768), z, f), reference(z, f, 1, True)
    for name in VALUES:
        np.testing.assert_allclose(found[name].values[0, 0], wanted[name][[0, 2]], atol=1e-11, err_msg=name)


def test_a_branch_that_nearly_undoes_the_skip_keeps_its_digits() -> None:
    """In float32, z.z + 2 z.f + f.f is all rounding here."""
    z, _ = made((4, 5, 64))
    f = -z * (1 + 2.0**-12) + 1e-5 * torch.randn(4, 5, 64)
    found, wanted = run(testing.tokens_site("b", 5, 64), z, f), reference(z, f, 1, True)
    for name in VALUES:
        np.testing.assert_allclose(found[name].values[0, 0], wanted[name][[0, 2]], atol=1e-8, err_msg=name)


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_seen(side: int, bad: float) -> None:
    pair = made((6, 5, 8))
    pair[side][3, 2, 1] = bad
    found = run(testing.tokens_site("blocks.0.mlp", 5, 8), *pair)
    assert np.isnan(found["ratio"].values[0, 0, 1]) and np.isfinite(found["ratio"].values[0, 0, 0])
    assert "`blocks.0.mlp` has spatial tokens that are not finite" in found.attrs["undefined"]


def test_chunks_of_images_change_nothing() -> None:
    z, f = made((40, 300, 64))
    site = testing.tokens_site("b", 300, 64, prefix=0, grid=(15, 20))
    whole = norms_and_cosines(z, f, site=site)
    each = torch.cat(
        [norms_and_cosines(a, b, site=site) for a, b in zip(z.split(1), f.split(1), strict=True)]
    )
    assert whole.shape == (40, 3, 9) and whole.dtype == torch.float64
    torch.testing.assert_close(whole, each, rtol=1e-14, atol=0)


@pytest.mark.parametrize("angle", [0.0, 1.0, 2.0, 2.6, 3.0, 3.1, 3.14159])
def test_digits_are_kept_however_far_the_branch_undoes_the_skip(angle: float) -> None:
    z, f = made((6, 300, 64))
    f = (np.cos(angle) * z + np.sin(angle) * f).float()
    found = norms_and_cosines(z, f, site=testing.tokens_site("b", 300, 64, prefix=0, grid=(15, 20)))
    wide, other = z.double().numpy(), f.double().numpy()
    sizes = [np.linalg.norm(one, axis=-1) for one in (wide, other, wide + other)]
    both = (wide * other).sum(-1)
    wanted = [
        sizes[0] / sizes[1],
        (wide * (wide + other)).sum(-1) / sizes[0] / sizes[2],
        both / sizes[0] / sizes[1],
        (other * (wide + other)).sum(-1) / sizes[1] / sizes[2],
    ]
    # |z|^2 + z f loses as many digits as the branch undoes of the skip; |z|^2 + |f|^2 + 2 z f loses twice as many.
    lost = float((sizes[0] / sizes[2]).max())
    for i, one in enumerate(wanted):
        np.testing.assert_allclose(
            found[:, 2, 4 + i], one.sum(-1), rtol=1e-14, atol=1e-13 + 2e-14 * lost, err_msg=str(i)
        )


def listen(module: nn.Module, kept: dict[str, Any], name: str, take: Callable[..., Tensor]) -> None:
    module.register_forward_hook(
        lambda _, inputs, output: kept.__setitem__(name, take(inputs, output).clone())
    )


def test_layer_scale_counts_to_the_branch_on_a_real_model() -> None:
    """A ViT with LayerScale of 0.01 to 1: hooks on timm's own modules say what enters each add."""
    torch.manual_seed(0)
    options = {
        "img_size": 32,
        "patch_size": 8,
        "embed_dim": 24,
        "depth": 2,
        "num_heads": 2,
        "init_values": 0.1,
    }
    model = timm.create_model("vit_tiny_patch16_224", pretrained=False, **options).eval()
    for block in model.blocks:
        for scale in (block.ls1, block.ls2):
            nn.init.uniform_(scale.gamma, 0.01, 1.0)
    heard: dict[str, Tensor] = {}
    for i, block in enumerate(model.blocks):
        listen(block.norm1, heard, f"blocks.{i}.attn:skip", lambda inputs, output: inputs[0])
        listen(block.ls1, heard, f"blocks.{i}.attn:branch", lambda inputs, output: output)
        listen(block.norm2, heard, f"blocks.{i}.mlp:skip", lambda inputs, output: inputs[0])
        listen(block.ls2, heard, f"blocks.{i}.mlp:branch", lambda inputs, output: output)
        listen(block.attn, heard, f"blocks.{i}.attn:unscaled", lambda inputs, output: output)
    images = torch.randn(5, 3, 32, 32)
    with torch.inference_mode():
        model(images)
    kept = dict(heard)  # tracing calls the hooks again
    sites = same_sites(model, sites_of(copy.deepcopy(model).to("meta"), (3, 32, 32)))
    nodes = [sites.nodes[role][name] for name in sites.units for role in ("skip", "branch")]
    graph = sites.traced.graph
    with torch.inference_mode():
        read = dict(zip(nodes, tensors_at(model, graph, nodes, images), strict=True))
    assert set(sites.units) == {"blocks.0.attn", "blocks.0.mlp", "blocks.1.attn", "blocks.1.mlp"}
    for name in sites.units:
        site = sites.site(name, "skip")
        z, f = (read[sites.nodes[role][name]] for role in ("skip", "branch"))
        wanted = reference(kept[f"{name}:skip"], kept[f"{name}:branch"], 1, True)
        found = run(site, z, f)
        for value in VALUES:
            np.testing.assert_allclose(
                found[value].values[0, 0], wanted[value][[0, 2]], rtol=1e-5, err_msg=value
            )
        if name.endswith("attn"):
            unscaled = reference(kept[f"{name}:skip"], kept[f"{name}:unscaled"], 1, True)
            assert abs(unscaled["ratio"][2] / wanted["ratio"][2] - 1) > 0.2


def tensors_at(
    model: nn.Module, graph: torch.fx.Graph, nodes: list[torch.fx.Node], images: Tensor
) -> list[Tensor]:
    """What a traced graph holds at some nodes, by running it node by node."""

    class Recorder(torch.fx.Interpreter):
        seen: dict[torch.fx.Node, Any]

        def run_node(self, n: torch.fx.Node) -> Any:
            result = super().run_node(n)
            if n in wanted:
                found[n] = result
            return result

    wanted, found = set(nodes), dict[torch.fx.Node, Tensor]()
    Recorder(torch.fx.GraphModule(model, graph)).run(images)
    return [found[node] for node in nodes]


def test_refuses_tensors_without_tokens() -> None:
    assert KIND.refuse(testing.tokens_site("b", 5, 8)) is None
    assert "no tokens" in (KIND.refuse(testing.vector_site("f", 10)) or "")
