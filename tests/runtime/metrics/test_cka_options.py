"""CKA's estimators, kernels, outliers, shuffles and ceiling, each against features worked over by hand in float64.

The reference never centres a matrix anew: it drops images, shuffles them or halves them, and starts from features.

Longer than 300 lines: the options share one set of features and their references.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from layer_pairs import group_of, measured, related, stream_of
from studies import TINY_VIT, bound, loaded, study
from vitdsl import testing
from vitdsl.runtime.data.stream import open_stream
from vitdsl.runtime.metrics._base import Array
from vitdsl.runtime.metrics.cka import CKA, Params
from vitdsl.runtime.randomness import permutation, seed_of
from vitdsl.runtime.ranks import Ranks
from vitdsl.runtime.results.folder import open_run
from vitdsl.runtime.run.run import run

Batches = list[tuple[Array, Array]]
"""Features of x and y, batch by batch."""


def linear(x: Array) -> Array:
    x = x - x.mean(0)
    return np.asarray(x @ x.T)


def rbf(x: Array, width: float = 0.5, like: Array | None = None) -> Array:
    """A Gaussian kernel; its median is that of other features where they are given."""
    of = x if like is None else like
    squares = np.square(of[:, None] - of[None]).sum(2)
    return np.asarray(np.exp(-np.square(x[:, None] - x[None]).sum(2) / (2 * width**2 * np.median(squares))))


def product(k: Array, l: Array, estimator: str) -> float:  # noqa: E741
    """Unnormalised HSIC, biased, or unbiased by the sums of Song et al. 2012."""
    n = len(k)
    if estimator == "biased":
        h = np.eye(n) - 1 / n
        return float(np.trace(h @ k @ h @ l))
    k, l = k * (1 - np.eye(n)), l * (1 - np.eye(n))  # noqa: E741
    whole = k.sum() * l.sum() / ((n - 1) * (n - 2))
    return float(np.trace(k @ l) + whole - 2 / (n - 2) * (k.sum(0) @ l.sum(0)))


def cka(batches: Batches, estimator: str = "unbiased", kernel: Callable[[Array], Array] = linear) -> float:
    """A ratio of sums over batches."""
    sums = np.zeros(3)
    for x, y in batches:
        k, l = kernel(x), kernel(y)  # noqa: E741
        sums += [product(*both, estimator) for both in ((k, l), (k, k), (l, l))]
    return float(sums[0] / np.sqrt(sums[1] * sums[2]))


def batches_of(x: Tensor, y: Tensor, batch: int = 16) -> Batches:
    return [
        (x[i : i + batch].double().numpy(), y[i : i + batch].double().numpy())
        for i in range(0, len(x), batch)
    ]


def table(xs: list[Tensor], ys: list[Tensor], of: Callable[[Tensor, Tensor], float]) -> Array:
    return np.array([[of(x, y) for y in ys] for x in xs])


KERNELS: dict[str, Callable[[Array], Array]] = {"linear": linear, "rbf": rbf}


@pytest.mark.parametrize("estimator", ["unbiased", "biased"])
@pytest.mark.parametrize("kernel", ["linear", "rbf"])
def test_estimators_and_kernels_obey_the_laws(estimator: str, kernel: str) -> None:
    kind = CKA(Params(estimator=estimator, kernel=kernel))
    xs, ys = related(46, [5, 40]), related(46, [12, 7])
    wanted = table(xs, ys, lambda x, y: cka(batches_of(x, y), estimator, KERNELS[kernel]))
    more = {"batch": 16, "any_batches": False, "tolerance": 2e-7}
    group, stream = group_of(kind, xs, ys), stream_of(xs, ys)
    assert testing.check_metric(group, stream, {"cka": wanted[None]}, **more) < 2e-7
    paired = group_of(kind, xs, ys, paired=True)
    testing.check_metric(paired, stream, {"cka": np.diagonal(wanted)[None]}, **more)
    assert np.diagonal(measured(kind, xs)["cka"].values) == pytest.approx(1, abs=1e-12)
    names = {("unbiased", "linear"): "(minibatch, unbiased)", ("biased", "rbf"): "(minibatch, biased, RBF)"}
    name = kind.values(paired=False)["cka"].long_name
    assert names.get((estimator, kernel), estimator) in name


def test_published_vectors() -> None:
    """Those of Google's demonstration of CKA."""
    state = np.random.RandomState(1337)
    x = state.randn(100, 10)
    x, y = (torch.tensor(one, dtype=torch.float32) for one in (x, state.randn(100, 10) + x))
    for value, params in (
        (0.55761, {"estimator": "biased"}),
        (0.51346, {}),
        (0.65483, {"estimator": "biased", "kernel": "rbf", "bandwidth": 0.5}),
    ):
        found = measured(CKA(Params(**params)), [x], [y], batch=100)
        assert float(found["cka"].values[0, 0]) == pytest.approx(value, abs=5e-6)


