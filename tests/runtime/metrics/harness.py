"""What every metric must obey, whatever it measures; a metric's test brings its tensors and its reference.

A `Stream` holds whole tensors, all images at once. `walk` cuts them into batches and image blocks as a run
does, reduces and observes each, and adds the sums in `Statistics`. `check_laws` then holds the metric to: the
reference, any image blocks, any order, merging, bounded state, vectorised estimates, declared ranges, no
number from nothing.
"""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
import yaml
from torch import Tensor

from vitdsl.dsl.study import Metric as MetricEntry
from vitdsl.runtime.graph.site import Site
from vitdsl.runtime.kinds import documentation
from vitdsl.runtime.metrics._base import Array, Metric, Reads, Seen
from vitdsl.runtime.plan.plan import Group, Reading, View
from vitdsl.runtime.run.statistics import Statistics, estimate

HEADINGS = ("What it measures", "Formula", "Shapes", "Range", "Cost", "Reference", "Limits", "Example")
Tensors = Sequence[tuple[Tensor, ...]]


@dataclass(frozen=True)
class Stream:
    """All images of a stream: for each view, whole tensors by site of x and of y (None: y is x)."""

    views: Mapping[str, tuple[Tensors, Tensors | None]]
    labels: Tensor | None = None

    @property
    def images(self) -> int:
        return len(next(iter(self.views.values()))[0][0][0])


def tokens_site(name: str, count: int, width: int, *, prefix: int = 1, **fields: Any) -> Site:
    """A site of a ViT with a square grid unless `grid` says otherwise."""
    side = round((count - prefix) ** 0.5)
    settings = {"grid": (side, side), "patch": (4, 4), "class_token": prefix > 0, "depth": 0.5} | fields
    return Site(name, "output", (count, width), "tokens", prefix=prefix, **settings)


def vector_site(name: str = "", width: int = 10, role: str = "output") -> Site:
    return Site(name, role, (width,), "vector", 1.0)


def group_of(
    kind: Metric,
    x: Sequence[Site],
    y: Sequence[Site] | None = None,
    *,
    views: Sequence[str] = ("baseline",),
    paired: bool = False,
) -> Group:
    reading = Reading("model", tuple(x), kind.inputs.roles)
    other = reading if y is None else Reading("model" if paired else "other", tuple(y), kind.inputs.roles)
    entries = tuple(View(view, view, "baseline" if paired else view, "model") for view in views)
    return Group("metric", "metric/model", kind, reading, other, entries, paired, "probe")


def empty_frame(group: Group) -> xr.Dataset:
    """Labels and NaN, as a plan lays them out."""
    sizes = {
        "condition": len(group.views),
        "site": len(group.x.sites),
        "site_x": len(group.x.sites),
        "site_y": len(group.y.sites),
    } | {dim: len(labels) for dim, labels in group.kind.coordinates(group.x.sites).items()}
    values = group.kind.values(paired=group.paired)
    return xr.Dataset(
        {
            name: (
                ("condition", *value.dims),
                np.full([sizes[dim] for dim in ("condition", *value.dims)], np.nan),
                {"units": value.units},
            )
            for name, value in values.items()
        }
    )


def reduced(kind: Metric, tensors: Tensors, sites: Sequence[Site]) -> Reads:
    reducer = kind.reducer()
    found = [
        reducer.function(*some, site=site, **dict(reducer.constants))
        for some, site in zip(tensors, sites, strict=True)
    ]
    return [one if isinstance(one, tuple) else (one,) for one in found]


def cuts_of(images: int, batch: int) -> list[slice]:
    return [slice(start, min(start + batch, images)) for start in range(0, images, batch)]


def walk(group: Group, stream: Stream, cuts: Sequence[slice], of: Sequence[int], blocks: int) -> Statistics:
    """The sums of some batches, the i-th in image block `of[i]`."""
    kind, statistics = group.kind, Statistics(group, blocks)
    for cut, block in zip(cuts, of, strict=True):
        statistics.images[block] += cut.stop - cut.start
        labels = None if stream.labels is None or not kind.labels else stream.labels[cut]
        for view, (left, right) in stream.views.items():
            x = reduced(kind, [tuple(tensor[cut] for tensor in some) for some in left], group.x.sites)
            y = x
            if right is not None:
                y = reduced(kind, [tuple(tensor[cut] for tensor in some) for some in right], group.y.sites)
            of_models = kind.inputs.of == "models"
            observed = kind.observe(
                Seen(
                    x,
                    None if of_models else y,
                    y if of_models else None,
                    labels,
                    range(cut.start, cut.stop),
                    group.paired,
                )
            )
            assert all(value.dtype == torch.float64 for value in observed.values())
            statistics.add(view, block, observed)
    return statistics


def values_of(group: Group, statistics: Statistics) -> dict[str, Array]:
    found = estimate(statistics, empty_frame(group))
    return {name: found[name].values for name in group.kind.values(paired=group.paired)}


