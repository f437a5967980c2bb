"""SVCCA against whitening in float64; invariances, chance, too few images, and a whole run against hooks."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.linalg import subspace_angles

from layer_pairs import check_end_to_end, check_laws, check_replicates, measured, of_pair, related
from vitdsl.runtime.metrics._base import Array
from vitdsl.runtime.metrics.svcca import Params, Svcca

KIND = Svcca(Params())


def leading(x: Array, variance: float) -> Array:
    """The scores of the fewest directions that hold a share of the variance."""
    u, s, _ = np.linalg.svd(x, full_matrices=False)
    held = np.cumsum(s**2) / (s**2).sum()
    count = 1 + int(np.flatnonzero(held >= variance - 1e-12)[0])
    return np.asarray(u[:, :count] * s[:count])


def reference(x: Array, y: Array, variance: float = 0.99) -> dict[str, float]:
    x, y = x - x.mean(0), y - y.mean(0)
    if len(x) <= max(x.shape[1], y.shape[1]):
        return dict.fromkeys(KIND.VALUES, np.nan)
    rho = np.cos(subspace_angles(leading(x, variance), leading(y, variance)))
    # Canonical variates of x as eigenvectors of the product of projections.
    bounds = [max(one.shape) * np.finfo(np.float32).eps for one in (x, y)]
    project = [one @ np.linalg.pinv(one, rcond=bound) for one, bound in zip((x, y), bounds, strict=True)]
    squares, variates = np.linalg.eigh(project[0] @ project[1] @ project[0])
    count = min(round(float(np.trace(one))) for one in project)
    squares, variates = squares[::-1][:count].clip(0, 1), variates[:, ::-1][:, :count]
    weights = np.abs(variates.T @ x).sum(1)
    return {
        "svcca": float(rho.mean()),
        "pwcca": float(weights @ np.sqrt(squares) / weights.sum())
        if x.shape[1] + y.shape[1] < len(x)
        else np.nan,
        "r2_cca": float(squares.mean()),
    }


def test_laws() -> None:
    x, y = related(60, [5, 12]), related(60, [9, 30])
    assert check_laws(KIND, reference, x, y, 1e-11) < 1e-11


def test_left_out_images() -> None:
    check_replicates(KIND, reference, related(70, [5, 20]), related(70, [12]), 1e-10)


@pytest.mark.parametrize("variance", [0.3, 0.9, 1.0])
def test_how_many_directions_count(variance: float) -> None:
    x, y = related(60, [12, 9])
    wanted = reference(x.double().numpy(), y.double().numpy(), variance)
    assert of_pair(Svcca(Params(variance=variance)), x, y) == pytest.approx(wanted, abs=1e-7)


def test_invariances() -> None:
    x, y = related(80, [10, 16])
    plain = of_pair(KIND, x, y)
    turn = torch.linalg.qr(torch.randn(10, 10, dtype=torch.float64)).Q.float()
    for other in (x @ turn, 8 * x, x + 3 * torch.randn(10)):
        found = of_pair(KIND, other, y)
        assert (found["svcca"], found["r2_cca"]) == pytest.approx((plain["svcca"], plain["r2_cca"]), abs=1e-5)
    mixed = of_pair(KIND, x @ (torch.randn(10, 10) + 3 * torch.eye(10)), y)
    assert mixed["r2_cca"] == pytest.approx(plain["r2_cca"], abs=1e-5)
    assert of_pair(KIND, 8 * x, y)["pwcca"] == pytest.approx(plain["pwcca"], abs=1e-6)
    assert of_pair(KIND, x, x) == pytest.approx(dict.fromkeys(KIND.VALUES, 1.0), abs=1e-9)
    other_way = of_pair(KIND, y, x)
    assert other_way["r2_cca"] == pytest.approx(plain["r2_cca"], abs=1e-9)
    assert abs(other_way["pwcca"] - plain["pwcca"]) > 1e-3


def test_features_that_say_the_same_twice_count_once() -> None:
    x, y = related(80, [6, 9])
    doubled = torch.cat([x, x[:, :3] - x[:, 3:]], 1)
    assert of_pair(KIND, doubled, y)["r2_cca"] == pytest.approx(of_pair(KIND, x, y)["r2_cca"], abs=1e-5)


def test_unrelated_layers_shrink_with_images() -> None:
    few, many = (of_pair(KIND, torch.randn(n, 10), torch.randn(n, 20))["r2_cca"] for n in (40, 2000))
    assert few == pytest.approx(20 / 39, abs=0.12) and many < 0.02


def test_why_numbers_are_missing() -> None:
    x, y = related(30, [6, 8])
    bad = x.clone()
    bad[1, 1] = np.inf
    found = measured(KIND, [x, torch.full((30, 4), -3.0), bad, torch.randn(30, 30)], [y])
    for name in KIND.VALUES:
        assert np.isfinite(found[name].values[0, 0]) and np.isnan(found[name].values[1:]).all()
    reasons = found.attrs["undefined"]
    assert "`x1 (output, tokens all)` is constant" in reasons and "x2" in reasons and "x0" not in reasons
    assert "has 30 features and 30 images, too few" in reasons and "pwcca" not in reasons
    wide = measured(KIND, [x, torch.randn(30, 25)], [y, torch.randn(30, 5)])
    assert np.isnan(wide["pwcca"].values).tolist() == [[False, False], [True, True]]
    assert np.isfinite(wide["svcca"].values).all() and np.isfinite(wide["r2_cca"].values).all()
    assert "2 pairs of layers have 30 features together or more" in wide.attrs["undefined"]


def test_a_whole_run(tmp_path: Path) -> None:
    """The second stage has more features than there are images."""
    assert check_end_to_end(KIND, reference, tmp_path, 1e-6) < 1e-6
