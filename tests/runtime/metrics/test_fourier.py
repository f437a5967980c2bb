"""Fourier profiles and variance against numpy's transform image by image, and on a small ViT against hooks."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from studies import TINY_VIT, bound, study
from vitdsl import testing
from vitdsl.runtime.data.stream import open_stream
from vitdsl.runtime.graph.site import Site
from vitdsl.runtime.metrics._base import Array
from vitdsl.runtime.metrics.fourier import Fourier, Params
from vitdsl.runtime.models import loading
from vitdsl.runtime.results.folder import open_run
from vitdsl.runtime.run.run import run

VALUES = ("log_amplitude", "high", "variance", "variance_share")


def kind(**fields: Any) -> Fourier:
    return Fourier(Params(**fields))


def diagonal(image: Array, epsilon: float) -> Array:
    """For `[row, col]`: the transform is shifted so that zero is in the middle; from there to the corner."""
    side = len(image)
    shifted = np.roll(np.log(np.abs(np.fft.fft2(image)) + epsilon), (side // 2, side // 2), (0, 1))
    return np.diagonal(shifted)[side // 2 :]


def radial(image: Array, epsilon: float) -> Array:
    """Every coefficient of the whole transform into the ring of its rounded radius."""
    rows, cols = image.shape
    logs = np.log(np.abs(np.fft.fft2(image)) + epsilon)
    rings: dict[int, list[float]] = {}
    for i in range(rows):
        for j in range(cols):
            down, right = min(i, rows - i) / rows, min(j, cols - j) / cols
            rings.setdefault(round(min(rows, cols) * (down**2 + right**2) ** 0.5), []).append(logs[i, j])
    return np.array([np.mean(rings[k]) for k in range((min(rows, cols) + 1) // 2)])


def reference(maps: Tensor, profile: Any = diagonal, epsilon: float = 1e-6) -> dict[str, Any]:
    """For `[image, width, row, col]`."""
    found = maps.double().numpy()
    logs = np.mean([profile(channel, epsilon) for image in found for channel in image], 0)
    positions = found.reshape(*found.shape[:2], -1)
    variance = positions.var(-1, ddof=1).mean()
    return {
        "log_amplitude": logs - logs[0],
        "high": logs[-1] - logs[0],
        "variance": variance,
        "variance_share": variance / (found**2).mean(),
    }


def maps_of(*shape: int, seed: int = 0) -> Tensor:
    """Smooth and rough channels with means of their own."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(shape, generator=generator)
    return noise + 0.5 * noise.cumsum(-1) + 3 * torch.randn(*shape[:2], 1, 1, generator=generator)


def as_tokens(maps: Tensor, prefix: int) -> Tensor:
    tokens = maps.flatten(2).transpose(1, 2)
    return torch.cat([torch.full((len(maps), prefix, maps.shape[1]), 1e3), tokens], 1)


def test_page() -> None:
    testing.check_page(Fourier)