def test_left_out_images_of_the_biased_estimator() -> None:
    """An image's product with itself goes once, those with others twice: to first order, as with the images gone."""
    xs, ys = related(128, [60]), related(128, [80])
    found = measured(CKA(Params(estimator="biased")), xs, ys, batch=64)["cka_replicates"].values[:, 0, 0]
    exact = []
    for part in range(32):
        kept = np.arange(64) % 32 != part
        exact.append(cka([(a[kept], b[kept]) for a, b in batches_of(xs[0], ys[0], 64)], "biased"))
    whole = cka(batches_of(xs[0], ys[0], 64), "biased")
    assert np.corrcoef(found, exact)[0, 1] > 0.95
    assert np.std(found) == pytest.approx(np.std(exact), rel=0.25) and abs(np.mean(found) - whole) < 5e-3


def without(batches: Batches, gone: tuple[int, int]) -> Batches:
    """The batches without one image: which batch, which of its images."""
    at, image = gone
    keep = np.arange(len(batches[at][0])) != image
    return [(x[keep], y[keep]) if i == at else (x, y) for i, (x, y) in enumerate(batches)]


def held(batches: Batches, side: int, estimator: str) -> dict[tuple[int, int], float]:
    """What the row of each image holds of the squares of a side's centred matrices."""
    found = {}
    for at, batch in enumerate(batches):
        k, n = linear(batch[side]), len(batch[0])
        if estimator == "biased":
            k = k - k.mean(0) - k.mean(1)[:, None] + k.mean()
        else:
            k = k * (1 - np.eye(n))
            k = (k - k.sum(0) / (n - 2) - k.sum(0)[:, None] / (n - 2) + k.sum() / ((n - 1) * (n - 2))) * (
                1 - np.eye(n)
            )
        found |= {(at, image): float(np.square(k[image]).sum()) for image in range(n)}
    whole = sum(found.values())
    return {place: one / whole for place, one in found.items()}


@pytest.mark.parametrize("estimator", ["unbiased", "biased"])
def test_outliers(estimator: str) -> None:
    kind = CKA(Params(estimator=estimator, outliers=True))
    xs, ys = related(46, [5, 40]), related(46, [12, 7])
    xs[0][20] += 20
    ys[1][[3, 40]] *= 9

    def remaining(x: Tensor, y: Tensor) -> float:
        batches = batches_of(x, y)
        both = [held(batches, side, estimator) for side in (0, 1)]
        return cka(
            without(batches, max(both[0], key=lambda place: both[0][place] + both[1][place])), estimator
        )

    wanted = {
        "cka": table(xs, ys, lambda x, y: cka(batches_of(x, y), estimator))[None],
        "outlier_share": np.array([max(held(batches_of(x, x), 0, estimator).values()) for x in xs])[None],
        "cka_without_outlier": table(xs, ys, remaining)[None],
    }
    more = {"batch": 16, "any_batches": False, "tolerance": 5e-7}
    stream = stream_of(xs, ys)
    assert testing.check_metric(group_of(kind, xs, ys), stream, wanted, **more) < 5e-7
    paired = {
        name: value if value.ndim == 2 else np.diagonal(value[0])[None] for name, value in wanted.items()
    }
    testing.check_metric(group_of(kind, xs, ys, paired=True), stream, paired, **more)
    assert wanted["outlier_share"][0, 0] > 0.25 > 0.15 > wanted["outlier_share"][0, 1]
    inside = measured(kind, xs)
    np.testing.assert_allclose(np.diagonal(inside["cka_without_outlier"].values), 1, rtol=0, atol=1e-12)
    np.testing.assert_allclose(inside["outlier_share"].values, wanted["outlier_share"][0], atol=1e-6)


