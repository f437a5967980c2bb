"""Token-wise CKA against the formula of Song et al. 2012 image by image, and on small models against hooks."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from song import cka
from studies import TINY_RESNET, TINY_VIT, bound, changed, loaded, study
from vitdsl import testing
from vitdsl.dsl.diagnostics import StudyError
from vitdsl.runtime.data.stream import open_stream
from vitdsl.runtime.graph.site import Site
from vitdsl.runtime.metrics._base import Array
from vitdsl.runtime.metrics.token_cka import Params, TokenCKA
from vitdsl.runtime.results.folder import open_run
from vitdsl.runtime.run.run import run

GRID = (4, 5)


def kind(**fields: Any) -> TokenCKA:
    return TokenCKA(Params(**fields))


def site(name: str, width: int, prefix: int = 1, grid: tuple[int, int] = GRID) -> Site:
    count = prefix + grid[0] * grid[1]
    return testing.tokens_site(name, count, width, prefix=prefix, grid=grid, pixels=(32, 40))


def averaged(image: Array, grid: tuple[int, int]) -> Array:
    """`[row, col, width]` averaged place by place, from the floor of each edge to the ceiling of the next."""
    (rows, cols), (down, right) = image.shape[:2], grid
    return np.array(
        [
            image[
                i * rows // down : -(-(i + 1) * rows // down), j * cols // right : -(-(j + 1) * cols // right)
            ]
            .reshape(-1, image.shape[2])
            .mean(0)
            for i in range(down)
            for j in range(right)
        ]
    )


def reference(x: list[Array], y: list[Array]) -> Array:
    """The mean over images of each pair of layers `[image, token, width]`, float64."""
    return np.array([[np.mean([cka(c, d, len(c)) for c, d in zip(a, b, strict=True)]) for b in y] for a in x])


def made(images: int, prefix: int, seed: int = 0) -> list[Tensor]:
    """Three layers of which the second has something of the first, far from zero and on scales of their own."""
    rng = np.random.default_rng(seed)
    count = prefix + GRID[0] * GRID[1]
    first = rng.standard_normal((images, count, 6))
    mixed = first @ rng.standard_normal((6, 9)) + rng.standard_normal((images, count, 9))
    other = rng.standard_normal((images, count, 4))
    return [torch.tensor(one) for one in (first, 50 * mixed + 300, 1e-3 * other)]


@pytest.mark.parametrize("prefix", [0, 1, 3])
def test_laws(prefix: int) -> None:
    layers = made(11, prefix)
    spatial = [one.numpy()[:, prefix:] for one in layers]
    sites = [site(f"blocks.{i}", one.shape[2], prefix) for i, one in enumerate(layers)]
    wanted = reference(spatial, spatial)
    stream = testing.Stream({"baseline": ([(one.float(),) for one in layers], None)})
    worst = testing.check_metric(
        testing.group_of(kind(), sites),
        stream,
        {"cka": wanted[None]},
        batch=4,
        any_batches=True,
        tolerance=2e-5,
    )
    assert worst < 2e-5
    assert wanted[0, 1] > 0.3 > wanted[0, 2]


def test_two_sets_of_layers_and_layers_under_a_condition() -> None:
    layers = made(7, 1)
    spatial = [one.numpy()[:, 1:] for one in layers]
    sites = [site(f"blocks.{i}", one.shape[2]) for i, one in enumerate(layers)]
    tensors = [(one.float(),) for one in layers]
    stream = testing.Stream({"baseline": (tensors[:2], tensors[1:])})
    found = testing.run(testing.group_of(kind(), sites[:2], sites[1:]), stream, 3, 2)
    np.testing.assert_allclose(found["cka"].values[0], reference(spatial[:2], spatial[1:]), atol=2e-5)
    group = testing.group_of(kind(), sites[:2], sites[1:], paired=True)
    found = testing.run(group, stream, 3, 2)
    wanted = np.diagonal(reference(spatial[:2], spatial[1:]))
    np.testing.assert_allclose(found["cka"].values[0], wanted, atol=2e-5)
    assert found["cka"].dims[1:] == ("site",)


@pytest.mark.parametrize("grid", [(2, 5), (3, 3), (4, 5)])
def test_a_grid_averages_tokens_and_maps(grid: tuple[int, int]) -> None:
    tokens = made(3, 2)[0]
    maps = torch.tensor(np.random.default_rng(3).standard_normal((3, 5, 8, 10)))
    sites = [site("blocks.0", 6, 2), Site("layer1", "output", (5, 8, 10), "map", 0.5, grid=(8, 10))]
    stream = testing.Stream({"baseline": ([(tokens.float(),), (maps.float(),)], None)})
    found = testing.run(testing.group_of(kind(grid=grid), sites), stream, 2, 1)
    x = [
        np.array([averaged(one.reshape(*GRID, -1), grid) for one in tokens.numpy()[:, 2:]]),
        np.array([averaged(one, grid) for one in maps.permute(0, 2, 3, 1).numpy()]),
    ]
    np.testing.assert_allclose(found["cka"].values[0], reference(x, x), atol=2e-5)


def test_an_image_without_differences_is_left_out() -> None:
    first, second, _ = made(5, 1)
    first[2, 1:] = first[2, 1]
    sites = [site("a", 6), site("b", 9)]
    stream = testing.Stream({"baseline": ([(first.float(),), (second.float(),)], None)})
    found = testing.run(testing.group_of(kind(), sites), stream, 2, 1)
    some = [one.numpy()[[0, 1, 3, 4], 1:] for one in (first, second)]
    every = second.numpy()[:, 1:]
    np.testing.assert_allclose(found["cka"].values[0, 0], reference(some, some)[0], atol=2e-5)
    np.testing.assert_allclose(found["cka"].values[0, 1, 1], reference([every], [every])[0, 0], atol=2e-5)
    first[:] = 7.0
    second[3, 4, 5] = float("nan")
    stream = testing.Stream({"baseline": ([(first.float(),), (second.float(),)], None)})
    found = testing.run(testing.group_of(kind(), sites), stream, 2, 1)
    assert np.isnan(found["cka"].values).all()
    assert "`a` is the same at all places of every image" in found.attrs["undefined"]
    assert "`b` has tokens that are not finite" in found.attrs["undefined"]


def test_refusals() -> None:
    fine = site("a", 6)
    assert kind().refuse(fine) is None and kind(grid=(2, 2)).refuse(fine) is None
    assert "cannot be averaged to `grid: [7, 7]`" in (kind(grid=(7, 7)).refuse(fine) or "")
    assert "cannot be averaged" in (kind(grid=(0, 2)).refuse(fine) or "")
    assert "needs 4" in (kind(grid=(1, 3)).refuse(fine) or "")
    assert "no grid" in (kind().refuse(testing.vector_site("", 5)) or "")
    why = kind().refuse_together([fine, site("b", 6, grid=(2, 2))])
    assert why is not None and "write `grid: [2, 2]`" in why
    assert kind(grid=(2, 2)).refuse_together([fine, site("b", 6, grid=(2, 2))]) is None


def test_two_sets_on_different_grids_ask_for_one(tmp_path: Path) -> None:
    x, y = torch.randn(3, 20, 4), torch.randn(3, 4, 4)
    sites = [site("a", 4, 0)], [site("b", 4, 0, (2, 2))]
    with pytest.raises(StudyError, match=r"20 tokens, those of y 4"):
        testing.run(testing.group_of(kind(), *sites), testing.Stream({"baseline": ([(x,)], [(y,)])}), 3, 1)


@pytest.mark.parametrize(
    ("model", "at", "grid"),
    [
        (changed(TINY_VIT, {"depth": 3}), "blocks.*", None),
        (changed(TINY_RESNET, input_size=64), "layer[1-3].*", [4, 4]),
    ],
    ids=["vit", "resnet"],
)
def test_a_run_agrees_with_hooks(tmp_path: Path, model: Any, at: str, grid: list[int] | None) -> None:
    metric = {"kind": "token_cka", "x": "some"} | ({"grid": grid} if grid else {})
    text = study(
        "tokens",
        data={"probe": {"source": "digits", "split": "test", "images": 5, "batch": 2}},
        models={"net": model},
        layers={"some": {"of": "net", "at": f'"{at}"'}},
        metrics={"alike": metric},
    )
    plan = bound(text)
    outcome = run(plan, out=tmp_path)
    assert outcome.folder is not None and all(check.ok for check in outcome.manifest.trust)
    found = open_run(outcome.folder).groups["alike/net"].sel(condition="baseline")
    net = loaded(plan, "net")
    names = [str(name) for name in found["site_x"].values]
    kept: dict[str, list[Tensor]] = {name: [] for name in names}
    for name in names:
        net.module.get_submodule(name).register_forward_hook(
            lambda _, __, out, name=name: kept[name].append(out.clone())
        )
    stream = open_stream(plan.data["probe"], seed=0, folder=Path(), transforms={"net": net.config})
    with torch.no_grad():
        for batch in stream:
            net.module(batch.images["net"])
    layers = []
    for name in names:
        whole = torch.cat(kept[name]).double()
        maps = whole.permute(0, 2, 3, 1) if whole.ndim == 4 else whole[:, 1:].reshape(5, 4, 4, -1)
        layers.append(np.array([averaged(one, (4, 4)) for one in maps.numpy()]))
    np.testing.assert_allclose(found["cka"].values, reference(layers, layers), atol=5e-5)
