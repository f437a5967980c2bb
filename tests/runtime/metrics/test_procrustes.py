"""Procrustes against scipy's rotation, applied; invariances, chance, and a whole run against hooks."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.linalg import orthogonal_procrustes

from layer_pairs import check_end_to_end, check_laws, check_replicates, measured, of_pair, related
from vitdsl import testing
from vitdsl.dsl.study import Entry
from vitdsl.runtime.metrics._base import Array
from vitdsl.runtime.metrics.procrustes import Procrustes

KIND = Procrustes(Entry())


def turned(x: Array, y: Array) -> float:
    """The squared distance that is left when x, filled up with zeros, is turned to y as well as it can."""
    width = max(x.shape[1], y.shape[1])
    x, y = (np.pad(one, ((0, 0), (0, width - one.shape[1]))) for one in (x, y))
    rotation, _ = orthogonal_procrustes(x, y)
    return float(np.linalg.norm(x @ rotation - y) ** 2)


def reference(x: Array, y: Array) -> dict[str, float]:
    x, y = x - x.mean(0), y - y.mean(0)
    d2 = turned(x / np.linalg.norm(x), y / np.linalg.norm(y))
    return {
        "d2": d2,
        "similarity": 1 - d2 / 2,
        "angular": 2 * np.arcsin(np.sqrt(d2) / 2),
        "size_and_shape": turned(x, y),
    }


def test_laws() -> None:
    x, y = related(40, [5, 12]), related(40, [9, 60])
    assert check_laws(KIND, reference, x, y, 1e-10) < 1e-10


def test_left_out_images() -> None:
    check_replicates(KIND, reference, related(70, [5, 90]), related(70, [12]), 1e-9)


def test_invariances() -> None:
    x, y = related(48, [24, 40])
    plain = of_pair(KIND, x, y)
    turn = torch.linalg.qr(torch.randn(24, 24, dtype=torch.float64)).Q.float()
    for other in (x @ turn, 8 * x, x + 3 * torch.randn(24), x[:, torch.randperm(24)]):
        found = of_pair(KIND, other, y)
        for name in ("d2", "similarity", "angular"):
            assert found[name] == pytest.approx(plain[name], abs=1e-6)
    assert of_pair(KIND, x @ turn, y)["size_and_shape"] == pytest.approx(plain["size_and_shape"], rel=1e-6)
    assert of_pair(KIND, 8 * x, y)["size_and_shape"] > 2 * plain["size_and_shape"]
    assert of_pair(KIND, x @ turn, x)["d2"] == pytest.approx(0, abs=1e-6)
    assert of_pair(KIND, y, x) == pytest.approx(plain, abs=1e-9)


def test_a_layer_and_itself() -> None:
    found = measured(KIND, related(20, [6, 50]))
    for name, value in KIND.identity.items():
        assert (np.diagonal(found[name].values) == value).all()
        assert (found[f"{name}_replicates"].values[:, [0, 1], [0, 1]] == value).all()


def test_unrelated_layers_are_alike_where_features_outnumber_images() -> None:
    few, many = (of_pair(KIND, torch.randn(n, 60), torch.randn(n, 60))["similarity"] for n in (1000, 40))
    assert few < 0.35 < 0.8 < many


def test_constant_layers_and_values_that_are_not_finite_are_named() -> None:
    x, y = related(30, [6, 8])
    bad = x.clone()
    bad[3, 2] = np.nan
    found = measured(KIND, [x, torch.full((30, 4), 1e4), bad], [y])
    assert np.isfinite(found["d2"].values[0, 0]) and np.isnan(found["d2"].values[1:]).all()
    assert found["size_and_shape"].values[1, 0] == pytest.approx(
        float((y - y.mean(0)).double().square().sum())
    )
    reasons = found.attrs["undefined"]
    assert "`x1 (output, tokens all)` is constant over the images" in reasons
    assert "`x2 (output, tokens all)` has values that are not finite" in reasons and "x0" not in reasons


@pytest.mark.parametrize("scale", [1e-30, 1e-12, 1e12, 1e30])
def test_any_scale_that_float32_holds(scale: float) -> None:
    x, y = related(30, [6, 8])
    found, plain = of_pair(KIND, x * scale, y / scale), of_pair(KIND, x, y)
    assert found["d2"] == pytest.approx(plain["d2"], abs=1e-6)


def test_rows_are_priced_by_what_is_kept() -> None:
    site = testing.tokens_site("b", 17, 8, tokens="mean")
    assert KIND.row_size([site, testing.vector_site("f", 10)]) == 18
    assert (
        KIND.row_size([testing.tokens_site("b", 17, 8), testing.tokens_site("b", 17, 8, tokens="spatial")])
        == 264
    )
    assert (
        KIND.row_size(
            [testing.tokens_site("b", 17, 8, tokens=(0, 3)), testing.tokens_site("b", 17, 8, tokens="cls")]
        )
        == 24
    )
    sites = [site]
    assert [KIND.rows_of_both(sites, sites, paired=paired) for paired in (False, True)] == [8, 16]
    assert KIND.rows_of_both(sites, [testing.vector_site("f", 10)], paired=False) == 18


@pytest.mark.usefixtures("usual_layout")
def test_a_whole_run(tmp_path: Path) -> None:
    def three(x: Array, y: Array) -> dict[str, float]:
        return {name: value for name, value in reference(x, y).items() if name != "size_and_shape"}

    assert check_end_to_end(KIND, three, tmp_path, 1e-9) < 1e-9
