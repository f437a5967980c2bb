"""Token norms against numpy over all tokens at once, exact and in bins, and on a small ViT against hooks."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from studies import TINY_VIT, bound, changed, study
from vitdsl import testing
from vitdsl.runtime.data.stream import open_stream
from vitdsl.runtime.graph.site import Site
from vitdsl.runtime.metrics._base import Array
from vitdsl.runtime.metrics._bins import Bins
from vitdsl.runtime.metrics.token_norms import Params, TokenNorms
from vitdsl.runtime.models import loading
from vitdsl.runtime.results.folder import open_run
from vitdsl.runtime.run.run import run

GRID = (4, 5)
PIXELS = (32, 40)


def kind(**fields: Any) -> TokenNorms:
    return TokenNorms(Params(**fields))


def site(name: str, prefix: int = 1, width: int = 6, **fields: Any) -> Site:
    settings = {"grid": GRID, "pixels": PIXELS, "class_token": prefix > 0} | fields
    return testing.tokens_site(name, prefix + GRID[0] * GRID[1], width, prefix=prefix, **settings)


def made(images: int, prefix: int, seed: int = 0, width: int = 6) -> Tensor:
    """Log-normal norms about 20, one spatial token in thirty ten times as large; prefix tokens about 200."""
    rng = np.random.default_rng(seed)
    count = prefix + GRID[0] * GRID[1]
    directions = rng.standard_normal((images, count, width)) + 1
    norms = 20 * np.exp(0.1 * rng.standard_normal((images, count)))
    norms[:, prefix:] *= np.where(rng.uniform(size=(images, count - prefix)) < 1 / 30, 10, 1)
    norms[:, :prefix] *= 10
    units = directions / np.linalg.norm(directions, axis=-1, keepdims=True)
    return torch.tensor(units * norms[..., None])


class Curve:
    """Positions in bins of width 1 / per_decade, evenly spread in each: the distribution as corners of a line."""

    def __init__(self, norms: Array, weights: Array, per_decade: int) -> None:
        self.edges = np.linspace(-3, 6, 9 * per_decade + 1)
        counts, _ = np.histogram(np.log10(norms), self.edges, weights=weights)
        self.reached = np.concatenate([[0], np.cumsum(counts)])

    def below(self, log: Any) -> Any:
        return np.interp(log, self.edges, self.reached)

    def quantile(self, share: float) -> float:
        """By a search for the first edge that reaches it, and a line from the edge before."""
        target = share * self.reached[-1]
        i = int(np.searchsorted(self.reached, target))
        x, y = self.edges[i - 1 : i + 1], self.reached[i - 1 : i + 1]
        return float(x[0] + (target - y[0]) / (y[1] - y[0]) * (x[1] - x[0]))

    def mad(self) -> float:
        """The count within t of the median is a line between the distances of edges from it."""
        middle = self.quantile(0.5)
        corners = np.unique(np.abs(self.edges - middle))
        within = self.below(middle + corners) - self.below(middle - corners)
        i = int(np.searchsorted(within, self.reached[-1] / 2))
        part = (self.reached[-1] / 2 - within[i - 1]) / (within[i] - within[i - 1])
        return float(corners[i - 1] + part * (corners[i] - corners[i - 1]))


def neighbours(images: Array) -> Array:
    """For `[image, row, col, width]`: the mean cosine of each token with those above, below, left and right."""
    found = np.full(images.shape[:3], np.nan)
    for n, i, j in np.ndindex(found.shape):
        cosines = []
        for down, right in ((-1, 0), (1, 0), (0, -1), (0, 1)):
            a, b = i + down, j + right
            if 0 <= a < images.shape[1] and 0 <= b < images.shape[2]:
                one, other = images[n, i, j], images[n, a, b]
                size = np.linalg.norm(one) * np.linalg.norm(other)
                if size > 0:
                    cosines.append(one @ other / size)
        found[n, i, j] = np.mean(cosines) if cosines else np.nan
    return found


def reference(
    tokens: Tensor,
    prefix: int,
    k: float = 5.0,
    cutoff: float | None = None,
    share: float = 0.99,
    per: int = 64,
    grid: tuple[int, int] = GRID,
) -> dict[str, Any]:
    every = tokens.double().numpy()
    norms = np.linalg.norm(every, axis=-1)
    spatial = norms[:, prefix:]
    groups = [norms[:, :1]] * (prefix > 0) + [norms[:, 1:prefix]] * (prefix > 1) + [spatial]
    curves = [Curve(group.ravel(), np.ones(group.size), per) for group in groups]
    cosines = neighbours(every[:, prefix:].reshape(len(every), *grid, -1)).reshape(spatial.shape)
    if cutoff is None:
        limit = curves[-1].quantile(0.5) + k * curves[-1].mad()
        numbers = Curve(spatial.ravel(), np.ones(spatial.size), per)
        sums = Curve(spatial.ravel(), cosines.ravel(), per)
        below, above = numbers.below(limit), numbers.reached[-1] - numbers.below(limit)
        other, outlier = sums.below(limit) / below, (sums.reached[-1] - sums.below(limit)) / above
        threshold, outliers = 10**limit, above / spatial.size
    else:
        outlying = spatial > cutoff
        threshold, outliers = cutoff, outlying.mean()
        other, outlier = cosines[~outlying].mean(), cosines[outlying].mean()
    return {
        "mean": [group.mean() for group in groups],
        "std": [group.std() for group in groups],
        "quantile": [10 ** curve.quantile(share) for curve in curves],
        "outlier_share": outliers,
        "threshold": threshold,
        "outlier_cosine": outlier,
        "other_cosine": other,
        "map": spatial.mean(0).reshape(grid),
    }


def test_page() -> None:
    testing.check_page(TokenNorms)


@pytest.mark.parametrize(
    ("prefix", "fields", "settings"),
    [
        (1, {}, {}),
        (5, {"k": 3.0, "quantile": 0.5, "bins_per_decade": 32}, {"k": 3.0, "share": 0.5, "per": 32}),
        (0, {"cutoff": 60.0, "quantile": 1.0}, {"cutoff": 60.0, "share": 1.0}),
    ],
)
def test_laws(prefix: int, fields: dict[str, Any], settings: dict[str, Any]) -> None:
    given = [made(13, prefix, seed) for seed in range(2)]
    parts = [reference(tokens, prefix, **settings) for tokens in given]
    wanted = {name: np.stack([part[name] for part in parts])[None] for name in parts[0]}
    group = testing.group_of(kind(**fields), [site(f"blocks.{i}", prefix) for i in range(2)])
    stream = testing.Stream({"baseline": ([(tokens,) for tokens in given], None)})
    testing.check_metric(group, stream, wanted, batch=5, any_batches=True, tolerance=1e-9)


def one_site(tokens: Tensor, at: Site, **fields: Any) -> Any:
    stream = testing.Stream({"baseline": ([(tokens,)], None)})
    return testing.run(testing.group_of(kind(**fields), [at]), stream, 6)


@pytest.mark.parametrize("per", [16, 64, 256])
def test_bins_are_off_by_less_than_one_bin(per: int) -> None:
    """Quantile and threshold against numpy's, and the share of outliers against a count of tokens."""
    tokens = made(60, 1)
    found = one_site(tokens, site("b"), bins_per_decade=per)
    spatial = np.linalg.norm(tokens.numpy()[:, 1:], axis=-1).ravel()
    logs = np.log10(spatial)
    median = np.median(logs)
    mad = np.median(np.abs(logs - median))
    width = 1 / per
    assert abs(np.log10(found["quantile"].values[0, 0, 1]) - np.quantile(logs, 0.99)) < width
    assert abs(np.log10(found["threshold"].values[0, 0]) - (median + 5 * mad)) < 4 * width
    planted = (logs > median + 5 * mad).mean()
    assert 0.02 < planted < 0.05
    assert found["outlier_share"].values[0, 0] == pytest.approx(planted, abs=0.002)


