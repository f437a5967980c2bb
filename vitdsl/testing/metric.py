"""The laws of metrics, whatever they measure; a metric's test brings its tensors and its reference.

A law holds for any kind: only then do batches, shards and image blocks merge, and is every interval right. Does not
own how tensors are fed to a metric (`streams`).
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vitdsl.runtime.metrics._base import Array, Observer
from vitdsl.runtime.plan.passes import fit_of
from vitdsl.runtime.plan.plan import Group
from vitdsl.runtime.run.statistics import Statistics, estimate
from vitdsl.testing.law import hold, law
from vitdsl.testing.page import check_page
from vitdsl.testing.streams import (
    Stream,
    cuts_of,
    empty_frame,
    learned,
    observed,
    reduced,
    run,
    training,
    values_of,
    walk,
)


def check_metric(
    group: Group,
    stream: Stream,
    reference: Mapping[str, Any],
    *,
    batch: int,
    any_batches: bool,
    tolerance: float,
    seed: int = 0,
) -> float:
    """Hold a metric to its reference and to the laws.

    Where the metric needs a fit, it is made on the stream's `train`. The laws: `page` (its page is whole), `sums of
    fits` (those of each fit are the same in any order and any batches, and merge), `pure taps` (reading changes
    nothing), `no graph kept` (what reduce gives has no gradients, so that activations are freed), `bounded
    statistics` (their shapes do not depend on the images),
    `float64 sums`, `reference`, `any order` (of batches, in any image blocks), `merging` (of two runs' sums), `any
    batches` (of one image, of all, of uneven sizes), `no memory` (the kind itself does not grow), `vectorised
    estimate`, `declared range` (of values and replicates), `nothing from nothing` (sums of no image are no number).

    Args:
        group: The metric and its sites, from `group_of`.
        stream: Some images, of which two batches or more should be made.
        reference: Each of the metric's values by name, `[condition, ...]` or what broadcasts to it, from the whole
            data in float64, by other code than the metric's.
        batch: Images in a batch.
        any_batches: Whether the numbers do not depend on how images are cut into batches. False for estimators that
            are defined by batches, such as minibatch CKA.
        tolerance: Largest absolute error against the reference.
        seed: For the orders that are tried.

    Returns:
        The largest error against the reference.

    Raises:
        LawBroken: The first law that does not hold, by name.
    """
    check_page(type(group.kind))
    rng = np.random.default_rng(seed)
    _fits_add_up(group, stream, batch, rng)
    stream, cuts = learned(group, stream, batch), cuts_of(stream.images, batch)
    _taps_are_pure(group, stream, cuts[0])
    _statistics_are_bounded(group, stream, cuts, any_batches)
    with law("reference"):
        plain = walk(group, stream, cuts, [0] * len(cuts), 1)
        values = values_of(group, plain)
        worst = _error(values, reference, tolerance)

    def same(other: Statistics) -> None:
        for name, found in values_of(group, other).items():
            np.testing.assert_allclose(found, values[name], rtol=1e-12, atol=1e-12, err_msg=name)

    blocks = min(len(cuts), 5)
    with law("any order"):
        for _ in range(2):
            shuffled = [cuts[i] for i in rng.permutation(len(cuts))]
            same(walk(group, stream, shuffled, rng.integers(0, blocks, len(cuts)).tolist(), blocks))
    with law("merging"):
        halves = [walk(group, stream, part, [0] * len(part), 1) for part in (cuts[1::2], cuts[::2])]
        halves[0].merge(halves[1])
        hold(halves[0].images.sum() == stream.images, "images were lost")
        same(halves[0])
    if any_batches:
        with law("any batches"):
            for other in _other_cuts(stream.images):
                same(walk(group, stream, other, [0] * len(other), 1))
    with law("no memory"):
        before = _held(vars(group.kind).values())
        walk(group, stream, cuts, [0] * len(cuts), 1)
        after = _held(vars(group.kind).values())
        hold(
            after <= before,
            f"the kind grew from {before} to {after} values while it saw the same images again",
        )
    _estimate_is_vectorised(group, stream, cuts, seed)
    _ranges_hold(group, stream, batch)
    _nothing_comes_from_nothing(group, plain)
    return worst


def _fits_add_up(group: Group[Observer], stream: Stream, batch: int, rng: np.random.Generator) -> None:
    """The sums of the metric's fit, and of its fit's fit, hang neither on order, batches and blocks nor on merging."""
    fit = fit_of(group)
    if fit is None:
        return
    _fits_add_up(fit, stream.train or stream, batch, rng)
    with law("sums of fits"):
        train = training(fit, stream, batch)
        cuts = cuts_of(train.images, batch)
        _statistics_are_bounded(fit, train, cuts, True)
        wanted = walk(fit, train, cuts, [0] * len(cuts), 1).arrays()
        shuffled = [cuts[i] for i in rng.permutation(len(cuts))]
        halves = [walk(fit, train, part, [0] * len(part), 1) for part in (cuts[1::2], cuts[::2])]
        halves[0].merge(halves[1])
        others = [walk(fit, train, other, [0] * len(other), 1) for other in _other_cuts(train.images)]
        others += [walk(fit, train, shuffled, rng.integers(0, 3, len(cuts)).tolist(), 3), halves[0]]
        for other in others:
            for name, found in other.arrays().items():
                scale = 1e-12 * np.abs(wanted[name]).max(initial=1e-300)
                np.testing.assert_allclose(found, wanted[name], rtol=1e-10, atol=scale, err_msg=name)


def _error(values: Mapping[str, Array], reference: Mapping[str, Any], tolerance: float) -> float:
    hold(set(values) == set(reference), f"values {sorted(values)}, reference {sorted(reference)}")
    worst = 0.0
    for name, wanted in reference.items():
        wanted = np.broadcast_to(np.asarray(wanted, np.float64), values[name].shape)
        np.testing.assert_allclose(values[name], wanted, rtol=0, atol=tolerance, err_msg=name)
        worst = max(worst, float(np.nanmax(np.abs(values[name] - wanted), initial=0.0)))
    return worst


def _other_cuts(images: int) -> list[list[slice]]:
    """Single images, all at once, and batches that grow by one."""
    growing: list[slice] = []
    while not growing or growing[-1].stop < images:
        start = growing[-1].stop if growing else 0
        growing.append(slice(start, min(start + len(growing) + 1, images)))
    return [cuts_of(images, 1), [slice(0, images)], growing]


def _taps_are_pure(group: Group, stream: Stream, cut: slice) -> None:
    with law("pure taps"):
        for left, right in stream.views.values():
            for tensors, sites in ((left, group.x.sites), (right, group.y.sites)):
                if tensors is not None:
                    with torch.set_grad_enabled(group.kind.gradients):
                        given = stream.cut(group.kind, tensors, cut)
                        kept = [tuple(one.detach().clone() for one in some) for some in given]
                        reduced(group.kind, given, sites, of_y=tensors is right)
                    for some, before in zip(given, kept, strict=True):
                        for one, other in zip(some, before, strict=True):
                            torch.testing.assert_close(one.detach(), other, rtol=0, atol=0, equal_nan=True)
                            hold(
                                one.grad_fn is not None or one.grad is None, "gradients pile up at the images"
                            )


def _statistics_are_bounded(
    group: Group[Observer], stream: Stream, cuts: Sequence[slice], any_batches: bool
) -> None:
    with law("bounded statistics"):
        for view in stream.views:
            shapes: dict[str, tuple[int, ...]] = {}
            for cut in (*cuts, slice(0, stream.images)) if any_batches else cuts:
                found = observed(group, stream, view, cut)
                here = {
                    name: tuple(value.shape[1:] if group.kind.keeps(name) else value.shape)
                    for name, value in found.items()
                }
                shapes = shapes or here
                hold(here == shapes, f"{shapes} of one batch, {here} of {cut.stop - cut.start} images")


def _held(values: Iterable[Any]) -> int:
    """How many values an object's attributes hold."""
    total = 0
    for value in values:
        if isinstance(value, Tensor):
            total += value.numel()
        elif isinstance(value, np.ndarray):
            total += value.size
        elif isinstance(value, Mapping):
            total += _held(value.values())
        elif isinstance(value, (list, tuple, set, frozenset)):
            total += _held(value)
        else:
            total += len(value) if isinstance(value, (str, bytes, bytearray)) else 1
    return total


def _estimate_is_vectorised(group: Group, stream: Stream, cuts: Sequence[slice], seed: int) -> None:
    """Several sums at once give what each gives alone; each weighs the parts, and takes the images, in its own way."""
    kind, sites = group.kind, group.x.sites
    rng = np.random.default_rng(seed)
    statistics = walk(group, stream, cuts, range(len(cuts)), len(cuts))
    weights = rng.uniform(0.5, 5.0, (2, 3, len(statistics.parts())))
    many = {name: np.tensordot(weights, array[0], 1) for name, array in statistics.arrays().items()}
    few = max(1, stream.images * 3 // 4)
    chosen = np.stack([rng.choice(stream.images, few, replace=False) for _ in range(6)]).reshape(2, 3, few)
    many |= {name: array[0][chosen] for name, array in statistics.all_rows().items()}
    many |= {
        name: np.multiply.outer(weights[..., 0], array[0]) for name, array in statistics.examples().items()
    }
    with law("vectorised estimate"):
        found = kind.estimate(many, sites)
        for i, j in np.ndindex(2, 3):
            alone = kind.estimate({name: array[i, j] for name, array in many.items()}, sites)
            for name, value in alone.items():
                np.testing.assert_allclose(found[name][i, j], value, rtol=1e-13, atol=0, err_msg=name)


def _ranges_hold(group: Group, stream: Stream, batch: int) -> None:
    with law("declared range"):
        result = run(group, stream, batch, min(4, -(-stream.images // batch)))
        for name, value in group.kind.values(paired=group.paired).items():
            low, high = (
                np.inf * sign if end is None else end for sign, end in zip((-1, 1), value.range, strict=True)
            )
            for companion in (name,) if value.example else (name, f"{name}_replicates"):
                found = result[companion].values
                found = found[np.isfinite(found)]
                inside = (found >= low - 1e-12).all() and (found <= high + 1e-12).all()
                hold(bool(inside), f"{companion} in [{low}, {high}]: {found}")


def _nothing_comes_from_nothing(group: Group, statistics: Statistics) -> None:
    """No image at all is an error, and sums of no image (a condition or block without any) are NaN."""
    with law("nothing from nothing"):
        try:
            estimate(Statistics(group, 2), empty_frame(group))
        except ValueError as error:
            hold("no images" in str(error), f"another error: {error}")
        else:
            hold(False, "an estimate without images")
        empty = {name: np.zeros_like(array.sum(1)) for name, array in statistics.arrays().items()}
        empty |= {name: np.zeros_like(array) for name, array in statistics.examples().items()}
        empty |= {name: array[:, :0] for name, array in statistics.all_rows().items()}
        with np.errstate(all="ignore"):
            found = group.kind.estimate(empty, group.x.sites)
        for name, value in found.items():
            hold(bool(np.isnan(value).all()), f"{name} of no images is {np.unique(value)}")
