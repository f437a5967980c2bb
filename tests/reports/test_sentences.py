"""Means in sentences: their intervals against the jackknife written out; of many means a lead says the ends."""

import re
from typing import Any

import numpy as np
import pytest
import xarray as xr
from scipy import stats

from vitdsl.reports.figures._base import figure_of
from vitdsl.reports.figures.effect import MOST_MEANS
from vitdsl.reports.labels import estimate
from vitdsl.reports.parts import Part
from vitdsl.reports.sentences import derived, means, way

PARTS = 6


def made(dims: tuple[str, ...], shape: tuple[int, ...], **attrs: Any) -> xr.Dataset:
    rng = np.random.default_rng(0)
    values = 2 + rng.standard_normal(shape)
    without = values[..., None] + 0.05 * rng.standard_normal((*shape, PARTS))
    return xr.Dataset(
        {"v": (dims, values, {"long_name": "a value"}), "v_replicates": ((*dims, "replicate"), without)},
        attrs={"left_out": [4.0, 5, 4, 4, 5, 4], **attrs},
    )


def reference(value: float, without: list[float], sizes: list[float]) -> tuple[float, float]:
    """Busing, Meijer and van der Leeden 1999, one part at a time."""
    total, g = sum(sizes), len(sizes)
    h = [total / size for size in sizes]
    centre = g * value - sum((1 - 1 / one) * other for one, other in zip(h, without, strict=True))
    pseudo = [one * value - (one - 1) * other for one, other in zip(h, without, strict=True)]
    variance = sum((p - centre) ** 2 / (one - 1) for p, one in zip(pseudo, h, strict=True)) / g
    reach = float(stats.t.ppf(0.975, g - 1)) * variance**0.5
    return value - reach, value + reach


@pytest.mark.parametrize("dims", [("condition", "site", "token"), ("token", "condition", "site")])
def test_a_mean_has_the_interval_of_the_jackknife(dims: tuple[str, ...]) -> None:
    data = made(dims, (3, 3, 3))
    part = Part("m/vit", data, "v")
    said = derived(part, lambda values: means(values[..., 1, 2, :], -1), ("site", "token"))
    here = data.isel(condition=1, site=2)
    each = [float(np.mean(here["v_replicates"].isel(replicate=i).values)) for i in range(PARTS)]
    value = float(np.mean(here["v"].values))
    assert said == estimate(value, *reference(value, each, data.attrs["left_out"]))
    assert re.fullmatch(r"[\d.]+ \[[\d.]+, [\d.]+\]", said)


def test_over_trainings_a_mean_reaches_for_trainings_and_images() -> None:
    data = made(("condition", "site"), (2, 3), trainings=3)
    each = data["v"].values[None] + np.array([-0.3, 0.1, 0.2])[:, None, None]
    data["v_trainings"] = (("training", "condition", "site"), each)
    value = float(data["v"].values[1].mean())
    without = [float(data["v_replicates"].values[1, :, i].mean()) for i in range(PARTS)]
    low, high = reference(value, without, data.attrs["left_out"])
    seeds = [float(one[1].mean()) for one in each]
    spread = (sum((one - sum(seeds) / 3) ** 2 for one in seeds) / 2) ** 0.5
    reach = float(stats.t.ppf(0.975, 2)) * spread / 3**0.5
    ends = value - (reach**2 + (value - low) ** 2) ** 0.5, value + (reach**2 + (high - value) ** 2) ** 0.5
    said = derived(Part("m/vit", data, "v"), lambda values: means(values[..., 1, :], -1))
    assert said == estimate(value, *ends)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("times", [0.9, 1.1])
