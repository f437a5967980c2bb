"""Intervals of the differences between the numbers of two runs, and how sure they are. Free of torch.

Of the same images, the interval of the paired difference; of others, both intervals as independent. Does not own which
numbers stand beside each other (`diff_numbers`), or the interval of one number (`intervals`).
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import xarray as xr

from vitdsl.runtime.results.bands import difference_of
from vitdsl.runtime.results.intervals import LEVEL, Array, interval, scale_of

LEAST_P, BISECTIONS = 1e-9, 40
ALPHA = 1 - LEVEL
How = Literal["paired", "both", ""]
"""An interval of the paired difference, one from both intervals, or none."""


def flat(array: xr.DataArray, dims: Sequence[str], lead: Sequence[str] = ()) -> Array:
    """The numbers of some dimensions as one, `[n]`; behind those of `lead`."""
    values = np.asarray(array.transpose(*lead, *dims).values, float)
    return values.reshape(*values.shape[: len(lead)], -1)


class Ends:
    """Ends of the differences at a level, of some numbers or all."""

    def __init__(self, sides: Sequence[xr.Dataset], value: str, dims: Sequence[str], paired: bool) -> None:
        self.paired, self.scale = paired, scale_of(sides[0][value].attrs)
        self.estimates = [flat(data[value], dims) for data in sides]
        self.without = [flat(data[f"{value}_replicates"], dims, ["replicate"]) for data in sides]
        self.sizes = [np.atleast_1d(np.asarray(data.attrs["left_out"], float)) for data in sides]

    def __call__(self, level: float | Array, which: np.ndarray | slice = slice(None)) -> tuple[Array, Array]:
        """The ends of some numbers, or all; `level` is one, or one for each."""
        a, b = (one[which] for one in self.estimates)
        without_a, without_b = (one[:, which] for one in self.without)
        if self.paired:
            scale = difference_of(self.scale)
            low, high = interval(b - a, without_b - without_a, self.sizes[0], scale, level)
            return low, high
        low_a, high_a = interval(a, without_a, self.sizes[0], self.scale, level)
        low_b, high_b = interval(b, without_b, self.sizes[1], self.scale, level)
        return b - a - np.hypot(b - low_b, high_a - a), b - a + np.hypot(high_b - b, a - low_a)


class NoEnds:
    """No ends: leaving images out says nothing of the numbers."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __call__(self, level: float | Array, which: np.ndarray | slice = slice(None)) -> tuple[Array, Array]:
        """The ends of some numbers, or all; `level` is one, or one for each."""
        return np.full(self.size, np.nan), np.full(self.size, np.nan)


def ends_of(
    sides: Sequence[xr.Dataset], value: str, dims: Sequence[str], same: Mapping[str, bool]
) -> tuple[How, Ends | NoEnds]:
    """What the intervals of a value's differences are, and their ends at a level.

    Args:
        sides: The group in A and in B, cut to what both have, in one order.
        value: The value.
        dims: Its dimensions.
        same: For each stream, whether both runs saw the same images in the same order.
    """
    sized = all(
        f"{value}_replicates" in data and data.sizes.get("replicate") and "left_out" in data.attrs
        for data in sides
    )
    if not sized:
        return "", NoEnds(int(np.prod([sides[0].sizes[dim] for dim in dims], dtype=int)))
    streams = {str(data.coords["data"].item()) if "data" in data.coords else "" for data in sides}
    first, second = (np.atleast_1d(np.asarray(data.attrs["left_out"], float)) for data in sides)
    paired = len(streams) == 1 and same.get(streams.pop(), False) and np.array_equal(first, second)
    return "paired" if paired else "both", Ends(sides, value, dims, paired)


def p_of(ends: Ends | NoEnds, which: np.ndarray) -> Array:
    """For each number, the smallest error rate at which its interval still leaves out 0, by bisection of logarithms."""
    low, high = np.full(int(which.sum()), LEAST_P), np.full(int(which.sum()), ALPHA)

    def told(p: Array) -> np.ndarray:
        left, right = ends(1 - p, which)
        return np.asarray((left > 0) | (right < 0))

    least = told(low)
    for _ in range(BISECTIONS):
        middle = np.sqrt(low * high)
        smaller = told(middle)
        low, high = np.where(smaller, low, middle), np.where(smaller, middle, high)
    return np.where(least, LEAST_P, high)
