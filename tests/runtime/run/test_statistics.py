"""Sums by image block: adding, merging, leaving out, and what becomes of them."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from torch import Tensor

from vitdsl.dsl.study import Entry
from vitdsl.runtime.graph.site import Site
from vitdsl.runtime.graph.tap import Reducer
from vitdsl.runtime.metrics._base import Array, Metric, Seen, Value
from vitdsl.runtime.metrics._output import OUTPUT
from vitdsl.runtime.plan.plan import Group, Reading, View
from vitdsl.runtime.run.statistics import Statistics, estimate

SITE = Site("a", "output", (3,), "vector", 0.5)


class Mean(Metric):
    """The mean of three channels; undefined below zero."""

    name = "mean_of_channels"
    VALUES: Mapping[str, Value] = {"mean": Value(("channel",), "mean", "px")}

    def reducer(self) -> Reducer:
        return OUTPUT

    def coordinates(self, sites: Sequence[Site]) -> dict[str, Sequence[str | int]]:
        return {"channel": [0, 1, 2]}

    def observe(self, seen: Seen) -> dict[str, Tensor]:
        return {"sum": seen.x[0][0].sum(0), "n": torch.tensor(float(len(seen.x[0][0])))}

    def estimate(self, statistics: Mapping[str, Array], sites: Sequence[Site]) -> dict[str, Array]:
        return {"mean": statistics["sum"] / statistics["n"][..., None]}

    def undefined(self, statistics: Mapping[str, Array], x: Sequence[Site], y: Sequence[Site]) -> list[str]:
        return [f"channel {i} is negative" for i, total in enumerate(statistics["sum"]) if total < 0]


class Transposed(Mean):
    """Gives its axes in the wrong order."""

    def estimate(self, statistics: Mapping[str, Array], sites: Sequence[Site]) -> dict[str, Array]:
        return {"mean": np.moveaxis(super().estimate(statistics, sites)["mean"], -1, 0)}


def group(*views: str, kind: type[Mean] = Mean) -> Group:
    reading = Reading("m", (SITE,), ("output",))
    entries = tuple(View(view, view, view, "m") for view in views)
    return Group("mean", "mean/m", kind(Entry()), reading, reading, entries, False, "probe")


def frame(views: int) -> xr.Dataset:
    return xr.Dataset(
        {"mean": (("condition", "channel"), np.full((views, 3), np.nan), {"units": "px", "k": 1})}
    )


def fill(statistics: Statistics, view: str, data: Tensor, sizes: Sequence[int], count: bool = True) -> None:
    for block, part in enumerate(data.split(list(sizes))):
        observed = statistics.group.kind.observe(Seen([(part,)]))
        statistics.add(view, block, observed)
        if count:
            statistics.saw(block, range(len(part)))


def test_estimate_fills_values_intervals_replicates_and_attributes() -> None:
    data = {"baseline": torch.randn(20, 3).double(), "cut": torch.randn(20, 3).double()}
    statistics = Statistics(group("baseline", "cut"), 3)
    fill(statistics, "cut", data["cut"], [8, 8, 4])
    fill(statistics, "baseline", data["baseline"], [8, 8, 4], count=False)
    found = estimate(statistics, frame(2))
    assert set(found.data_vars) == {"mean", "mean_low", "mean_high", "mean_replicates"}
    assert found["mean_replicates"].dims == ("replicate", "condition", "channel")
    assert found["mean"].attrs == {"units": "px", "k": 1} and found["mean_low"].attrs == {"units": "px"}
    assert found.attrs["left_out"].tolist() == [8, 8, 4]
    for row, view in enumerate(("baseline", "cut")):
        whole = data[view].numpy()
        np.testing.assert_allclose(found["mean"][row], whole.mean(0), rtol=1e-14)
        for block, part in enumerate((slice(0, 8), slice(8, 16), slice(16, 20))):
            rest = np.delete(whole, part, axis=0).mean(0)
            np.testing.assert_allclose(found["mean_replicates"][block, row], rest, rtol=1e-13)
    assert (found["mean_low"] < found["mean"]).all() and (found["mean"] < found["mean_high"]).all()


def test_one_block_has_values_and_no_interval() -> None:
    statistics = Statistics(group("baseline"), 1)
    fill(statistics, "baseline", torch.ones(5, 3), [5])
    found = estimate(statistics, frame(1))
    assert (found["mean"] == 1).all() and found["mean_replicates"].shape == (0, 1, 3)
    assert np.isnan(found["mean_low"]).all() and np.isnan(found["mean_high"]).all()


def test_merging_shards_is_exact_and_copies() -> None:
    data = torch.randn(12, 3).double()
    whole, one, other = (Statistics(group("baseline"), 2) for _ in range(3))
    fill(whole, "baseline", data, [6, 6])
    one.add("baseline", 0, whole.group.kind.observe(Seen([(data[:6],)])))
    one.saw(0, range(6))
    other.add("baseline", 1, whole.group.kind.observe(Seen([(data[6:],)])))
    other.saw(1, range(6, 12))
    empty = Statistics(group("baseline"), 2)
    empty.merge(one)
    empty.merge(other)
    for name, value in whole.sums["baseline"].items():
        assert torch.equal(empty.sums["baseline"][name], value)
    assert (empty.images == whole.images).all()
    empty = Statistics(group("baseline"), 2)
    empty.merge(one)
    before = one.sums["baseline"]["sum"].clone()
    empty.add("baseline", 0, {"sum": torch.ones(3), "n": torch.tensor(1.0)})
    assert torch.equal(one.sums["baseline"]["sum"], before)


def test_shards_with_other_image_blocks_do_not_merge() -> None:
    """One block would broadcast over four."""
    one, four = Statistics(group("baseline"), 1), Statistics(group("baseline"), 4)
    with pytest.raises(ValueError, match="image blocks do not merge"):
        four.merge(one)


def test_sums_are_float64_and_do_not_drift() -> None:
    statistics = Statistics(group("baseline"), 1)
    for _ in range(1000):
        statistics.add(
            "baseline", 0, {"sum": torch.full((3,), 0.1, dtype=torch.float32), "n": torch.tensor(1)}
        )
    statistics.saw(0, range(1000))
    assert statistics.sums["baseline"]["sum"].dtype == torch.float64
    found = estimate(statistics, frame(1))["mean"].values
    np.testing.assert_allclose(found, np.float32(0.1), rtol=1e-12)


def test_leaving_out_a_large_block_keeps_the_small_ones() -> None:
    """The total minus the block would be 0 here."""
    statistics = Statistics(group("baseline"), 3)
    fill(
        statistics,
        "baseline",
        torch.tensor([[1e20] * 3, [1.0] * 3, [2.0] * 3], dtype=torch.float64),
        [1, 1, 1],
    )
    replicates = estimate(statistics, frame(1))["mean_replicates"].values[:, 0, 0]
    np.testing.assert_allclose(replicates, [1.5, 5e19, 5e19], rtol=1e-12)


def test_nothing_seen_is_an_error() -> None:
    with pytest.raises(ValueError, match="`mean/m` has seen no images"):
        estimate(Statistics(group("baseline"), 2), frame(1))


def test_axes_in_the_wrong_order_are_an_error() -> None:
    statistics = Statistics(group("a", "b", kind=Transposed), 1)
    for view in ("a", "b"):
        fill(statistics, view, torch.ones(5, 3), [5])
    with pytest.raises(ValueError, match=r"gave mean of shape \(3, 2\), not \(2, 3\)"):
        estimate(statistics, frame(2))


@pytest.mark.parametrize(
    ("negative", "wanted"),
    [
        ([], []),
        (["a"], ["under `a`: channel 0 is negative"]),
        (["a", "b"], ["under `a` and 1 other condition: channel 0 is negative"]),
        (["a", "b", "c"], ["under every condition: channel 0 is negative"]),
    ],
)
def test_reasons_are_told_once(negative: list[str], wanted: list[str]) -> None:
    statistics = Statistics(group("a", "b", "c"), 2)
    for view in ("a", "b", "c"):
        data = torch.ones(4, 3)
        data[:, 0] *= -1 if view in negative else 1
        fill(statistics, view, data, [2, 2])
    attrs: dict[str, Any] = estimate(statistics, frame(3)).attrs
    assert json.loads(attrs["undefined"]) == wanted