def test_equal_norms_have_no_outliers() -> None:
    """No MAD below a quarter of a bin: rounding is no outlier."""
    tokens = torch.nn.functional.normalize(made(8, 1), dim=-1)
    found = one_site(tokens, site("b"))
    assert float(found["outlier_share"].squeeze()) == 0
    assert "`b` has no outliers" in found.attrs["undefined"]
    assert np.isnan(found["outlier_cosine"].values).all() and np.isfinite(found["other_cosine"].values).all()


def test_zero_tokens_have_no_cosine_and_a_norm_outside_the_bins_no_quantile() -> None:
    tokens = made(8, 1)
    tokens[:, 3], tokens[:, 0] = 0.0, 0.0
    found = one_site(tokens, site("b"), cutoff=60.0)
    images = tokens[:, 1:].numpy().reshape(8, *GRID, -1)
    cosines, norms = neighbours(images), np.linalg.norm(images, axis=-1)
    assert np.isnan(cosines[:, 0, 2]).all()
    assert float(found["other_cosine"].squeeze()) == pytest.approx(
        np.nanmean(cosines[norms <= 60]), abs=1e-10
    )
    assert np.isnan(found["quantile"].values[0, 0, 0]) and np.isfinite(found["quantile"].values[0, 0, 1])
    assert "quantile of the norms of cls tokens of `b` lies outside" in found.attrs["undefined"]
    assert found["mean"].values[0, 0, 0] == 0


