"""Attention maps against single weights in float64, against hooks on plain timm models, and through a whole run."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from attentions import (
    OPTIONS,
    PREFIX,
    SIZE,
    attention_site,
    by_graph,
    by_hooks,
    images_of,
    made,
    refusal_of_windows,
)
from studies import study as text_of
from vitdsl import testing
from vitdsl.cli import run as command
from vitdsl.runtime.graph.site import Site
from vitdsl.runtime.metrics._base import Array
from vitdsl.runtime.metrics.attention_map import AttentionMap, Params
from vitdsl.runtime.results.folder import open_run

KIND = AttentionMap(Params())


def small(image: Array) -> Array:
    """An image `[rgb, row, col]` in cells, `[row, col, rgb]`: one cell after another, then scaled to 0..1."""
    cell = math.ceil(max(image.shape[1:]) / 64)
    rows, cols = (range(0, n, cell) for n in image.shape[1:])
    cells = np.array([[image[:, i : i + cell, j : j + cell].mean((1, 2)) for j in cols] for i in rows])
    return (cells - cells.min()) / (cells.max() - cells.min())


def reference(blocks: list[Tensor], images: Tensor, site: Site, query: int, kept: int) -> dict[str, Array]:
    """Each value, weight by weight; `query` is a token."""
    assert site.grid is not None and site.prefix is not None
    rows, cols = site.grid
    some = np.full((len(blocks), site.shape[0], kept, rows, cols), np.nan)
    maps, peaks = np.zeros((len(blocks), site.shape[0], rows, cols)), np.zeros((len(blocks), site.shape[0]))
    for b, block in enumerate(blocks):
        for i, h in np.ndindex(*block.shape[:2]):
            row = block[i, h, query].double().numpy()
            field = np.array([[row[site.prefix + r * cols + c] for c in range(cols)] for r in range(rows)])
            maps[b, h] += field / len(block)
            peaks[b, h] += field.max() / field.sum() / len(block)
            if i < kept:
                some[b, h, i] = field
    shown = [small(one.double().numpy()) for one in images[:kept]]
    return {"map": maps, "example": some, "peak": peaks, "pixels": np.stack(shown)}


CASES = [
    (1, {}, 0),
    (5, {"query": "cls"}, 0),
    (2, {"query": "centre"}, 2 + 4),
    (1, {"query": [0, 2]}, 1 + 2),
    (0, {}, 4),
]


@pytest.mark.parametrize(("prefix", "params", "query"), CASES)
def test_laws(prefix: int, params: dict[str, object], query: int) -> None:
    kind = AttentionMap(Params(images=3, **params))
    sites = [attention_site((2, 3), prefix, name=f"blocks.{i}.attn") for i in range(2)]
    tensors = [made(9, site.shape, seed) for seed, site in enumerate(sites)]
    images = torch.randn(9, 3, 16, 24, generator=torch.Generator().manual_seed(5))
    stream = testing.Stream({"baseline": ([(one,) for one in tensors], None)}, pixels=images)
    wanted = {name: one[None] for name, one in reference(tensors, images, sites[0], query, 3).items()}
    group = testing.group_of(kind, sites)
    testing.check_metric(group, stream, wanted, batch=4, any_batches=True, tolerance=1e-6)
    found = testing.run(group, stream, 2)
    assert {name for name in found if str(name).startswith(("example", "pixels"))} == {"example", "pixels"}
    assert np.isfinite(found["map_low"]).all() and np.isfinite(found["peak_low"]).all()


def test_page() -> None:
    testing.check_page(AttentionMap)


@pytest.mark.parametrize("name", list(PREFIX))
def test_a_real_model_against_hooks(name: str) -> None:
    images, prefix = images_of(6), PREFIX[name]
    for params, query in (({}, 0 if prefix else 2 * 3 + 1), ({"query": [3, 1]}, prefix + 10)):
        found, sites = by_graph(AttentionMap(Params(**params)), name, images, 4)
        for value, wanted in reference(by_hooks(name, images), images, sites[0], query, 4).items():
            np.testing.assert_allclose(found[value].values[0], wanted, atol=2e-5, err_msg=value)
        assert float(found["map"].max()) > 1.5 / sites[0].shape[-1], "attention is too even to say anything"


@pytest.mark.parametrize("size", [(16, 24), (64, 60), (224, 224), (130, 96)])
def test_images_are_small_and_between_0_and_1(size: tuple[int, int]) -> None:
    site = attention_site((2, 2), heads=1)
    site = Site(**{**vars(site), "pixels": size})
    images = torch.randn(2, 3, *size) * 5 + 100
    images[1] = 7.0
    stream = testing.Stream({"baseline": ([(made(2, site.shape),)], None)}, pixels=images)
    found = testing.run(testing.group_of(AttentionMap(Params(images=2)), [site]), stream, 1)["pixels"]
    assert max(found.shape[2:4]) <= 64
    np.testing.assert_allclose(found.values[0, 0], small(images[0].double().numpy()), atol=1e-5)
    assert (found.values[0, 1] == 0).all(), "an image of one colour has no scale"
    names = KIND.coordinates([site])
    assert (len(names["pixel_row"]), len(names["pixel_col"])) == found.shape[2:4]


@pytest.mark.parametrize("channels", [1, 5])
def test_other_numbers_of_channels(channels: int) -> None:
    site = attention_site((2, 2), heads=1)
    images = torch.randn(2, channels, 16, 16)
    stream = testing.Stream({"baseline": ([(made(2, site.shape),)], None)}, pixels=images)
    found = testing.run(testing.group_of(AttentionMap(Params(images=1)), [site]), stream, 1)["pixels"]
    three = images[0, :3] if channels > 2 else images[0].expand(3, -1, -1)
    np.testing.assert_allclose(found.values[0, 0], small(three.double().numpy()), atol=1e-6)


def run(site: Site, attention: Tensor, **params: object) -> dict[str, Array]:
    pixels = torch.randn(len(attention), 3, *(site.pixels or ()))
    stream = testing.Stream({"baseline": ([(attention,)], None)}, pixels=pixels)
    found = testing.run(testing.group_of(AttentionMap(Params(**params)), [site]), stream, 2)
    return {name: found[name].values[0] for name in KIND.VALUES} | {"said": found.attrs["undefined"]}


def test_even_attention_has_the_peak_of_the_line() -> None:
    site = attention_site((4, 3), 5)
    found = run(site, torch.full((3, *site.shape), 1 / 17))
    line = KIND.line("peak", [site])
    assert line is not None and (found["peak"] == pytest.approx(line[0], rel=1e-6)) and line[0] == 1 / 12
    np.testing.assert_allclose(found["map"], 1 / 17, rtol=1e-6)
    assert KIND.line("map", [site]) is None


def test_images_that_give_patches_nothing_have_no_peak_and_one_that_is_not_there_no_example() -> None:
    site = attention_site((2, 2), heads=2)
    attention = torch.full((3, *site.shape), 0.2)
    attention[0, :, 0] = torch.tensor([0.5, 0.5, 0, 0, 0])
    attention[1:, :, 0] = torch.tensor([1.0, 0, 0, 0, 0])
    attention[:, 1, 0] = torch.tensor([1.0, 0, 0, 0, 0])
    found = run(site, attention)
    assert found["peak"][0, 0] == 1 and np.isnan(found["peak"][0, 1])
    assert found["map"][0, 0, 0, 0] == pytest.approx(0.5 / 3)
    assert np.isfinite(found["example"][0, :, :3]).all() and np.isnan(found["example"][0, :, 3]).all()
    assert "a head of `blocks.0.attn` gives patches nothing" in str(found["said"])
    assert "the stream has 3 images: fewer than `images`" in str(found["said"])


def test_sites_with_fewer_heads_are_padded_and_broken_weights_named() -> None:
    sites = [attention_site((2, 2), heads=heads, name=f"blocks.{heads}.attn") for heads in (3, 1)]
    tensors = [made(5, site.shape) for site in sites]
    tensors[0][4, 2, 0, 1] = np.nan
    stream = testing.Stream(
        {"baseline": ([(one,) for one in tensors], None)}, pixels=torch.randn(5, 3, 16, 16)
    )
    found = testing.run(testing.group_of(KIND, sites), stream, 2)
    assert np.isnan(found["map"].values[0, 1, 1:]).all() and np.isfinite(found["map"].values[0, 1, 0]).all()
    assert "`blocks.3.attn` are not finite" in found.attrs["undefined"]
    assert "blocks.1" not in found.attrs["undefined"]


def test_refusals() -> None:
    free = attention_site((4, 3), 0)
    assert KIND.refuse(free) is None and KIND.refuse(attention_site()) is None
    assert "no class token: write" in (AttentionMap(Params(query="cls")).refuse(free) or "")
    for place in ([1, 3], [4, 0], [-1, 0], [1], [0, 0, 0]):
        said = AttentionMap(Params(query=place)).refuse(free) or ""
        assert f"4 rows and 3 columns of patches, and no `[row, col]` {place}" in said
    assert AttentionMap(Params(query=[3, 2])).refuse(free) is None
    wanted = {
        "different grids (49 and 10": Site("a", "attention", (3, 49, 10), "attention", 0.0),
        "not the model's patch grid": Site("a", "attention", (3, 49, 49), "attention", 0.0),
    }
    assert all(says in (KIND.refuse(site) or "") for says, site in wanted.items())
    assert "stays inside windows" in refusal_of_windows("attention_map", at='"layers.0.**"')


def test_a_whole_run_and_its_page(tmp_path: Path) -> None:
    """The study's words, saved blocks, labels, and pictures of maps and images."""
    path = tmp_path / "study.yaml"
    path.write_text(
        text_of(
            "looks",
            data={"probe": "{source: digits, split: test, images: 12, batch: 5}"},
            models={"vit": {"arch": "vit_tiny_patch16_224", "options": OPTIONS, "weights": "random"}},
            metrics={
                "looks": "{kind: attention_map, of: vit, images: 2}",
                "corner": '{kind: attention_map, of: vit, at: "blocks[0:2]", query: [0, 1], images: 2}',
                "rollout": "{kind: attention_rollout, of: vit}",
                "entropy": "{kind: attention_entropy, of: vit}",
            },
            claims={
                "sharp": "{say: One image., left: {metric: looks, value: example, take: max}, is: greater, right: 2}"
            },
        )
    )
    assert command(["run", str(path), "--out", str(tmp_path / "runs"), "-q"]) == 0
    (folder,) = (tmp_path / "runs" / "looks").iterdir()
    found = open_run(folder)
    looks, corner = found.groups["looks/vit"], found.groups["corner/vit"]
    assert looks["example"].dims == ("condition", "site", "head", "image", "row", "col")
    assert looks["query"].values == ["class token"] and corner["query"].values == ["patch at row 0, column 1"]
    assert looks["row"].values.tolist() == [0, 8, 16, 24] and corner.sizes["site"] == 2
    assert looks["pixels"].shape == (1, 2, *SIZE, 3) and float(looks["pixels"].max()) == 1.0
    np.testing.assert_allclose(looks["map"].sum(("row", "col")), 12 / 13, rtol=0.2)
    assert found.manifest.claims["sharp"].verdict == "undecided", "single images have no interval"
    summary = (folder / "summary.csv").read_text()
    assert ",map," in summary and ",example," not in summary and ",pixels," not in summary
    assert {one.name for one in (folder / "figures").glob("looks*.csv")} == {
        "looks-corner-map.csv",
        "looks-corner-peak.csv",
    }
    page = (folder / "report.html").read_text()
    for panel in ("looks-corner-map-", "looks-corner-example-", "looks-corner-pixels-", "rollout-map-"):
        assert f'data-marks="{panel}' in page, panel
    assert page.count("Numbers of single images are in <code>results.nc</code>.") == 2
