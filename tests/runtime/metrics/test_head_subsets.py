"""Subsets of heads against features laid side by side and Song's formula, and against hooks on plain models."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor

from song import cka
from vitdsl import testing
from vitdsl.dsl.load import load_text
from vitdsl.runtime.data.stream import open_stream
from vitdsl.runtime.graph.site import Site
from vitdsl.runtime.metrics._base import Array
from vitdsl.runtime.metrics.head_subsets import HeadSubsets, Params, spearman
from vitdsl.runtime.models import loading
from vitdsl.runtime.plan.bind import bind, bind_diagnostics
from vitdsl.runtime.results.folder import open_run
from vitdsl.runtime.run.run import run

KIND = HeadSubsets(Params())


def site_of(heads: int, grid: tuple[int, int], prefix: int = 1, name: str = "blocks.0.attn") -> Site:
    shape = (heads, prefix + math.prod(grid), 5)
    return Site(name, "heads", shape, "other", 0.1, prefix, prefix > 0, grid, (4, 8))


def made(site: Site, images: int, seed: int) -> tuple[Tensor, Tensor]:
    """Head outputs and softmax weights, heads of different reach in no order."""
    generator = torch.Generator().manual_seed(seed)
    heads, tokens, _ = site.shape
    scores = torch.randn(images, heads, tokens, tokens, generator=generator)
    sharp = torch.randperm(heads, generator=generator) * 5 / heads
    scores += sharp[:, None, None] * torch.eye(tokens)
    return torch.randn(images, *site.shape, generator=generator), scores.softmax(-1)


def distances(attention: Array, site: Site, renormalize: bool) -> Array:
    """Mean distance of each head, one query and one key after another."""
    assert site.grid is not None and site.patch is not None and site.prefix is not None
    places = [
        (r * site.patch[0], c * site.patch[1]) for r in range(site.grid[0]) for c in range(site.grid[1])
    ]
    weights = attention[:, :, site.prefix :, site.prefix :]
    if renormalize:
        weights = weights / weights.sum(-1, keepdims=True)
    found = np.zeros(attention.shape[1])
    for i, one in enumerate(places):
        for j, other in enumerate(places):
            found += weights[:, :, i, j].mean(0) * math.dist(one, other) / len(places)
    return found


def reference(
    x: Sequence[tuple[Array, Array]],
    y: Sequence[Array],
    sites: Sequence[Site],
    window: int | None,
    batch: int,
    first: int | None = None,
    renormalize: bool = False,
) -> dict[str, Array]:
    """Every value, padded with NaN to the most subsets."""
    sizes = [window or max(1, len(heads[0]) // 4) for heads, _ in x]
    most = max(len(heads[0]) - size + 1 for (heads, _), size in zip(x, sizes, strict=True))
    found = {
        "cka": np.full((len(x), most, len(y)), np.nan),
        "distance": np.full((len(x), most), np.nan),
        "trend": np.full((len(x), len(y)), np.nan),
    }
    for i, ((heads, attention), site, size) in enumerate(zip(x, sites, sizes, strict=True)):
        reach = distances(attention, site, renormalize)
        order = sorted(range(len(reach)), key=lambda head: reach[head])
        count = len(order) - size + 1
        for s in range(count):
            chosen = order[s : s + size]
            start = site.prefix if first is None else first
            features = np.concatenate([heads[:, head, start:].reshape(len(heads), -1) for head in chosen], 1)
            found["distance"][i, s] = reach[chosen].mean()
            found["cka"][i, s] = [cka(features, layer.reshape(len(layer), -1), batch) for layer in y]
        if count > 1:
            of_subsets = found["distance"][i, :count]
            found["trend"][i] = [spearmanr(found["cka"][i, :count, j], of_subsets)[0] for j in range(len(y))]
    return found


CASES: list[tuple[HeadSubsets, list[int], int]] = [
    (KIND, [8, 5], 1),
    (HeadSubsets(Params(window=2)), [4, 6], 0),
    (HeadSubsets(Params(window=3, prefix_tokens=True, renormalize=True)), [5], 2),
]


@pytest.mark.parametrize(("kind", "heads", "prefix"), CASES)
def test_laws(kind: HeadSubsets, heads: list[int], prefix: int) -> None:
    assert isinstance(kind.params, Params)
    sites = [site_of(count, (2, 3), prefix, f"blocks.{i}.attn") for i, count in enumerate(heads)]
    x = [made(site, 22, seed) for seed, site in enumerate(sites)]
    generator = torch.Generator().manual_seed(9)
    y = [x[0][0][:, 0, :, :3] + torch.randn(22, prefix + 6, 3, generator=generator), torch.randn(22, 4, 2, 2)]
    y_sites = [
        testing.tokens_site("stage", prefix + 6, 3, prefix=prefix, grid=(2, 3)),
        testing.vector_site("map", 16),
    ]
    first = 0 if kind.params.prefix_tokens else None
    wanted = reference(
        [(one.double().numpy(), other.double().numpy()) for one, other in x],
        [one.double().numpy() for one in y],
        sites,
        kind.params.window,
        8,
        first,
        kind.params.renormalize,
    )
    stream = testing.Stream({"baseline": (x, [(one,) for one in y])})
    group = testing.group_of(kind, sites, y_sites)
    values = {name: value[None] for name, value in wanted.items()}
    worst = testing.check_metric(group, stream, values, batch=8, any_batches=False, tolerance=1e-6)
    assert worst < 1e-6
    assert np.nanmax(wanted["cka"]) > 0.1 and np.nanmax(wanted["distance"]) > 5, "else this says nothing"


def test_page() -> None:
    testing.check_page(HeadSubsets)


def test_all_heads_at_once_are_the_layer_itself() -> None:
    """The Gram matrix of all heads is that of the whole output, so that its CKA with it is one."""
    site = site_of(3, (2, 2), prefix=1)
    heads, attention = made(site, 16, 0)
    kind = HeadSubsets(Params(window=3))
    stream = testing.Stream({"baseline": ([(heads, attention)], [(heads[:, :, 1:].flatten(1),)])})
    found = testing.run(testing.group_of(kind, [site], [testing.vector_site("y", 60)]), stream, 8)
    assert float(found["cka"].squeeze()) == pytest.approx(1, abs=1e-6)
    assert np.isnan(found["trend"].values).all()
    assert "one subset of 3 heads, so there is no trend" in found.attrs["undefined"]


def test_ranks_share_ties() -> None:
    x = np.array([[1.0, 3.0], [1.0, 2.0], [5.0, 1.0], [0.0, np.nan]])
    y = np.array([[2.0], [4.0], [4.0], [1.0]])
    found = spearman(x, y)
    assert found[0] == pytest.approx(spearmanr(x[:, 0], y[:, 0])[0]) and np.isnan(found[1])
    assert np.isnan(spearman(np.ones((3, 1)), y[:3])).all()


def test_what_is_constant_or_not_finite_is_named() -> None:
    site = site_of(4, (2, 2))
    heads, attention = made(site, 16, 1)
    heads[:, 2] = 1.5
    y = [testing.vector_site("dead", 4), testing.vector_site("fine", 4)]

    def found() -> Any:
        layers = [(torch.ones(16, 4),), (torch.randn(16, 4),)]
        stream = testing.Stream({"baseline": ([(heads, attention)], layers)})
        return testing.run(testing.group_of(HeadSubsets(Params(window=2)), [site], y), stream, 8)

    first = found()
    assert np.isnan(first["cka"].values[..., 0]).all() and np.isfinite(first["cka"].values[..., 1]).all()
    assert "heads of `blocks.0.attn` are constant over the images" in first.attrs["undefined"]
    assert "`dead` is constant over the images" in first.attrs["undefined"]
    attention[3, 1, 2] = torch.nan
    assert "heads of `blocks.0.attn` are not finite" in found().attrs["undefined"]


@pytest.mark.parametrize(
    ("site", "kind", "says"),
    [
        (replace(site_of(3, (2, 2)), layout="windows"), KIND, "windows"),
        (testing.vector_site(role="heads"), KIND, "not one map of tokens for each head"),
        (replace(site_of(3, (2, 2)), grid=None), KIND, "not the model's patch grid"),
        (
            Site("a", "attention", (3, 5, 2), "attention", 0.0, 1, True, (2, 2)),
            KIND,
            "different grids (5 and 2",
        ),
        (site_of(3, (2, 2)), HeadSubsets(Params(window=4)), "3 heads, and `window` of the metric asks for 4"),
    ],
)
def test_refused_sites(site: Site, kind: HeadSubsets, says: str) -> None:
    assert says in (kind.refuse(site) or "")
    assert KIND.refuse(site_of(3, (2, 2))) is None
    assert KIND.refuse_y(testing.vector_site()) is None


STUDY = """
vitdsl: 1
study: subsets
data: {probe: {source: digits, split: test, images: 60, batch: 20}}
models:
  vit: {arch: vit_tiny_patch16_224, weights: random,
        options: {img_size: 32, patch_size: 8, embed_dim: 24, num_heads: 4, depth: 2, num_classes: 10}}
  resnet: {arch: resnet10t, weights: random, input_size: 64, options: {num_classes: 10}}
  swin: {arch: swin_tiny_patch4_window7_224, weights: random,
         options: {img_size: 56, depths: [1, 1], embed_dim: 12, num_heads: [2, 4]}}
