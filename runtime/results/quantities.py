"""Quantities: one number out of a metric's results, the way a claim names it. Free of torch.

Owns how a quantity is evaluated, for each training where seeds vary, and what it is without each part of the images.
Does not own what `where` keeps (`select`), what `take` makes of it (`take`), or its interval (`differences`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from vitdsl.dsl.study import Quantity
from vitdsl.runtime.results.intervals import Scale, scale_of
from vitdsl.runtime.results.select import kept
from vitdsl.runtime.results.take import along_of, cells, goes_along, scale_after, taken, units_of

Stream = tuple[str, int]
"""An image stream, and into how many parts its images are cut to be left out."""


@dataclass(frozen=True)
class LeftOut:
    """What something is without each part of the images of one stream.

    Attributes:
        replicates: `[part]`, or `[part, n]` for n numbers; empty where there are too few.
        sizes: `[part]`, images in each part.
    """

    replicates: np.ndarray
    sizes: np.ndarray


@dataclass(frozen=True)
class Training:
    """A quantity of one training of its models.

    Attributes:
        value: The number; NaN where part of what it is taken of is undefined.
        x: `[n]`, where the numbers stand that it is taken of.
        numbers: `[n]`, these numbers.
        streams: For each image stream, the numbers without each of its parts, `[part, n]`.
    """

    value: float
    x: np.ndarray
    numbers: np.ndarray
    streams: Mapping[Stream, LeftOut]


@dataclass(frozen=True)
class Evaluated:
    """A quantity's value, and what it is without each part of the images.

    Attributes:
        value: The number; of several trainings, the mean of theirs.
        take: How it was taken.
        streams: For each image stream that it comes from, the quantity without each of that stream's parts.
        trainings: By what their seeds are; one, called `()`, where no seed varies.
        models: Names of the models that it is about.
        scale: What the number is, for its interval.
        of: What each of the numbers is that it is taken of.
        units: Its unit.
        cells: How many numbers it comes from.
        undefined: How many of these are NaN.
    """

    value: float
    take: str
    streams: Mapping[Stream, LeftOut]
    trainings: Mapping[tuple[Any, ...], Training]
    models: frozenset[str]
    scale: Scale
    of: Scale
    units: str
    cells: int
    undefined: int

    @property
    def units_alone(self) -> np.ndarray:
        """The numbers that it is taken of, `[n]`: of several trainings, the mean of theirs."""
        each = [one.numbers for one in self.trainings.values()]
        return np.mean(each, 0) if len({one.size for one in each}) == 1 else np.concatenate(each)

    @property
    def images(self) -> float:
        """How many images its largest stream has."""
        return max((float(part.sizes.sum()) for part in self.streams.values()), default=0.0)


def select(quantity: Quantity, groups: Mapping[str, xr.Dataset]) -> list[xr.Dataset]:
    """What is left of the metric's groups, fit for what is taken of it.

    Raises:
        QuantityProblem: There is no such value, coordinate or label.
    """
    left = kept(quantity, groups)
    if goes_along(quantity):
        for data in left:
            along_of(quantity, data)
    return left


def read(quantity: Quantity, groups: Mapping[str, xr.Dataset]) -> Evaluated:
    """Evaluate a quantity on results."""
    left = select(quantity, groups)
    trainings = {seeds: _training(quantity, some) for seeds, some in by_training(left).items()}
    first = left[0][quantity.value]
    numbers = next(iter(trainings.values())).numbers.size
    return Evaluated(
        float(np.mean([one.value for one in trainings.values()])),
        quantity.take,
        _mean_without(quantity, list(trainings.values())),
        trainings,
        frozenset(name for data in left for name in models_of(data)),
        scale_after(quantity, first, numbers),
        scale_of(first.attrs),
        units_of(quantity, first),
        sum(data[quantity.value].size for data in left),
        sum(int(np.isnan(data[quantity.value].values).sum()) for data in left),
    )


def models_of(data: xr.Dataset) -> list[str]:
    """Names of a group's models, without what is swept."""
    names = [str(data.coords[key].item()) for key in ("model", "model_x", "model_y") if key in data.coords]
    return [name.partition("[")[0] for name in names]


def by_training(left: Sequence[xr.Dataset]) -> dict[tuple[Any, ...], list[xr.Dataset]]:
    """Groups of results by the seeds of their models; those without any belong to each.

    Of two models whose seeds vary both, the seeds of the first count: pairs that share one are not independent.
    """
    keys = [seeds_of(data) for data in left]
    several = [key for key in dict.fromkeys(keys) if key]
    if len(several) < 2:
        return {(): list(left)}
    return {one: [data for data, key in zip(left, keys, strict=True) if key in (one, ())] for one in several}


def seeds_of(data: xr.Dataset) -> tuple[Any, ...]:
    """The seeds that a group's models vary in."""
    names = [str(name) for name, coord in data.coords.items() if coord.attrs.get("training")]
    mine = [name for name in names if not (name.endswith("_y") and f"{name[:-2]}_x" in names)]
    return tuple(data.coords[name].item() for name in mine)


def _training(quantity: Quantity, left: list[xr.Dataset]) -> Training:
    x, numbers = cells(quantity, left, [data[quantity.value] for data in left])
    streams = {
        stream: _left_out(quantity, left, stream)
        for stream in dict.fromkeys(_stream(quantity, data) for data in left)
    }
    return Training(float(taken(quantity, x, numbers)), x, numbers, streams)


def _mean_without(quantity: Quantity, trainings: Sequence[Training]) -> dict[Stream, LeftOut]:
    """The mean over trainings of the quantity, without each part of a stream; what is of other streams stays."""
    found = {}
    for stream in dict.fromkeys(key for one in trainings for key in one.streams):
        sizes = next(one.streams[stream].sizes for one in trainings if stream in one.streams)
        each = []
        for one in trainings:
            part = one.streams.get(stream)
            each.append(
                np.full(stream[1], one.value)
                if part is None
                else np.atleast_1d(taken(quantity, one.x, part.replicates))
                if part.replicates.size
                else np.empty(0)
            )
        found[stream] = LeftOut(np.mean(each, 0), sizes)
    return found


def _left_out(quantity: Quantity, left: list[xr.Dataset], stream: Stream) -> LeftOut:
    """The numbers without each part of a stream's images; what comes from other streams stays as it is."""
    name = f"{quantity.value}_replicates"
    first = next(data for data in left if _stream(quantity, data) == stream)
    sizes = np.atleast_1d(np.asarray(first.attrs.get("left_out", []), float))
    if not stream[1]:
        return LeftOut(np.empty(0), sizes)
    arrays = [
        data[name]
        if _stream(quantity, data) == stream
        else data[quantity.value].expand_dims(replicate=stream[1])
        for data in left
    ]
    return LeftOut(cells(quantity, left, arrays)[1], sizes)


def _stream(quantity: Quantity, data: xr.Dataset) -> Stream:
    """The stream of a group, and how many parts of it are left out; of values of single images, none."""
    name = str(data.coords["data"].item() if "data" in data.coords else "")
    replicates = data.get(f"{quantity.value}_replicates")
    return name, 0 if replicates is None else int(replicates.sizes["replicate"])
