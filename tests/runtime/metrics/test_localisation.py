"""Localisation against Song's formula of one token and one patch at a time, and against hooks on plain models."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from song import cka
from vitdsl import testing
from vitdsl.dsl.load import load_text
from vitdsl.runtime.data.stream import open_stream
from vitdsl.runtime.graph.site import Site
from vitdsl.runtime.metrics._base import Array
from vitdsl.runtime.metrics.localisation import Localisation, Params
from vitdsl.runtime.models import loading
from vitdsl.runtime.plan.bind import bind, bind_diagnostics
from vitdsl.runtime.results.folder import open_run
from vitdsl.runtime.run.cost import cost
from vitdsl.runtime.run.run import run

KIND = Localisation(Params())


def site_of(layout: str, grid: tuple[int, int], width: int, prefix: int = 0, **more: Any) -> Site:
    rows, cols = grid
    shapes = {
        "tokens": (prefix + rows * cols, width),
        "map": (width, rows, cols),
        "map_last": (rows, cols, width),
    }
    fields = {"prefix": prefix, "grid": grid, "patch": (4, 4), "pixels": (4 * rows, 4 * cols)} | more
    return Site("blocks.0", "output", shapes[layout], layout, 0.5, **fields)  # type: ignore[arg-type]


def patches(images: Array, grid: tuple[int, int]) -> dict[tuple[int, int], Array]:
    """Pixels of each cell, `[image, feature]`, by its row and column."""
    height, width = images.shape[2] // grid[0], images.shape[3] // grid[1]
    return {
        (r, c): images[:, :, r * height : (r + 1) * height, c * width : (c + 1) * width].reshape(
            len(images), -1
        )
        for r in range(grid[0])
        for c in range(grid[1])
    }


def reference(
    layers: Sequence[dict[tuple[int, int], Array]], images: Array, grid: tuple[int, int], batch: int
) -> dict[str, Array]:
    """Every value of layers that give features `[image, width]` of each place that is read."""
    cells = patches(np.asarray(images, np.float64), grid)
    read = list(layers[0])
    maps = np.array([[[cka(one[at], cells[to], batch) for to in cells] for at in read] for one in layers])
    control = np.array([[cka(cells[at], cells[to], batch) for to in cells] for at in read])
    found: dict[str, Any] = {"map": maps.reshape(len(layers), len(read), *grid)}
    found["control"] = control.reshape(len(read), *grid)
    rows: dict[str, list[list[float]]] = {name: [] for name in ("rate", "own", "excess", "error")}
    for scores in found["map"]:
        kept: dict[tuple[bool, str], list[float]] = {}
        for t, (r, c) in enumerate(read):
            edge = r in (0, grid[0] - 1) or c in (0, grid[1] - 1)
            if math.isnan(scores[t, r, c]):
                continue
            best = np.unravel_index(np.nanargmax(scores[t]), grid)
            beside = [
                found["control"][t, a, b]
                for a in range(max(0, r - 1), min(grid[0], r + 2))
                for b in range(max(0, c - 1), min(grid[1], c + 2))
                if (a, b) != (r, c)
            ]
            for name, value in (
                ("rate", float((int(best[0]), int(best[1])) == (r, c))),
                ("own", scores[t, r, c]),
                ("excess", scores[t, r, c] - np.nanmean(beside)),
                ("error", math.dist((float(best[0]), float(best[1])), (r, c))),
            ):
                kept.setdefault((edge, name), []).append(value)
        for name, lists in rows.items():
            lists.append([float(np.mean(kept.get((edge, name), [np.nan]))) for edge in (False, True)])
    return found | {name: np.array(value) for name, value in rows.items()}


def made(site: Site, images: int, seed: int, noise: float = 0.8) -> tuple[Tensor, Tensor]:
    """A layer whose positions carry some of their own patch, and smooth images."""
    generator = torch.Generator().manual_seed(seed)
    assert site.grid is not None and site.pixels is not None
    rows, cols = site.grid
    rough = torch.randn(images, 3, *site.pixels, generator=generator)
    pixels = torch.nn.functional.avg_pool2d(rough, 5, 1, 2) * 3 + 0.5
    width = {"tokens": site.shape[-1], "map": site.shape[0], "map_last": site.shape[-1]}[site.layout]
    mix = torch.randn(48, width, generator=generator) / 7
    own = torch.nn.functional.unfold(pixels, 4, stride=4).transpose(1, 2) @ mix
    own += noise * torch.randn(own.shape, generator=generator)
    if site.layout == "tokens":
        head = torch.randn(images, site.prefix or 0, width, generator=generator)
        return torch.cat([head, own], 1), pixels
    grid = own.unflatten(1, (rows, cols))
    return (grid.permute(0, 3, 1, 2) if site.layout == "map" else grid), pixels


def at(tensor: Tensor, site: Site, read: Sequence[tuple[int, int]]) -> dict[tuple[int, int], Array]:
    """Features of some places, by plain indexing."""
    assert site.grid is not None and site.prefix is not None
    x = tensor.double().numpy()
    if site.layout == "map":
        return {(r, c): x[:, :, r, c] for r, c in read}
    if site.layout == "map_last":
        return {(r, c): x[:, r, c] for r, c in read}
    return {(r, c): x[:, site.prefix + r * site.grid[1] + c] for r, c in read}


CASES: list[tuple[Localisation, str, tuple[int, int], int]] = [
    (KIND, "tokens", (3, 4), 1),
    (KIND, "tokens", (2, 3), 0),
    (Localisation(Params(tokens=[(2, 1), (0, 0), (1, 3)])), "tokens", (3, 4), 5),
    (KIND, "map", (3, 3), 0),
    (Localisation(Params(per_side=9)), "map_last", (3, 3), 0),
]


@pytest.mark.parametrize(("kind", "layout", "grid", "prefix"), CASES)
def test_laws(kind: Localisation, layout: str, grid: tuple[int, int], prefix: int) -> None:
    sites = [site_of(layout, grid, 6, prefix), site_of(layout, grid, 6, prefix)]
    (one, pixels), (other, _) = made(sites[0], 21, 0), made(sites[1], 21, 0, noise=4.0)
    names = [str(name).split(",") for name in kind.coordinates(sites)["token"]]
    read = [(int(r), int(c)) for r, c in names]
    layers = [at(tensor, site, read) for tensor, site in zip((one, other), sites, strict=True)]
    wanted = reference(layers, pixels.double().numpy(), grid, 8)
    stream = testing.Stream({"baseline": ([(one,), (other,)], None)}, pixels=pixels)
    group = testing.group_of(kind, sites)
    values = {name: value[None] for name, value in wanted.items()}
    worst = testing.check_metric(group, stream, values, batch=8, any_batches=False, tolerance=1e-6)
    assert worst < 1e-6
    assert wanted["own"][0, 1] > wanted["own"][1, 1] + 0.1, "the layers must differ for this to say anything"


def found_in(tensor: Tensor, pixels: Tensor, site: Site, kind: Localisation = KIND) -> Any:
    stream = testing.Stream({"baseline": ([(tensor,)], None)}, pixels=pixels)
    return testing.run(testing.group_of(kind, [site]), stream, 16).isel(condition=0)


def test_a_layer_that_is_its_own_patch_is_found_everywhere() -> None:
    site = site_of("tokens", (3, 3), 48)
    _, pixels = made(site, 32, 1)
    found = found_in(torch.nn.functional.unfold(pixels, 4, stride=4).transpose(1, 2), pixels, site)
    np.testing.assert_allclose(found["map"].values[0], found["control"].values, atol=1e-6)
    np.testing.assert_allclose(found["own"].values, 1, atol=1e-6)
    assert found["rate"].values.tolist() == [[1.0, 1.0]] and not found["error"].values.any()
    assert KIND.line("rate", [site]) == (1 / 9, "chance") and KIND.line("own", [site]) is None


def test_a_layer_that_is_another_place_is_off_by_its_distance() -> None:
    site = site_of("tokens", (3, 3), 48)
    _, pixels = made(site, 64, 2)
    own = torch.nn.functional.unfold(pixels, 4, stride=4).transpose(1, 2)
    found = found_in(own[:, [8, 7, 6, 5, 4, 3, 2, 1, 0]], pixels, site)
    assert found["rate"].values[0].tolist() == [1.0, 0.0], "the centre stays where it is"
    assert found["error"].values[0, 1] == pytest.approx((4 * 8**0.5 + 4 * 2) / 8)


def test_constant_tokens_and_patches_are_left_out_by_name() -> None:
    site = site_of("tokens", (3, 3), 6)
    tensor, pixels = made(site, 32, 3)
    tensor[:, 1], pixels[:, :, 8:, 8:] = 2.0, 0.5
    found = found_in(tensor, pixels, site)
    assert np.isnan(found["map"].values[0, 1]).all() and np.isnan(found["map"].values[:, :, 2, 2]).all()
    assert np.isfinite(found["rate"].values).all()
    assert found["rate"].values[0, 1] * 6 == pytest.approx(round(found["rate"].values[0, 1] * 6))
    assert "tokens of `blocks.0` are constant over the images at 0,1: no CKA" in found.attrs["undefined"]
    assert "input patches are constant over the images at 2,2: no CKA" in found.attrs["undefined"]
    tensor[3, 4, 0] = torch.nan
    assert "tokens of `blocks.0` are not finite at 1,1" in found_in(tensor, pixels, site).attrs["undefined"]


def test_small_batches_and_missing_regions_are_said() -> None:
    site = site_of("tokens", (3, 3), 6)
    tensor, pixels = made(site, 3, 3)
    assert "no batch has 4 images" in found_in(tensor, pixels, site).attrs["undefined"]
    tensor, pixels = made(site, 16, 3)
    found = found_in(tensor, pixels, site, Localisation(Params(tokens=[(0, 1)])))
    assert "no interior tokens are read" in found.attrs["undefined"] and np.isnan(found["own"].values[0, 0])


@pytest.mark.parametrize(
    ("grid", "first", "count"),
    [((7, 7), "0,1", 49), ((8, 8), "0,1", 64), ((14, 14), "0,4", 16), ((2, 16), "0,5", 8)],
)
def test_which_tokens_are_read_unless_the_study_says(grid: tuple[int, int], first: str, count: int) -> None:
    tokens = KIND.coordinates([site_of("tokens", grid, 6)])["token"]
    assert len(tokens) == count and tokens[:2] == ["0,0", first]
    assert tokens[-1] == f"{grid[0] - 1},{grid[1] - 1}"
    every = Localisation(Params(per_side=16)).coordinates([site_of("tokens", grid, 6)])["token"]
    assert len(every) == grid[0] * grid[1]


@pytest.mark.parametrize(
    ("site", "kind", "says"),
    [
        (testing.vector_site(), KIND, "no grid over the image"),
        (replace(site_of("tokens", (3, 3), 6), grid=None), KIND, "no grid over the image"),
        (site_of("tokens", (3, 3), 6, tokens="spatial"), KIND, "write `tokens: all`"),
        (site_of("map", (3, 3), 6, pixels=(13, 12)), KIND, "3 x 3 positions do not cut 13 x 12 pixels"),
        (site_of("map", (1, 1), 6), KIND, "one position"),
        (site_of("map", (3, 3), 6), Localisation(Params(tokens=[(0, 3)])), "no [0, 3]"),
        (site_of("map", (3, 3), 6), Localisation(Params(tokens=[(1, 2), (1, 2)])), "asked for twice"),
    ],
)
def test_refused_sites(site: Site, kind: Localisation, says: str) -> None:
    assert says in (kind.refuse(site) or "")
    assert kind.refuse(site_of("tokens", (3, 3), 6)) is None or kind is not KIND


STUDY = """
vitdsl: 1
study: places
data: {probe: {source: digits, split: test, images: 60, batch: 20}}
models:
  vit: {arch: vit_tiny_patch16_224, weights: random,
        options: {img_size: 32, patch_size: 8, embed_dim: 24, num_heads: 3, depth: 2, num_classes: 10}}
  resnet: {arch: resnet10t, weights: random, input_size: 64, options: {num_classes: 10}}