@pytest.mark.parametrize(("side", "prefix"), [(4, 0), (5, 1), (7, 5)])
def test_laws(side: int, prefix: int) -> None:
    sites = [testing.tokens_site(f"blocks.{i}", prefix + side**2, 3, prefix=prefix) for i in range(2)]
    given = [maps_of(7, 3, side, side, seed=seed) for seed in range(2)]
    parts = [reference(one) for one in given]
    wanted = {name: np.stack([part[name] for part in parts])[None] for name in VALUES}
    stream = testing.Stream({"baseline": ([(as_tokens(one, prefix),) for one in given], None)})
    group = testing.group_of(kind(), sites)
    assert kind().coordinates(sites) == {"frequency": list(range((side + 1) // 2))}
    testing.check_metric(group, stream, wanted, batch=3, any_batches=True, tolerance=1e-12)


@pytest.mark.parametrize("grid", [(3, 3), (4, 4), (4, 7), (6, 3), (5, 8)])
def test_radial_profiles_of_any_grid(grid: tuple[int, int]) -> None:
    maps = maps_of(4, 2, *grid)
    site = Site("stages.0", "output", (2, *grid), "map", 0.5, grid=grid)
    found = testing.run(
        testing.group_of(kind(profile="radial"), [site]),
        testing.Stream({"baseline": ([(maps,)], None)}),
        batch=3,
    )
    for name, wanted in reference(maps, radial).items():
        np.testing.assert_allclose(found[name].values[0, 0], wanted, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("layout", ["map", "map_last"])
def test_grids_of_several_sizes_in_one_model(layout: Any) -> None:
    """A coarser grid has fewer frequencies, and `high` is the last of its own."""
    given = [maps_of(4, 3, side, side) for side in (8, 5)]
    sites = [
        Site(f"stages.{side}", "output", (3, side, side), layout, 0.5, grid=(side, side)) for side in (8, 5)
    ]
    tensors = [(one if layout == "map" else one.permute(0, 2, 3, 1),) for one in given]
    found = testing.run(
        testing.group_of(kind(epsilon=0.1), sites), testing.Stream({"baseline": (tensors, None)}), 2
    )
    for i, one in enumerate(given):
        wanted = reference(one, epsilon=0.1)
        own = found["log_amplitude"].values[0, i, : len(wanted["log_amplitude"])]
        np.testing.assert_allclose(own, wanted["log_amplitude"], atol=1e-12)
        assert float(found["high"][0, i]) == pytest.approx(wanted["high"], abs=1e-12)
    assert np.isnan(found["log_amplitude"].values[0, 1, 3]) and found.attrs["undefined"] == "[]"


def test_a_wave_stands_at_its_frequency() -> None:
    rows, cols = np.mgrid[:8, :8]
    wave = torch.tensor(np.cos(2 * np.pi * 2 * (rows + cols) / 8) + 1)[None, None]
    site = Site("s", "output", (1, 8, 8), "map", 0.5, grid=(8, 8))
    found = testing.run(
        testing.group_of(kind(), [site]), testing.Stream({"baseline": ([(wave,)], None)}), batch=1
    )
    profile = found["log_amplitude"].values[0, 0]
    assert profile[2] == pytest.approx(np.log(0.5), abs=1e-6)
    assert profile[1] < -15 and profile[3] < -15
    assert float(found["variance_share"][0, 0]) == pytest.approx((0.5 * 64 / 63) / 1.5, rel=1e-6)


def test_values_that_are_not_finite_or_zero_are_named() -> None:
    site = testing.tokens_site("blocks.1", 17, 2)
    broken = as_tokens(maps_of(3, 2, 4, 4), 1)
    broken[1, 5, 0] = np.inf
    for tensor, says in ((broken, "not finite"), (torch.zeros(3, 17, 2), "zero throughout")):
        stream = testing.Stream({"baseline": ([(tensor,)], None)})
        found = testing.run(testing.group_of(kind(), [site]), stream, 2)
        assert np.isnan(found["variance_share"].values).all()
        assert f"`blocks.1` {'has values' if 'finite' in says else 'is'}" in found.attrs["undefined"]
        assert says in found.attrs["undefined"]


@pytest.mark.parametrize(
    ("site", "says"),
    [
        (testing.vector_site(), "no grid"),
        (testing.tokens_site("b", 5, 4), "2 x 2"),
        (testing.tokens_site("b", 13, 4, grid=(3, 4)), "profile: radial"),
        (testing.tokens_site("b", 17, 4, tokens="cls"), "tokens: all"),
        (testing.tokens_site("b", 17, 4, grid=None), "no grid"),
    ],
)
def test_refuses(site: Site, says: str) -> None:
    assert says in (kind().refuse(site) or "")


def test_a_small_vit_against_hooks(tmp_path: Path) -> None:
    model = {**TINY_VIT, "options": {**TINY_VIT["options"], "num_classes": 10}}
    text = study(
        "f",
        data={"probe": {"source": "digits", "split": "test", "images": 12, "batch": 5}},
        models={"vit": model},
        layers={"blocks": {"of": "vit", "at": '"blocks.*"'}},
        metrics={"fourier": {"kind": "fourier", "x": "blocks"}},
    )
    plan = bound(text)
    outcome = run(plan, out=tmp_path)
    assert outcome.folder is not None
    found = open_run(outcome.folder).groups["fourier/vit"].sel(condition="baseline")
    heard = outputs_by_hand(plan)
    for i, tokens in enumerate(heard):
        wanted = reference(tokens[:, 1:].transpose(1, 2).unflatten(2, (4, 4)))
        for name in VALUES:
            np.testing.assert_allclose(found[name].values[i], wanted[name], rtol=1e-5, atol=1e-5)
    assert np.isfinite(found["high_low"].values).all()


def outputs_by_hand(plan: Any) -> list[Tensor]:
    """What each block of the plain model gives for all images."""
    planned = plan.models["vit"]
    stream = open_stream(plan.data["probe"], seed=0, folder=Path(), transforms={"vit": planned.config})
    module = loading.load(planned.entry, seed=0, folder=Path()).module
    kept: list[list[Tensor]] = [[] for _ in module.blocks]
    for at, block in enumerate(module.blocks):
        block.register_forward_hook(lambda _, __, out, at=at: kept[at].append(out.clone()))
    with torch.no_grad():
        for batch in stream:
            module(batch.images["vit"])
    return [torch.cat(parts) for parts in kept]