def test_one_image_that_is_all_there_is() -> None:
    x = torch.randn(64, 6, generator=torch.Generator().manual_seed(0))
    y = torch.randn(64, 6, generator=torch.Generator().manual_seed(1))
    y[:, 0] = x[:, 0]
    x[9], y[9] = (300 * torch.eye(6)[0] for _ in range(2))
    found = measured(CKA(Params(outliers=True)), [x], [y], batch=64)
    assert (
        float(found["cka"].values[0, 0]) > 0.99
        and abs(float(found["cka_without_outlier"].values[0, 0])) < 0.3
    )
    assert 0.49 < float(found["outlier_share"].values[0]) <= 0.5
    smallest = measured(CKA(Params(outliers=True)), [x[:4]], [y[:4]])
    assert np.isnan(smallest["cka_without_outlier"].values).all(), "three images carry nothing"
    none = measured(CKA(Params(outliers=True)), [x[:3]], [y[:3]])
    assert np.isnan(none["outlier_share"].values).all()


@pytest.mark.parametrize("estimator", ["unbiased", "biased"])
def test_shuffles(estimator: str) -> None:
    kind = CKA(Params(estimator=estimator, shuffles=6, seed=3))
    xs, ys = related(46, [5, 40]), related(46, [12, 7])

    def shuffled(x: Tensor, y: Tensor) -> list[float]:
        found = []
        for i in range(6):
            batches = []
            for start, (a, b) in zip((0, 16, 32), batches_of(x, y), strict=True):
                order = permutation(len(b), seed_of("rows of a null", seed_of(3, i), start))
                batches.append((a, b[order]))
            found.append(cka(batches, estimator))
        return found

    wanted = {
        "cka": table(xs, ys, lambda x, y: cka(batches_of(x, y), estimator))[None],
        "null_mean": table(xs, ys, lambda x, y: float(np.mean(shuffled(x, y))))[None],
        "null_high": table(xs, ys, lambda x, y: float(np.quantile(shuffled(x, y), 0.975)))[None],
    }
    more = {"batch": 16, "any_batches": False, "tolerance": 2e-7}
    assert testing.check_metric(group_of(kind, xs, ys), stream_of(xs, ys), wanted, **more) < 2e-7
    paired = {name: np.diagonal(value[0])[None] for name, value in wanted.items()}
    testing.check_metric(group_of(kind, xs, ys, paired=True), stream_of(xs, ys), paired, **more)


def test_chance_by_estimator() -> None:
    """Shuffled images leave nothing of the unbiased CKA and much of the biased one, as of unrelated layers."""
    xs, ys = related(64, [300]), related(64, [300])
    found = {
        name: measured(CKA(Params(estimator=name, shuffles=40)), xs, ys, batch=64)
        for name in ("unbiased", "biased")
    }
    mean, high, value = (
        {k: float(one[v].values[0, 0]) for k, one in found.items()} for v in ("null_mean", "null_high", "cka")
    )
    spread = np.sqrt(2 / (64 * 61))
    assert abs(mean["unbiased"]) < 4 * spread and mean["unbiased"] < high["unbiased"] < value["unbiased"]
    assert mean["biased"] > mean["unbiased"] + 0.05 and high["biased"] < value["biased"]


def spearman_brown(one: Array, other: Array) -> float:
    half = float(np.corrcoef(one, other)[0, 1])
    return 2 * half / (1 + half) if half > 0 else half


