"""Matrices: which site of another model matches best, for similarities and for distances."""

import numpy as np
import pytest
import xarray as xr
from scipy import stats

from vitdsl.reports.figures._matches import best_match
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


GROUPS = 8
DEPTHS = np.array([1 / 3, 2 / 3, 1.0])


def _with_replicates(values: np.ndarray, spread: float, direction: str = "higher") -> xr.Dataset:
    data = _against_another(values, direction).assign_attrs(left_out=[4.0] * GROUPS)
    noise = spread * np.random.default_rng(0).standard_normal((GROUPS, 3, 3))
    data["v_replicates"] = (("replicate", "site_x", "site_y"), values + noise)
    return data


def _reach(each: np.ndarray, level: float) -> np.ndarray:
    """Half the interval of the jackknife with groups of one size, written out."""
    error = np.sqrt((len(each) - 1) / len(each) * ((each - each.mean(0)) ** 2).sum(0))
    return np.asarray(stats.t.ppf(0.5 + level / 2, len(each) - 1) * error)


@pytest.mark.parametrize("direction", ["higher", "lower"])
@pytest.mark.parametrize("spread", [0.001, 0.05])
def test_bars_of_best_matches_hold_what_may_be_the_best(direction: str, spread: float) -> None:
    sign = 1 if direction == "higher" else -1
    data = _with_replicates(sign * SIMILAR, spread, direction)
    found = best_match(Part("m/one~two", data, "v"))
    each = sign * data["v_replicates"].values
    for i, row in enumerate(SIMILAR):
        lead, leads = row[i] - row, each[:, i, [i]] - each[:, i]
        may = [j for j in range(3) if j == i or lead[j] - _reach(leads, 0.95**0.5)[j] <= 0]
        ends = DEPTHS[may].min(), DEPTHS[may].max()
        assert [one[i] for one in found.place] == pytest.approx([DEPTHS[i], *ends])
        reach = _reach(each[:, i], 0.95 ** (1 / 3))
        low, high = (row - reach).max(), (row + reach).max()
        assert [one[i] for one in found.value] == pytest.approx(
            [row[i], low, high] if sign > 0 else [-row[i], -high, -low]
        )
    wide = (found.place[2] > found.place[1]).any()
    assert wide == (spread > 0.01), "a clear best match has no bar, one that is not has"
    assert found.names == ("a with d", "b with e", "c with f")
    turned = best_match(Part("m/one~two", data.transpose("replicate", "site_y", "site_x"), "v"))
    np.testing.assert_array_equal([found.place, found.value], [turned.place, turned.value])


def test_over_trainings_best_matches_differ_by_more() -> None:
    """As errors that are independent add: those of images, and those of trainings with their own best matches."""
    data = _with_replicates(SIMILAR, 0.01)
    alone = best_match(Part("m/one~two", data, "v"))
    each = np.stack([SIMILAR, SIMILAR[:, [0, 2, 1]], SIMILAR + 0.05])
    data["v_trainings"] = (("training", "site_x", "site_y"), each)
    found = best_match(Part("m/one~two", data, "v"))
    for kind, own in (("place", DEPTHS[each.argmax(2)]), ("value", each.max(2))):
        (value, low, high), (_, *images) = getattr(found, kind), getattr(alone, kind)
        reach = stats.t.ppf(0.975, 2) * own.std(0, ddof=1) / 3**0.5
        ends = value - np.hypot(value - images[0], reach), value + np.hypot(images[1] - value, reach)
        if kind == "place":
            ends = ends[0].clip(1 / 3, 1), ends[1].clip(1 / 3, 1)
        np.testing.assert_allclose([low, high], ends)


def test_a_site_without_numbers_has_no_match_and_without_replicates_there_are_no_bars() -> None:
    values = SIMILAR.copy()
    values[1], values[0, 0] = np.nan, np.nan
    found = best_match(Part("m/one~two", _against_another(values), "v"))
    np.testing.assert_array_equal(found.place[0], [2 / 3, np.nan, 1.0])
    assert np.isnan([*found.place[1:], *found.value[1:]]).all() and found.names == (
        "a with e",
        "b",
        "c with f",
    )
    part = Part("m/one~two", _with_replicates(values, 0.01), "v")
    ends = np.array([best_match(part).place, best_match(part).value])
    assert np.isfinite(ends[..., [0, 2]]).all() and np.isnan(ends[..., 1]).all()
    assert "may be the best one" in Matrix().plot("m", [part]).caption
