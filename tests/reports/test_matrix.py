"""Matrices: which site of another model matches best, for similarities and for distances."""

import numpy as np
import pytest
import xarray as xr

from vitdsl.reports.figures.matrix import Matrix
from vitdsl.reports.parts import Part

SIMILAR = np.array([[0.9, 0.2, 0.1], [0.3, 0.8, 0.2], [0.1, 0.2, 0.7]])


@pytest.mark.parametrize(("direction", "values"), [("higher", SIMILAR), ("lower", 1 - SIMILAR)])
def test_the_best_match_of_a_distance_is_the_nearest(direction: str, values: np.ndarray) -> None:
    depth = np.array([1 / 3, 2 / 3, 1.0])
    data = xr.Dataset(
        {"v": (("site_x", "site_y"), values, {"units": "1", "direction": direction, "long_name": "closeness"})},
        {
            "site_x": ["a", "b", "c"], "site_y": ["d", "e", "f"], "depth_x": ("site_x", depth),
            "depth_y": ("site_y", depth), "model_x": "one", "model_y": "two",
        },
    )  # fmt: skip
    said = Matrix().plot("m", [Part("m/one~two", data, "v")]).takeaway
    assert "is most like two at depth 0.33 (mean), the last third at 1" in said
    ends = ("0.900 to 0.700", "0.100 to 0.300")[direction == "lower"]
    assert ends in said
