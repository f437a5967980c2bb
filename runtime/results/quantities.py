"""Quantities: one number out of a metric's results, the way a claim names it. Free of torch.

Owns how a quantity is evaluated, and what it is without each image block. Does not own what `where` keeps
(`select`) or what `take` makes of it (`take`).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import xarray as xr

from vitdsl.dsl.study import Quantity
from vitdsl.runtime.results.select import kept
from vitdsl.runtime.results.take import along_of, goes_along, taken, units_of


@dataclass(frozen=True)
class LeftOut:
    """What a quantity is without each image block of one stream.

    Attributes:
        replicates: `[block]`; empty where there are too few.
        sizes: `[block]`, images in each block.
    """

    replicates: np.ndarray
    sizes: np.ndarray


@dataclass(frozen=True)
class Evaluated:
    """A quantity's value, and what it is without each image block.

    Attributes:
        value: The number; NaN where part of what it is taken of is undefined.
        streams: For each image stream that it comes from, the quantity without each of that stream's blocks.
        units: Its unit.
        cells: How many numbers it is taken of.
        undefined: How many of them are NaN.
    """

    value: float
    streams: Mapping[str, LeftOut]
    units: str
    cells: int
    undefined: int


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
    arrays = [data[quantity.value] for data in left]
    cells = np.concatenate([array.values.ravel() for array in arrays])
    return Evaluated(
        float(taken(quantity, left, arrays)),
        {stream: _left_out(quantity, left, stream) for stream in dict.fromkeys(map(_stream, left))},
        units_of(quantity, arrays[0]),
        cells.size,
        int(np.isnan(cells).sum()),
    )


def _left_out(quantity: Quantity, left: list[xr.Dataset], stream: str) -> LeftOut:
    """The quantity without each image block of a stream; what comes from other streams stays as it is."""
    name = f"{quantity.value}_replicates"
    first = next(data for data in left if _stream(data) == stream)
    sizes = np.atleast_1d(np.asarray(first.attrs.get("left_out", []), float))
    blocks = first[name].sizes["replicate"] if name in first else 0
    if not blocks:
        return LeftOut(np.empty(0), sizes)
    arrays = [
        data[name] if _stream(data) == stream else data[quantity.value].expand_dims(replicate=blocks)
        for data in left
    ]
    return LeftOut(np.atleast_1d(taken(quantity, left, arrays)), sizes)


def _stream(data: xr.Dataset) -> str:
    return str(data.coords["data"].item() if "data" in data.coords else "")
