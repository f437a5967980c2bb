"""What is kept of a few images beside sums over all: it is never left out, and has no interval."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from vitdsl import testing
from vitdsl.dsl.study import Entry
from vitdsl.runtime.graph.tap import Reducer
from vitdsl.runtime.metrics._base import Array, Metric, Seen, Value
from vitdsl.runtime.metrics._output import OUTPUT
from vitdsl.runtime.run.statistics import Statistics, estimate
from vitdsl.testing.streams import empty_frame

FIRST = 3


class Shown(Metric):
    """The mean of the outputs, and those of the first three images."""

    name = "shown"
    examples = ("some", "count")
    VALUES: ClassVar[Mapping[str, Value]] = {
        "mean": Value(("channel",), "mean"),
        "shown": Value(("image", "channel"), "output", example=True),
    }

    def reducer(self) -> Reducer:
        return OUTPUT

    def coordinates(self, sites: Sequence[object]) -> dict[str, Sequence[str | int]]:
        return {"channel": [0, 1], "image": list(range(FIRST))}

    def observe(self, seen: Seen) -> dict[str, Tensor]:
        read = seen.x[0][0].double()
        some, count = torch.zeros(FIRST, 2, dtype=torch.float64), torch.zeros(FIRST, dtype=torch.float64)
        for row in seen.rows:
            if row < FIRST:
                some[row], count[row] = read[row - seen.rows.start], 1.0
        return {"some": some, "count": count, **self.sums(seen, read)}

    def sums(self, seen: Seen, read: Tensor) -> dict[str, Tensor]:
        return {"sum": read.sum(0), "n": torch.tensor(float(len(read))).double()}

    def estimate(self, statistics: Mapping[str, Array], sites: Sequence[object]) -> dict[str, Array]:
        return {
            "mean": statistics["sum"] / statistics["n"][..., None],
            "shown": statistics["some"] / statistics["count"][..., None],
        }


class InGroups(Shown):
    """The same by image group."""

    degrees: ClassVar[Mapping[str, int]] = {"sum": 1, "n": 1}

    def sums(self, seen: Seen, read: Tensor) -> dict[str, Tensor]:
        return {"sum": seen.by_group(read), "n": seen.by_group(torch.ones_like(read[:, 0]))}


@pytest.mark.parametrize("kind", [Shown, InGroups])
def test_examples_are_there_once_and_have_no_interval(kind: type[Shown]) -> None:
    group = testing.group_of(kind(Entry()), [testing.vector_site(width=2)], views=("baseline", "other"))
    data = {view: torch.randn(10, 2) for view in ("baseline", "other")}
    stream = testing.Stream({view: ([(one,)], None) for view, one in data.items()})
    found = testing.run(group, stream, 2, 5)
    for i, one in enumerate(data.values()):
        np.testing.assert_array_equal(found["shown"].values[i], one[:FIRST].double().numpy())
    assert {name for name in found if str(name).startswith("shown")} == {"shown"}
    assert np.isfinite(found["mean_low"]).all() and found["mean_replicates"].sizes["replicate"] >= 5


@pytest.mark.parametrize("kind", [Shown, InGroups])
def test_examples_are_saved_and_merged(kind: type[Shown]) -> None:
    group = testing.group_of(kind(Entry()), [testing.vector_site(width=2)])
    data, whole = torch.randn(6, 2), Statistics(group, 2)
    for block, rows in enumerate((range(2), range(2, 6))):
        one = Statistics(group, 1)
        one.saw(0, rows)
        one.add("baseline", 0, group.kind.observe(Seen([(data[rows.start : rows.stop],)], rows=rows)))
        whole.saw(block, rows)
        whole.put("baseline", block, one.of_first_block("baseline"))
    found = estimate(whole, empty_frame(group))
    np.testing.assert_array_equal(found["shown"].values[0], data[:FIRST].double().numpy())
    np.testing.assert_allclose(found["mean"].values[0], data.double().mean(0).numpy(), rtol=1e-12)