layers:
  blocks: {of: vit, at: "blocks.*"}
  last: {of: resnet, at: "layer4.*"}
metrics:
  vit: {kind: localisation, x: blocks, under: baseline}
  cnn: {kind: localisation, x: last, under: baseline, tokens: [[1, 0], [1, 1]]}
"""


def test_end_to_end_against_hooks(tmp_path: Path) -> None:
    plan = bind(load_text(STUDY))
    outcome = run(plan, out=tmp_path)
    assert outcome.folder is not None
    results = open_run(outcome.folder).groups
    configs = {name: planned.config for name, planned in plan.models.items()}
    stream = open_stream(plan.data["probe"], seed=0, folder=Path(), transforms=configs)
    batches = list(stream)
    reads = {
        "vit": ([(r, c) for r in range(4) for c in range(4)], (4, 4)),
        "resnet": ([(1, 0), (1, 1)], (2, 2)),
    }
    for metric, model, paths in (("vit", "vit", ["blocks.0", "blocks.1"]), ("cnn", "resnet", ["layer4.0"])):
        module = loading.load(plan.models[model].entry, seed=0, folder=Path()).module
        heard: list[list[Tensor]] = [[] for _ in paths]
        for i, path in enumerate(paths):
            module.get_submodule(path).register_forward_hook(
                lambda _, __, out, kept=heard[i]: kept.append(out.clone())
            )
        with torch.no_grad():
            for batch in batches:
                module(batch.images[model])
        read, grid = reads[model]
        layout, prefix = ("tokens", 1) if model == "vit" else ("map", 0)
        site = site_of(layout, grid, 1, prefix)
        layers = [at(torch.cat(some), site, read) for some in heard]
        pixels = torch.cat([batch.images[model] for batch in batches]).double().numpy()
        wanted = reference(layers, pixels, grid, 20)
        for name, value in wanted.items():
            found = results[f"{metric}/{model}"][name].values[0]
            np.testing.assert_allclose(found, value, atol=1e-4, err_msg=f"{model} {name}")
        assert np.isfinite(results[f"{metric}/{model}"]["own_low"].values[0, 0, 1])


def test_what_is_held_of_a_batch_is_priced() -> None:
    def memory(text: str) -> float:
        return next(one.memory for one in cost(bind(load_text(text))).models if one.name == "vit")

    few = memory(STUDY.replace("x: blocks, ", "x: blocks, per_side: 1, "))
    fewer = 20**2 * 15 + 2 * (20 + 32) * 2 * 15 * 16
    assert memory(STUDY) - few == 4 * 2 * fewer, "15 tokens fewer at each of 2 sites, in float32"


@pytest.mark.parametrize(
    ("old", "new", "code", "says"),
    [
        (
            'at: "layer4.*"',
            'at: ["layer3.*", "layer4.*"]',
            "VD242",
            "their positions differ (4 x 4 and 2 x 2)",
        ),
        ("tokens: [[1, 0], [1, 1]]", "tokens: [[1, 2]]", "VD242", "so no [1, 2]"),
        ("tokens: [[1, 0], [1, 1]]", "tokens: [[1, -1]]", "VD242", "so no [1, -1]"),
        ("tokens: [[1, 0], [1, 1]]", "tokens: all", "VD221", "a list"),
        ("tokens: [[1, 0], [1, 1]]", "tokens: []", "VD221", "empty"),
    ],
)
def test_a_wrong_study_is_told(old: str, new: str, code: str, says: str) -> None:
    found = bind_diagnostics(load_text(STUDY.replace(old, new)))
    assert [one.code for one in found] == [code], found
    assert says in found[0].message + " ".join(found[0].help)