@pytest.mark.parametrize("estimator", ["unbiased", "biased"])
def test_ceiling(estimator: str) -> None:
    kind = CKA(Params(estimator=estimator, ceiling=True, seed=5))
    xs, ys = related(70, [5, 40, 9, 22], seed=1), related(70, [12, 7, 30, 60], seed=1)

    def halves(x: Tensor, y: Tensor) -> list[float]:
        parts: list[Batches] = [[], []]
        for start, (a, b) in zip(range(0, 70, 24), batches_of(x, y, 24), strict=True):
            order = permutation(len(a), seed_of("halves", 5, start))
            size = len(a) // 2
            for part, chosen in zip(parts, (order[:size], order[size : 2 * size]), strict=True):
                part.append((a[chosen], b[chosen]))
        return [cka(part, estimator) for part in parts]

    def profiles(one: list[Tensor], other: list[Tensor]) -> Array:
        return np.array([[halves(x, y) for y in other] for x in one])

    more = {"batch": 24, "any_batches": False, "tolerance": 2e-6}
    plain = {
        name: table(xs, other, lambda x, y: cka(batches_of(x, y, 24), estimator))
        for name, other in (("x", xs), ("y", ys))
    }
    across, within = profiles(xs, ys), profiles(xs, xs)
    rest = ~np.eye(4, dtype=bool)
    wanted = {
        "across": [spearman_brown(*across[i].T) for i in range(4)],
        "within": [spearman_brown(*within[i][rest[i]].T) for i in range(4)],
        "paired": spearman_brown(*np.diagonal(across)),
    }
    testing.check_metric(
        group_of(kind, xs, ys), stream_of(xs, ys), {"cka": plain["y"], "ceiling": wanted["across"]}, **more
    )
    testing.check_metric(
        group_of(kind, xs), stream_of(xs), {"cka": plain["x"], "ceiling": wanted["within"]}, **more
    )
    paired = {"cka": np.diagonal(plain["y"]), "ceiling": wanted["paired"]}
    testing.check_metric(group_of(kind, xs, ys, paired=True), stream_of(xs, ys), paired, **more)


def test_a_ceiling_rises_with_images() -> None:
    kind = CKA(Params(ceiling=True))
    layers = related(768, [4, 8, 16, 32, 64, 128])
    few, many = (
        float(measured(kind, [x[:n] for x in layers], batch=32)["ceiling"].mean()) for n in (32, 768)
    )
    assert few < many and many > 0.98


def test_why_there_is_no_ceiling() -> None:
    kind = CKA(Params(ceiling=True))
    layers = related(40, [5, 9, 7])
    two = measured(kind, layers, batch=20)
    assert (
        np.isnan(two["ceiling"].values).all()
        and "compares 3 other layers or more, and here are 2" in two.attrs["undefined"]
    )
    small = measured(kind, [*layers, layers[0] + 1], batch=7)
    assert np.isnan(small["ceiling"].values).all() and "no batch has 8 images" in small.attrs["undefined"]
    assert np.isfinite(small["cka"].values).all()
    alike = measured(kind, [layers[0] * s for s in (1, 2, 4, 8)], batch=20)
    assert np.isnan(alike["ceiling"].values).all()
    assert "the CKA of `x3` with 3 other layers or more are all alike" in alike.attrs["undefined"]
    same = measured(kind, layers, layers, paired=True, batch=20)
    assert np.isnan(same["ceiling"].values) and "the CKA with 3 other" in same.attrs["undefined"]


@pytest.mark.parametrize("estimator", ["unbiased", "biased"])
def test_kernels_name_what_they_cannot_measure(estimator: str) -> None:
    kind = CKA(Params(kernel="rbf", estimator=estimator))
    x, y = related(32, [6, 8])
    bad = x.clone()
    bad[3, 1] = np.nan
    found = measured(kind, [x, torch.full((32, 3), 7.0), bad], [y])
    assert np.isfinite(found["cka"].values[0, 0]) and np.isnan(found["cka"].values[1:]).all()
    assert "`x1 (output, tokens all)` is constant over the images or most" in found.attrs["undefined"]
    assert "`x2 (output, tokens all)` has values that are not finite" in found.attrs["undefined"]


