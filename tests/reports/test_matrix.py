"""Matrices: which site of another model matches best, for similarities and for distances."""

import numpy as np
import pytest
import xarray as xr

from vitdsl.reports.figures.matrix import Matrix
from vitdsl.reports.parts import Part

SIMILAR = np.array([[0.9, 0.2, 0.1], [0.3, 0.8, 0.2], [0.1, 0.2, 0.7]])


def _against_another(values: np.ndarray, direction: str = "higher") -> xr.Dataset:
    depth = np.array([1 / 3, 2 / 3, 1.0])
    return xr.Dataset(
        {"v": (("site_x", "site_y"), values, {"units": "1", "direction": direction, "long_name": "closeness"})},
        {
            "site_x": ["a", "b", "c"], "site_y": ["d", "e", "f"], "depth_x": ("site_x", depth),
            "depth_y": ("site_y", depth), "model_x": "one", "model_y": "two",
        },
    )  # fmt: skip


@pytest.mark.parametrize(
    ("spread", "words"), [(0.001, "falls from 0.9"), (0.2, "is about as good in both: 0.9")]
)
def test_what_may_be_noise_is_no_fall(spread: float, words: str) -> None:
    data = _against_another(SIMILAR)
    noise = spread * np.random.default_rng(0).standard_normal((8, 3, 3))
    data["v_replicates"] = (("replicate", "site_x", "site_y"), SIMILAR + noise)
    said = Matrix().plot("m", [Part("m/one~two", data.assign_attrs(left_out=[4.0] * 8), "v")]).takeaway
    assert f"; the best match {words}" in said and said.count("[") == 2


@pytest.mark.parametrize(("direction", "values"), [("higher", SIMILAR), ("lower", 1 - SIMILAR)])
def test_the_best_match_of_a_distance_is_the_nearest(direction: str, values: np.ndarray) -> None:
    data = _against_another(values, direction)
    said = Matrix().plot("m", [Part("m/one~two", data, "v")]).takeaway
    assert "is most like two at depth 0.33 (mean), the last third at 1" in said
    ends = ("0.900 to 0.700", "0.100 to 0.300")[direction == "lower"]
    assert ends in said