def run(group: Group, stream: Stream, batch: int, blocks: int = 1) -> xr.Dataset:
    """Estimate, intervals, replicates and reasons, as a run gives them."""
    cuts = cuts_of(stream.images, batch)
    of = [index * blocks // len(cuts) for index in range(len(cuts))]
    return estimate(walk(group, stream, cuts, of, blocks), empty_frame(group))


def check_laws(
    group: Group,
    stream: Stream,
    reference: Mapping[str, Any],
    *,
    batch: int,
    any_batches: bool,
    tolerance: float,
    seed: int = 0,
) -> float:
    """Hold a metric to its reference and to the laws; the largest error against the reference."""
    rng = np.random.default_rng(seed)
    cuts = cuts_of(stream.images, batch)
    plain = walk(group, stream, cuts, [0] * len(cuts), 1)
    values = values_of(group, plain)

    assert set(values) == set(reference)
    worst = 0.0
    for name, wanted in reference.items():
        wanted = np.broadcast_to(np.asarray(wanted, np.float64), values[name].shape)
        np.testing.assert_allclose(values[name], wanted, rtol=0, atol=tolerance, err_msg=name)
        worst = max(worst, float(np.nanmax(np.abs(values[name] - wanted), initial=0.0)))

    def same(other: Statistics, atol: float = 1e-12) -> None:
        for name, found in values_of(group, other).items():
            np.testing.assert_allclose(found, values[name], rtol=1e-12, atol=atol, err_msg=name)

    blocks = min(len(cuts), 5)
    for _ in range(2):
        order = rng.permutation(len(cuts))
        same(
            walk(group, stream, [cuts[i] for i in order], rng.integers(0, blocks, len(cuts)).tolist(), blocks)
        )
    halves = [walk(group, stream, part, [0] * len(part), 1) for part in (cuts[1::2], cuts[::2])]
    halves[0].merge(halves[1])
    assert halves[0].images.sum() == stream.images
    same(halves[0])
    if any_batches:
        singles = cuts_of(stream.images, 1)
        same(walk(group, stream, singles, [0] * len(singles), 1))
        whole = [slice(0, stream.images)]
        same(walk(group, stream, whole, [0], 1))

    _state_is_bounded(group, stream, cuts)
    _estimate_is_vectorised(group, plain)
    _ranges_hold(group, stream, batch)
    _nothing_is_an_error(group)
    return worst


def _state_is_bounded(group: Group, stream: Stream, cuts: Sequence[slice]) -> None:
    def shapes(part: Sequence[slice]) -> dict[str, list[tuple[int, ...]]]:
        sums = walk(group, stream, part, [0] * len(part), 1).sums
        return {view: [tuple(value.shape) for value in one.values()] for view, one in sums.items()}

    assert shapes(cuts[:1]) == shapes(cuts)


def _estimate_is_vectorised(group: Group, statistics: Statistics) -> None:
    kind, sites = group.kind, group.x.sites
    one = {name: array.sum(1)[0] for name, array in statistics.arrays().items()}
    factors = np.asarray([[1.0, 2.0, 5.0], [3.0, 0.5, 7.0]])
    many = {name: factors.reshape(2, 3, *[1] * array.ndim) * array for name, array in one.items()}
    found = kind.estimate(many, sites)
    for i, j in np.ndindex(2, 3):
        alone = kind.estimate({name: array[i, j] for name, array in many.items()}, sites)
        for name, value in alone.items():
            np.testing.assert_allclose(found[name][i, j], value, rtol=1e-13, atol=0, err_msg=name)


def _ranges_hold(group: Group, stream: Stream, batch: int) -> None:
    values = group.kind.values(paired=group.paired)
    result = run(group, stream, batch, min(4, -(-stream.images // batch)))
    for name, value in values.items():
        low, high = (
            np.inf * sign if end is None else end for sign, end in zip((-1, 1), value.range, strict=True)
        )
        for companion in (name, f"{name}_replicates"):
            found = result[companion].values
            found = found[np.isfinite(found)]
            assert (found >= low - 1e-12).all() and (found <= high + 1e-12).all(), (companion, found)


def _nothing_is_an_error(group: Group) -> None:
    with pytest.raises(ValueError, match="no images"):
        estimate(Statistics(group, 2), empty_frame(group))


def check_page(kind: type[Metric]) -> None:
    """The page has every heading, in order, and its example is a metric of this kind."""
    page = documentation(kind)
    places = [page.find(f"\n{heading}:\n") for heading in HEADINGS]
    assert all(place > 0 for place in places), dict(zip(HEADINGS, places, strict=True))
    assert places == sorted(places)
    assert page.splitlines()[0].endswith(".")
    example = yaml.safe_load(textwrap.dedent(page.partition("\nExample:\n")[2]))
    assert set(example) == {"metrics"} and example["metrics"]
    for entry in example["metrics"].values():
        parsed = MetricEntry(**entry)
        assert parsed.kind == kind.name
        kind(kind.Params(**parsed.params))
        taken = ("of", "at") if kind.inputs.of == "models" else ("x", "y", "against")
        given = {"of", "at", "x", "y", "against"} & set(entry)
        assert given and given <= set(taken)
