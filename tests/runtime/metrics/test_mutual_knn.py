"""Mutual nearest neighbours against sorting by hand; ties, chance, invariances, and a whole run against hooks."""

from pathlib import Path

import numpy as np
import pytest
import torch

from layer_pairs import check_end_to_end, check_laws, check_replicates, measured, of_pair, related
from vitdsl.runtime.metrics._base import Array
from vitdsl.runtime.metrics.mutual_knn import MutualKnn, Params, nearest

KIND = MutualKnn(Params(k=5))


def neighbours(x: Array, k: int) -> list[set[int]]:
    """The k nearest of each image by cosine, of equal ones the first, image by image."""
    found = []
    for i, one in enumerate(x):
        cosines = [one @ other / np.linalg.norm(one) / np.linalg.norm(other) for other in x]
        others = [j for j in range(len(x)) if j != i]
        found.append(set(sorted(others, key=lambda j: (-cosines[j], j))[:k]))
    return found


def reference(x: Array, y: Array, k: int = 5) -> dict[str, float]:
    pairs = list(zip(neighbours(x, k), neighbours(y, k), strict=True))
    return {
        "overlap": float(np.mean([len(a & b) / k for a, b in pairs])),
        "jaccard": float(np.mean([len(a & b) / len(a | b) for a, b in pairs])),
    }


def test_laws() -> None:
    x, y = related(40, [5, 12]), related(40, [9, 60])
    assert check_laws(KIND, reference, x, y, 1e-12) < 1e-12


def test_left_out_images() -> None:
    check_replicates(KIND, reference, related(70, [5, 90]), related(70, [12]), 1e-12)


def test_defaults() -> None:
    assert Params().k == 10


def test_invariances() -> None:
    x, y = related(60, [24, 40])
    plain = of_pair(KIND, x, y)
    assert of_pair(KIND, x, x) == {"overlap": 1.0, "jaccard": 1.0}
    turn = torch.linalg.qr(torch.randn(24, 24, dtype=torch.float64)).Q.float()
    for other in (x @ turn, 8 * x, x * torch.rand(60, 1), x[:, torch.randperm(24)]):
        assert of_pair(KIND, other, y) == plain
    assert of_pair(KIND, y, x) == plain
    assert of_pair(KIND, x + 3, y) != plain, "a shift turns directions"


def test_ties_go_to_the_first_image() -> None:
    """Equal images are equally near, exactly, wherever they stand."""
    x = torch.randn(300, 17, generator=torch.Generator().manual_seed(0))
    x[[7, 40, 100, 299]] = x[3].clone()
    x[[8, 200]] = x[250].clone()
    directions = (x.double() / x.double().norm(dim=1, keepdim=True)).numpy()
    found = nearest(directions, 4)
    assert found[3].tolist() == [7, 40, 100, 299] and found[299].tolist() == [3, 7, 40, 100]
    assert found[100].tolist() == [3, 7, 40, 299] and found[250, :2].tolist() == [8, 200]
    same = nearest(np.ones((6, 1)), 3)
    assert same.tolist() == [[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2], [0, 1, 2], [0, 1, 2]]


def test_chance_is_the_line() -> None:
    n = 120
    overlaps = [
        of_pair(
            KIND, *(torch.randn(n, 8, generator=torch.Generator().manual_seed(2 * s + i)) for i in (0, 1))
        )
        for s in range(12)
    ]
    line = KIND.line_seen("overlap", {"x_0": np.zeros((1, n, 8))}, [])
    assert line is not None and line[0] == pytest.approx(5 / 119)
    assert np.mean([one["overlap"] for one in overlaps]) == pytest.approx(line[0], abs=0.01)
    assert KIND.line_seen("jaccard", {"x_0": np.zeros((1, n, 8))}, []) is None
    assert KIND.line_seen("overlap", {"x_0": np.zeros((1, 5, 8))}, []) is None
    found = measured(KIND, related(40, [6]))
    assert found["overlap"].attrs["baseline_line"] == pytest.approx(5 / 39)
    assert "39 images" in found["overlap"].attrs["baseline_label"]


def test_why_numbers_are_missing() -> None:
    x, y = related(30, [6, 8])
    nothing, bad = x.clone(), x.clone()
    nothing[4], bad[4, 0] = 0, np.inf
    found = measured(KIND, [x, nothing, bad], [y])
    assert np.isfinite(found["overlap"].values[0, 0]) and np.isnan(found["overlap"].values[1:]).all()
    reasons = found.attrs["undefined"]
    assert (
        "`x1 (output, tokens all)` gives an image zero" in reasons and "x2" in reasons and "x0" not in reasons
    )
    few = measured(KIND, [x[:5]], [y[:5]])
    assert (
        np.isnan(few["overlap"].values).all()
        and "5 images, and 5 neighbours of each need 6" in few.attrs["undefined"]
    )
    enough = measured(KIND, [x[:6]], [y[:6]])
    assert float(enough["overlap"].values[0, 0]) == 1.0, "all others are neighbours"


def test_a_whole_run(tmp_path: Path) -> None:
    assert check_end_to_end(KIND, reference, tmp_path, 0.005, "k: 5") < 0.005