@pytest.mark.parametrize("scale", [1e-15, 1e-4, 1e15])
def test_a_gaussian_has_no_scale(scale: float) -> None:
    kind = CKA(Params(kernel="rbf"))
    x, y = related(32, [6, 8])
    plain, scaled = (float(measured(kind, [one], [y])["cka"].values[0, 0]) for one in (x, x * scale))
    assert scaled == pytest.approx(plain, abs=1e-5)


def test_rows_are_priced() -> None:
    x, y = [testing.vector_site(str(i)) for i in range(3)], [testing.vector_site(str(i)) for i in range(2)]
    kind = CKA(Params(outliers=True))
    assert [CKA(Params()).rows_of_both(x, y, paired=False), kind.rows_of_both(x, y, paired=False)] == [
        0,
        6 + 10,
    ]
    assert [kind.rows_of_both(x, x, paired=paired) for paired in (False, True)] == [9 + 6, 3 + 12]
    observed = testing.streams.observed(
        group_of(kind, related(9, [3, 4])), stream_of(related(9, [3, 4])), "baseline", slice(0, 9)
    )
    assert sum(v[0].numel() for k, v in observed.items() if kind.keeps(k)) == kind.row_size(x[:2])


STUDY = study(
    "options",
    top="seed: 7\n",
    data="{probe: {source: digits, split: test, images: 60, batch: 12, image_blocks: 3}}",
    models={"vit": TINY_VIT},
    layers={"all": '{of: vit, at: ["blocks.*", "blocks.*.mlp"]}'},
    metrics="""
  within: {kind: cka, x: all, estimator: biased, kernel: rbf, outliers: true, shuffles: 3, ceiling: true}
  seeded: {kind: cka, x: all, shuffles: 3, seed: 7}
  drift: {kind: cka, x: all, against: baseline, outliers: true, shuffles: 2, ceiling: true}
""",
)


def test_a_whole_run_against_hooks_and_in_shards(tmp_path: Path) -> None:
    plan = bound(STUDY)
    config = {"vit": plan.models["vit"].config}
    stream = open_stream(plan.data["probe"], seed=7, folder=Path(), transforms=config)
    module = loaded(plan, "vit", seed=7).module
    names = [site.name for site in plan.groups[0].x.sites]
    heard: dict[str, list[Tensor]] = {}
    for at in names:
        module.get_submodule(at).register_forward_hook(
            lambda _, __, out, at=at: heard.setdefault(at, []).append(out.flatten(1))
        )
    with torch.no_grad():
        for batch in stream:
            module(batch.images["vit"])
    layers = [torch.cat(heard[at]) for at in names]
    outcome = run(plan, out=tmp_path / "whole")
    assert outcome.folder is not None
    groups = open_run(outcome.folder).groups
    found = groups["within/vit"].sel(condition="baseline")
    wanted = table(layers, layers, lambda x, y: cka(batches_of(x, y, 12), "biased", rbf))
    np.testing.assert_allclose(found["cka"].values, wanted, atol=1e-5)
    assert found["ceiling"].dims == ("site",) and np.isfinite(found["null_high"].values).all()
    order = [permutation(12, seed_of("rows of a null", seed_of(7, i), 0)) for i in range(3)]
    assert order[0] != order[1]
    null = []
    for i in range(3):
        parts = []
        for start, (x, y) in zip(range(0, 60, 12), batches_of(layers[0], layers[1], 12), strict=True):
            parts.append((x, y[permutation(12, seed_of("rows of a null", seed_of(7, i), start))]))
        null.append(cka(parts))
    got = groups["seeded/vit"].sel(condition="baseline")["null_mean"].values[0, 1]
    assert got == pytest.approx(np.mean(null), abs=1e-5), "the study's seed is its own"
    assert groups["drift/vit"]["ceiling"].dims == ("condition",)
    for shard in (2, 0, 1):
        shards = run(bound(STUDY), out=tmp_path / "shards", ranks=Ranks(shard, 3, shard=True))
    merged = run(bound(STUDY), out=tmp_path / "shards").folder
    assert merged is not None and shards is not None
    assert (merged / "results.nc").read_bytes() == (outcome.folder / "results.nc").read_bytes()