def test_a_change_goes_somewhere_where_its_interval_leaves_out_none(times: float, sign: int) -> None:
    """The interval of the difference, and not whether two intervals overlap: both numbers move together."""
    data = made(("condition", "site"), (1, 2))
    common = 5 * np.random.default_rng(1).standard_normal(PARTS)
    data["v_replicates"] = data["v_replicates"] + xr.DataArray(common, dims="replicate")

    def change(values: Any) -> Any:
        return values[..., 0, 1] - values[..., 0, 0]

    each = [float(change(data["v_replicates"].values[..., i])) for i in range(PARTS)]
    value = float(change(data["v"].values))
    low, high = reference(value, each, data.attrs["left_out"])
    shift = np.array([0.0, sign * times * (high - low) / 2 - value])
    data["v"], data["v_replicates"] = data["v"] + shift, data["v_replicates"] + shift[:, None]
    assert way(Part("m/vit", data, "v"), change) == (sign if times > 1 else 0)
    assert way(Part("m/vit", data.drop_vars("v_replicates"), "v"), change) == sign, "no interval: its sign"
    data["v_trainings"] = data["v"] + xr.DataArray([[-9.0, 0], [9, 0]], dims=("training", "site"))
    assert way(Part("m/vit", data, "v"), change) == 0, "trainings differ by more"


def test_means_of_what_is_defined() -> None:
    values = np.array([[1.0, np.nan, 3.0], [np.nan, np.nan, np.nan]])
    np.testing.assert_array_equal(means(values, -1), [2.0, np.nan])


def two_changes(model: str) -> xr.Dataset:
    """A value of an intact model and of two changes of it."""
    return made(("condition",), (3,)).assign_coords(
        condition=["baseline", "cut@a", "cut@b"],
        ablation=("condition", ["", "cut", "cut"]),
        ablated_site=("condition", ["", "a", "b"]),
        ablated_depth=("condition", [np.nan, 0.2, 0.8]),
        model=model,
    )


@pytest.mark.parametrize("models", [2, MOST_MEANS + 2])
def test_a_lead_lists_a_few_means_and_of_many_the_ends(models: int) -> None:
    parts = []
    for i in range(models):
        data = two_changes(f"m{i}")
        data["v"] = data["v"] + i
        parts.append(Part(f"m/m{i}", data, "v", hue=i))
    lead = figure_of(parts[0]).plot("id", parts).takeaway.split("\n")[0]
    assert lead.startswith("A value, mean over single changes")
    assert lead.count("[") == 2
    assert (f"{models - 2} others lie between" in lead) is (models > MOST_MEANS)


@pytest.mark.parametrize("single", [(True, True), (True, False)])
def test_one_change_is_no_mean_and_is_said_itself(single: tuple[bool, ...]) -> None:
    parts = []
    for i, alone in enumerate(single):
        data = two_changes(f"m{i}")
        data = data.isel(condition=slice(2)) if alone else data
        parts.append(Part(f"m/m{i}", data, "v", hue=i))
    lead = figure_of(parts[0]).plot("id", parts).takeaway.split("\n")[0]
    assert ("mean over single changes" in lead) is not all(single)
    for i, alone in enumerate(single):
        assert (f"for m{i} with {parts[i].condition(1)} alone" in lead) is alone
        assert f"for m{i}" in lead


def test_lines_that_may_not_move_neither_rise_nor_fall() -> None:
    """Four tokens over four sites, of which the second rises, the third falls and the fourth does either."""
    halves = np.array([[1, 1, 9, 9], [1, 1, 2, 2], [2, 2, 1, 1], [1, 1, 1.01, 1.01]], float)
    data = xr.Dataset({"v": (("site", "token"), halves.T, {"long_name": "a value"})})
    noise = 0.05 * np.random.default_rng(0).standard_normal((PARTS, 4, 4))
    data["v_replicates"] = (("replicate", "site", "token"), halves.T + noise)
    data = data.assign_attrs(left_out=[4.0] * PARTS).assign_coords(token=["cls", "a", "b", "c"], model="vit")
    said = figure_of(Part("m/vit", data, "v")).plot("id", [Part("m/vit", data, "v")]).takeaway
    assert said.endswith("; of 3 other lines, 1 rise, 1 fall and 1 stay about the same.")
