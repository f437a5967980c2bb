"""RSA against scipy's distances and correlations; ties, invariances, chance, and a whole run against hooks."""

from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.spatial.distance import pdist

from layer_pairs import check_end_to_end, check_laws, check_replicates, measured, of_pair, related
from vitdsl.runtime.metrics._base import Array
from vitdsl.runtime.metrics.rsa import Params, Rsa, ranks, tau_a

KIND = Rsa(Params())
WAYS = [
    ("correlation", "spearman"),
    ("euclidean", "pearson"),
    ("cosine", "spearman"),
    ("correlation", "kendall"),
]


def in_order(x: Array, y: Array) -> float:
    """Tau-a by its definition, over all pairs of entries."""
    signs = [np.sign(x[i] - x[j]) * np.sign(y[i] - y[j]) for i, j in combinations(range(len(x)), 2)]
    return float(np.mean(signs))


def reference_of(distance: str, compare: str) -> Callable[[Array, Array], dict[str, float]]:
    def reference(x: Array, y: Array) -> dict[str, float]:
        a, b = (pdist(one, distance) for one in (x, y))
        how = {"spearman": stats.spearmanr, "pearson": stats.pearsonr}
        return {"rsa": in_order(a, b) if compare == "kendall" else float(how[compare](a, b).statistic)}

    return reference


@pytest.mark.parametrize(("distance", "compare"), WAYS)
def test_laws(distance: str, compare: str) -> None:
    n = 12 if compare == "kendall" else 40
    x, y = related(n, [5, 12]), related(n, [9, 60])
    kind = Rsa(Params(distance=distance, compare=compare))
    assert check_laws(kind, reference_of(distance, compare), x, y, 1e-11) < 1e-11


def test_left_out_images() -> None:
    check_replicates(
        KIND, reference_of("correlation", "spearman"), related(70, [5, 90]), related(70, [12]), 1e-12
    )


def test_tied_distances_share_a_rank() -> None:
    values = np.array([3.0, 1, 3, 2, 3, 1, 7])
    np.testing.assert_array_equal(ranks(values, np.argsort(values, kind="stable")), stats.rankdata(values))
    x, y = related(24, [6, 9])
    for one in (x, y):
        one[5:9] = one[4].clone()
    x[12] = x[4].clone()
    for distance in ("correlation", "euclidean", "cosine"):
        found = of_pair(Rsa(Params(distance=distance)), x, y)["rsa"]
        table = [pdist(one.double().numpy(), distance).round(9) for one in (x, y)]
        assert found == pytest.approx(float(stats.spearmanr(*table).statistic), abs=1e-9)
    few = np.array([0.0, 1, 1, 2, 5]), np.array([1.0, 1, 0, 2, 2])
    assert tau_a(*few) == pytest.approx(in_order(*few), abs=1e-12)


def test_invariances() -> None:
    x, y = related(40, [24, 30])
    turn = torch.linalg.qr(torch.randn(24, 24, dtype=torch.float64)).Q.float()
    shift = 5 * torch.randn(24)
    same: dict[str, list[torch.Tensor]] = {
        "correlation": [8 * x, x * torch.rand(40, 1), x + torch.randn(40, 1), x[:, torch.randperm(24)]],
        "cosine": [8 * x, x * torch.rand(40, 1), x @ turn],
        "euclidean": [8 * x, x + shift, x @ turn],
    }
    for distance, others in same.items():
        kind = Rsa(Params(distance=distance))
        plain = of_pair(kind, x, y)["rsa"]
        assert of_pair(kind, x, x)["rsa"] == pytest.approx(1, abs=1e-12)
        assert of_pair(kind, y, x)["rsa"] == pytest.approx(plain, abs=1e-12)
        assert 0.05 < plain < 0.95
        for other in others:
            assert of_pair(kind, other, y)["rsa"] == pytest.approx(plain, abs=1e-4)
    assert abs(of_pair(KIND, x @ turn, y)["rsa"] - of_pair(KIND, x, y)["rsa"]) > 1e-3


def test_unrelated_layers() -> None:
    found = []
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        x, y = (torch.randn(60, 40, generator=generator) for _ in range(2))
        found.append(of_pair(KIND, x, y)["rsa"])
    assert abs(np.mean(found)) < 3 * np.std(found) / np.sqrt(len(found)) + 1e-3 and np.std(found) < 0.06


def test_why_numbers_are_missing() -> None:
    x, y = related(30, [6, 8])
    flat, bad = x.clone(), x.clone()
    flat[4], bad[4, 0] = 2.5, np.nan
    found = measured(KIND, [x, flat, bad, torch.randn(6).repeat(30, 1)], [y])
    assert np.isfinite(found["rsa"].values[0, 0]) and np.isnan(found["rsa"].values[1:]).all()
    reasons = found.attrs["undefined"]
    assert "`x1 (output, tokens all)` gives an image equal features" in reasons
    assert "`x3 (output, tokens all)` has equal distances" in reasons and "x0" not in reasons
    assert np.isfinite(of_pair(Rsa(Params(distance="cosine")), flat, y)["rsa"])
    flat[4] = 0
    assert (
        "zero, which has no cosine"
        in measured(Rsa(Params(distance="cosine")), [flat], [y]).attrs["undefined"]
    )
    assert "need 3" in measured(KIND, [x[:2]], [y[:2]]).attrs["undefined"]


@pytest.mark.usefixtures("usual_layout")
def test_a_whole_run(tmp_path: Path) -> None:
    assert check_end_to_end(KIND, reference_of("correlation", "spearman"), tmp_path, 1e-9) < 1e-9