@pytest.mark.parametrize("scale", [1e-9, 1e9])
def test_norms_outside_the_bins_are_undefined_by_name(scale: float) -> None:
    found = one_site(scale * made(8, 1), site("b"))
    for name in ("threshold", "outlier_share", "quantile", "outlier_cosine"):
        assert np.isnan(found[name].values).all(), name
    assert "the median of the norms of `b`" in found.attrs["undefined"]
    assert np.isfinite(found["mean"].values).all() and np.isfinite(found["map"].values).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite_are_seen(bad: float) -> None:
    tokens = made(8, 1)
    tokens[3, 7, 2] = bad
    found = one_site(tokens, site("b"))
    assert np.isnan(found["outlier_share"].values).all() and np.isnan(found["quantile"].values).all()
    assert "`b` has tokens that are not finite" in found.attrs["undefined"]


def test_coarse_layers_cover_several_places_of_the_finest_grid() -> None:
    maps = [torch.rand(5, 3, 8, 8) + 1, torch.rand(5, 3, 4, 4) + 1]
    sites = [
        Site(f"stages.{i}", "output", tuple(one.shape[1:]), "map", 0.5, grid=(side, side), pixels=(32, 32))
        for i, (side, one) in enumerate(zip((8, 4), maps, strict=True))
    ]
    group = testing.group_of(kind(), sites)
    found = testing.run(group, testing.Stream({"baseline": ([(one,) for one in maps], None)}), 2)
    assert kind().coordinates(sites)["row"] == list(range(0, 32, 4))
    fine, coarse = (one.double().norm(dim=1).mean(0).numpy() for one in maps)
    np.testing.assert_allclose(found["map"].values[0, 0], fine, atol=1e-12)
    np.testing.assert_allclose(found["map"].values[0, 1], np.kron(coarse, np.ones((2, 2))), atol=1e-12)


def test_bins_hold_what_lies_on_their_edges() -> None:
    bins = Bins(10)
    values = torch.tensor([[0.0, 1e-4, 1e-3, 1.0, 9.9e5, 1e6, torch.inf]], dtype=torch.float64)
    found = bins.summed(torch.ones_like(values), values)[0]
    assert found.shape == (92,) and found[0] == 2 and found[1] == 1 and found[31] == 1
    assert found[90] == 1 and found[91] == 2
    assert bins.norm(np.asarray(bins.position(20.0))) == pytest.approx(20.0)


@pytest.mark.parametrize(
    ("at", "says"),
    [
        (testing.vector_site(), "no grid"),
        (site("b", tokens="cls"), "tokens: all"),
        (site("b", grid=None), "no grid"),
        (Site("b", "output", (21, 6), "tokens", 0.5, prefix=None, grid=GRID, pixels=PIXELS), "not known"),
    ],
)
def test_refuses(at: Site, says: str) -> None:
    assert says in (kind().refuse(at) or "")


def test_a_small_vit_against_hooks(tmp_path: Path) -> None:
    model = changed(TINY_VIT, {"reg_tokens": 2})
    text = study(
        "n",
        data={"probe": {"source": "digits", "split": "test", "images": 11, "batch": 4}},
        models={"vit": model},
        layers={"blocks": {"of": "vit", "at": '"blocks.*"'}},
        metrics={"norms": {"kind": "token_norms", "x": "blocks", "k": 1.5}},
    )
    plan = bound(text)
    outcome = run(plan, out=tmp_path)
    assert outcome.folder is not None
    found = open_run(outcome.folder).groups["norms/vit"].sel(condition="baseline")
    planned = plan.models["vit"]
    stream = open_stream(plan.data["probe"], seed=0, folder=Path(), transforms={"vit": planned.config})
    module = loading.load(planned.entry, seed=0, folder=Path()).module
    kept: list[list[Tensor]] = [[] for _ in module.blocks]
    for at, block in enumerate(module.blocks):
        block.register_forward_hook(lambda _, __, out, at=at: kept[at].append(out.clone()))
    with torch.no_grad():
        for batch in stream:
            module(batch.images["vit"])
    assert [str(name) for name in found["token"].values] == ["cls", "registers", "spatial"]
    for i, parts in enumerate(kept):
        wanted = reference(torch.cat(parts), 3, k=1.5, grid=(4, 4))
        for name, value in wanted.items():
            np.testing.assert_allclose(found[name].values[i], value, rtol=2e-3, err_msg=name)
        np.testing.assert_allclose(found["mean"].values[i], wanted["mean"], rtol=1e-6)
