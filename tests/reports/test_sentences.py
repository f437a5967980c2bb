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
from vitdsl.reports.sentences import derived, means

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


def test_means_of_what_is_defined() -> None:
    values = np.array([[1.0, np.nan, 3.0], [np.nan, np.nan, np.nan]])
    np.testing.assert_array_equal(means(values, -1), [2.0, np.nan])


@pytest.mark.parametrize("models", [2, MOST_MEANS + 2])
def test_a_lead_lists_a_few_means_and_of_many_the_ends(models: int) -> None:
    parts = []
    for i in range(models):
        data = made(("condition",), (3,)).assign_coords(
            condition=["baseline", "cut@a", "cut@b"],
            ablation=("condition", ["", "cut", "cut"]),
            ablated_site=("condition", ["", "a", "b"]),
            ablated_depth=("condition", [np.nan, 0.2, 0.8]),
            model=f"m{i}",
        )
        data["v"] = data["v"] + i
        parts.append(Part(f"m/m{i}", data, "v", hue=i))
    lead = figure_of(parts[0]).plot("id", parts).takeaway.split("\n")[0]
    assert lead.startswith("A value, mean over single changes")
    assert lead.count("[") == 2
    assert (f"{models - 2} others lie between" in lead) is (models > MOST_MEANS)
