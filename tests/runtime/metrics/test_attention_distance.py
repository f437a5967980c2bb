"""Attention distance against loops over queries and keys in float64."""

import math
from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor

from vitdsl import testing
from vitdsl.runtime.graph.site import Site
from vitdsl.runtime.metrics._base import Array
from vitdsl.runtime.metrics.attention_distance import AttentionDistance, Params

PAPER = AttentionDistance(Params(renormalize=False))
SCALED = AttentionDistance(Params(renormalize=True))


def site_of(
    grid: tuple[int, int],
    patch: tuple[int, int] = (16, 16),
    *,
    prefix: int = 1,
    heads: int = 3,
    name: str = "b.attn",
) -> Site:
    count = prefix + math.prod(grid)
    return Site(name, "attention", (heads, count, count), "attention", 0.5, prefix, prefix > 0, grid, patch)


def reference(attention: Array, site: Site, renormalize: bool) -> tuple[Array, Array]:
    """Distance and prefix mass, `[head]`: one query and one key after another."""
    assert site.grid is not None and site.patch is not None
    (rows, cols), (height, width) = site.grid, site.patch
    images, heads = attention.shape[:2]
    distance, mass = np.zeros(heads), np.zeros(heads)
    for image, head in product(range(images), range(heads)):
        for i in range(rows * cols):
            row = attention[image, head, site.prefix + i]
            reach, spatial = 0.0, 0.0
            for j in range(rows * cols):
                dy, dx = (i // cols - j // cols) * height, (i % cols - j % cols) * width
                reach += row[site.prefix + j] * math.sqrt(dy * dy + dx * dx)
                spatial += row[site.prefix + j]
            if renormalize:
                reach = reach / spatial if spatial > 0 else 0.0
            distance[head] += reach / (rows * cols)
            mass[head] += sum(row[: site.prefix]) / (rows * cols)
    return distance / images, mass / images


def weights(images: int, site: Site, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    scores = (
        torch.randn(images, *site.shape, generator=generator) * torch.tensor([0.3, 3.0, 8.0])[:, None, None]
    )
    return scores.softmax(-1)


CASES = [((3, 3), (16, 16), 1), ((2, 5), (16, 16), 0), ((4, 3), (8, 20), 2), ((2, 3), (14, 14), 5)]


@pytest.mark.parametrize("kind", [PAPER, SCALED])
@pytest.mark.parametrize(("grid", "patch", "prefix"), CASES)
def test_laws(kind: AttentionDistance, grid: tuple[int, int], patch: tuple[int, int], prefix: int) -> None:
    sites = [site_of(grid, patch, prefix=prefix, name=f"blocks.{i}.attn") for i in range(2)]
    tensors = [weights(9, site, seed) for seed, site in enumerate(sites)]
    stream = testing.Stream({"baseline": ([(one,) for one in tensors], None)})
    assert isinstance(kind.params, Params)
    parts = [
        reference(one.double().numpy(), site, kind.params.renormalize)
        for one, site in zip(tensors, sites, strict=True)
    ]
    wanted = {
        "distance": np.stack([part[0] for part in parts])[None],
        "prefix_mass": np.stack([part[1] for part in parts])[None],
    }
    group = testing.group_of(kind, sites)
    worst = testing.check_metric(group, stream, wanted, batch=4, any_batches=True, tolerance=1e-5)
    assert worst < 1e-5
    assert np.ptp(wanted["distance"]) > 1, "the heads must differ for this to say anything"


def test_page() -> None:
    testing.check_page(AttentionDistance)


def distances(kind: AttentionDistance, attention: Tensor, site: Site) -> tuple[Array, Array]:
    stream = testing.Stream({"baseline": ([(attention,)], None)})
    found = testing.run(testing.group_of(kind, [site]), stream, 16)
    return found["distance"].values[0, 0], found["prefix_mass"].values[0, 0]


@pytest.mark.parametrize(
    ("grid", "patch", "wanted"),
    [(7, 32, 115.5), (14, 16, 116.5), (16, 14, 116.6), (28, 8, 116.7), (24, 16, 200.0), (37, 14, 270.0)],
)
@pytest.mark.parametrize("kind", [PAPER, SCALED])
def test_uniform_attention_gives_the_known_constants(
    kind: AttentionDistance, grid: int, patch: int, wanted: float
) -> None:
    site = site_of((grid, grid), (patch, patch), prefix=0, heads=1)
    uniform = torch.full((1, *site.shape), 1 / site.shape[-1])
    (found,), (mass,) = distances(kind, uniform, site)
    assert found == pytest.approx(wanted, abs=0.05 if grid < 20 or patch == 8 else 0.6)
    assert mass == 0
    line = kind.line("distance", [site])
    assert line is not None and line[0] == pytest.approx(found, rel=1e-6)
    assert kind.line("prefix_mass", [site]) is None


@pytest.mark.parametrize("prefix", [1, 2, 5])
def test_prefix_tokens_shorten_the_paper_form_only(prefix: int) -> None:
    site = site_of((4, 4), prefix=prefix, heads=1)
    uniform = torch.full((2, *site.shape), 1 / (16 + prefix))
    bare = mean_distance(site)
    (paper,), (mass,) = distances(PAPER, uniform, site)
    (scaled,), (same,) = distances(SCALED, uniform, site)
    assert scaled == pytest.approx(bare, rel=1e-6)
    assert paper == pytest.approx(bare * 16 / (16 + prefix), rel=1e-6)
    assert mass == pytest.approx(prefix / (16 + prefix), rel=1e-6) == same
    for kind, found in ((PAPER, paper), (SCALED, scaled)):
        line = kind.line("distance", [site])
        assert line is not None and line[0] == pytest.approx(found, rel=1e-5)


def mean_distance(site: Site) -> float:
    """Mean distance of all pairs of patches, self pairs included."""
    assert site.grid is not None and site.patch is not None
    places = [
        (r * site.patch[0], c * site.patch[1]) for r in range(site.grid[0]) for c in range(site.grid[1])
    ]
    return float(np.mean([math.dist(a, b) for a in places for b in places]))


@pytest.mark.parametrize("kind", [PAPER, SCALED])
@pytest.mark.parametrize("prefix", [0, 1, 5])
def test_attention_to_oneself_has_no_distance(kind: AttentionDistance, prefix: int) -> None:
    site = site_of((3, 4), prefix=prefix, heads=2)
    identity = torch.eye(site.shape[-1]).expand(3, *site.shape).contiguous()
    distance, mass = distances(kind, identity, site)
    assert (distance == 0).all() and (mass == 0).all()


def test_one_known_row_in_pixels() -> None:
    """A 2 x 3 grid of 10 x 20 patches; every query attends to the last patch alone."""
    site = site_of((2, 3), (10, 20), prefix=1, heads=1)
    attention = torch.zeros(1, *site.shape)
    attention[..., 6] = 1.0
    wanted = np.mean([math.hypot(10, 40), math.hypot(10, 20), 10, 40, 20, 0])
    for kind in (PAPER, SCALED):
        assert distances(kind, attention, site)[0][0] == pytest.approx(wanted, rel=1e-6)


def test_the_class_tokens_own_attention_does_not_count() -> None:
    site = site_of((3, 3), prefix=2, heads=1)
    plain = weights(2, site_of((3, 3), prefix=2))[:, :1]
    other = plain.clone()
    other[:, :, :2] = weights(2, site_of((3, 3), prefix=2), seed=7)[:, :1, :2]
    for kind in (PAPER, SCALED):
        assert distances(kind, plain, site) == distances(kind, other, site)


def test_a_query_that_gives_all_to_prefix_tokens_counts_as_zero() -> None:
    site = site_of((2, 2), prefix=1, heads=1)
    attention = torch.full((1, *site.shape), 0.2)
    attention[0, 0, 1] = torch.tensor([1.0, 0, 0, 0, 0])
    bare = mean_distance(site)
    (scaled,), (mass,) = distances(SCALED, attention, site)
    assert scaled == pytest.approx(bare * 3 / 4, rel=1e-6)
    assert mass == pytest.approx((1 + 3 * 0.2) / 4, rel=1e-6)


@pytest.mark.parametrize("kind", [PAPER, SCALED])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_seen(kind: AttentionDistance, bad: float) -> None:
    """They must not pass for a query that gives nothing to patches."""
    sites = [site_of((2, 2), heads=3, name=f"blocks.{i}.attn") for i in range(2)]
    tensors = [weights(6, site) for site in sites]
    tensors[1][2, 1, 3] = bad
    stream = testing.Stream({"baseline": ([(one,) for one in tensors], None)})
    found = testing.run(testing.group_of(kind, sites), stream, 3)
    assert np.isnan(found["distance"].values[0, 1, 1])
    assert np.isfinite(found["distance"].values[0, 0]).all()
    assert "attention weights of `blocks.1.attn` are not finite" in found.attrs["undefined"]
    assert "blocks.0" not in found.attrs["undefined"]


def test_sites_with_fewer_heads_are_padded() -> None:
    sites = [site_of((2, 2), heads=3), site_of((2, 2), heads=1), site_of((2, 2), heads=2)]
    tensors = [weights(5, site_of((2, 2)))[:, : site.shape[0]] for site in sites]
    group = testing.group_of(PAPER, sites)
    stream = testing.Stream({"baseline": ([(one,) for one in tensors], None)})
    wanted = np.full((2, 3, 3), np.nan)
    for i, (one, site) in enumerate(zip(tensors, sites, strict=True)):
        wanted[:, i, : site.shape[0]] = reference(one.double().numpy(), site, False)
    values = {"distance": wanted[:1], "prefix_mass": wanted[1:]}
    testing.check_metric(group, stream, values, batch=2, any_batches=True, tolerance=1e-5)
    found = testing.run(group, stream, 2)
    assert found.attrs["undefined"] == "[]", "a head that does not exist is not an undefined one"


def test_prefix_mass_stays_in_its_range() -> None:
    """1 minus a float32 sum of weights would go below 0."""
    site = site_of((14, 14), prefix=0)
    _, mass = distances(SCALED, weights(2, site), site)
    assert (mass == 0).all()


def test_no_line_where_sites_have_different_grids() -> None:
    assert PAPER.line("distance", [site_of((4, 4)), site_of((2, 2))]) is None


def test_half_precision_weights() -> None:
    site = site_of((4, 4))
    attention = weights(4, site).half()
    for kind in (PAPER, SCALED):
        assert isinstance(kind.params, Params)
        wanted, _ = reference(attention.double().numpy(), site, kind.params.renormalize)
        np.testing.assert_allclose(distances(kind, attention, site)[0], wanted, rtol=1e-5)


@pytest.mark.parametrize(
    ("site", "says"),
    [
        (Site("a", "attention", (3, 49, 49), "windows", 0.0), "windows"),
        (Site("a", "attention", (3, 49, 10), "attention", 0.0), "different grids (49 and 10"),
        (Site("a", "attention", (3, 49, 49), "attention", 0.0), "not the model's patch grid"),
    ],
)
def test_refused_sites(site: Site, says: str) -> None:
    assert says in (PAPER.refuse(site) or "")
    assert PAPER.refuse(site_of((2, 2))) is None