layers:
  heads: {of: vit, at: "blocks.*.attn", role: heads}
  early: {of: resnet, at: ["layer1.*", "layer2.*"]}
ablations: {no_skip: {kind: remove_skip, of: vit, at: "blocks.0.attn"}}
metrics: {subsets: {kind: head_subsets, x: heads, y: early}}
"""


def test_end_to_end_against_hooks(tmp_path: Path) -> None:
    """timm's own attention, its softmax written out by hand from qkv."""
    plan = bind(load_text(STUDY))
    outcome = run(plan, out=tmp_path)
    assert outcome.folder is not None
    results = open_run(outcome.folder).groups["subsets/vit~resnet"]
    configs = {name: plan.models[name].config for name in ("vit", "resnet")}
    batches = list(open_stream(plan.data["probe"], seed=0, folder=Path(), transforms=configs))
    vit, resnet = (loading.load(plan.models[name].entry, seed=0, folder=Path()).module for name in configs)
    qkv: list[list[Tensor]] = [[], []]
    y: list[list[Tensor]] = [[], []]
    for i, block in enumerate(vit.blocks):
        block.attn.qkv.register_forward_hook(lambda _, __, out, kept=qkv[i]: kept.append(out))
    for i, path in enumerate(("layer1.0", "layer2.0")):
        resnet.get_submodule(path).register_forward_hook(
            lambda _, __, out, kept=y[i]: kept.append(out.clone())
        )
    with torch.no_grad():
        for batch in batches:
            vit(batch.images["vit"])
            resnet(batch.images["resnet"])
    site = Site("", "heads", (4, 17, 6), "other", 0.0, 1, True, (4, 4), (8, 8))
    x = []
    for some in qkv:
        q, k, v = torch.cat(some).double().unflatten(2, (3, 4, 6)).permute(2, 0, 3, 1, 4)
        weights = (q @ k.mT / 6**0.5).softmax(-1)
        x.append(((weights @ v).numpy(), weights.numpy()))
    wanted = reference(x, [torch.cat(some).double().numpy() for some in y], [site, site], None, 20)
    assert results["condition"].values.tolist() == ["baseline", "no_skip"]
    assert results["site_y"].values.tolist() == ["layer1.0", "layer2.0"]
    for name, value in wanted.items():
        np.testing.assert_allclose(results[name].values[0], value, atol=1e-4, err_msg=name)
    assert results["cka"].shape == (2, 2, 4, 2) and np.isfinite(results["cka_low"].values).all()
    assert not np.allclose(results["cka"].values[0, 1], results["cka"].values[1, 1], atol=1e-3)


@pytest.mark.parametrize(
    ("old", "new", "code", "says"),
    [
        (", role: heads", "", "VD242", "write `role: heads`"),
        (", y: early", "", "VD222", "needs `y`"),
        ("y: early", "y: early, against: baseline", "VD222", "takes no `against`"),
        ("y: early", "y: early, window: 5", "VD242", "it has 4 heads"),
        (
            '{of: vit, at: "blocks.*.attn", role',
            '{of: swin, at: "layers.*.blocks.*.attn", role',
            "VD242",
            "windows",
        ),
    ],
)
def test_a_wrong_study_is_told(old: str, new: str, code: str, says: str) -> None:
    found = bind_diagnostics(load_text(STUDY.replace(old, new)))
    assert [one.code for one in found] == [code], found
    assert says in found[0].message + " ".join(found[0].help)


def test_heads_may_be_compared_with_themselves() -> None:
    plan = bind(load_text(STUDY.replace("y: early", "y: heads")))
    (group,) = plan.groups
    assert group.x.roles == ("heads", "attention") and group.y.roles == ("heads",) and group.y is not group.x
