"""The numbers of two runs beside each other: which moved, and further than their images allow. Free of torch.

Numbers are matched by metric, models, value, and every label that they have: condition, site, token, head. Where both
runs saw the same images in the same order, the interval is that of the paired difference, from leaving the same images
out of both; otherwise the two are taken as independent, and the reaches of their intervals add as such. All numbers of
both runs are one family (Holm). Numbers of single images are not compared. Does not own the intervals
(`diff_intervals`), or whether a metric may be compared at all (`diff_facts`).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from typing import Literal

import numpy as np
import xarray as xr

from vitdsl.runtime.results.csvs import is_table, values_of
from vitdsl.runtime.results.diff_intervals import ALPHA, How, ends_of, flat, p_of
from vitdsl.runtime.results.holm import adjusted
from vitdsl.runtime.results.intervals import LEVEL, Array

ROUNDING = 1e-6
"""Share of the largest number of a value below which a difference is float32 rounding."""
NO_WIDTH = 1e-9
"""The same for an interval that no image moves."""


@dataclass(frozen=True)
class Number:
    """One number that both runs have."""

    path: str
    value: str
    labels: Mapping[str, str]
    units: str
    how: How
    a: tuple[float, float, float]
    b: tuple[float, float, float]
    difference: tuple[float, float, float]
    p: float
    p_adjusted: float


@dataclass(frozen=True)
class Matched:
    """The numbers of one value of one group that both runs have, flat, `[n]`; triples are `[3, n]`: estimate and ends.

    Attributes:
        path: The group, such as `drift/vit`.
        value: The value.
        name: What the value is called.
        units: Its unit.
        labels: The labels of each dimension, in order; the numbers are all combinations of them.
        how: What the intervals are.
        a: In A.
        b: In B.
        difference: B minus A.
        differs: Where they differ by more than rounding.
        p: The smallest error rate at which the difference is still one; 1 where it is none.
        p_adjusted: The same among all numbers of both runs.
    """

    path: str
    value: str
    name: str
    units: str
    labels: Mapping[str, Sequence[str]]
    how: How
    a: Array
    b: Array
    difference: Array
    differs: np.ndarray
    p: Array
    p_adjusted: Array

    @property
    def compared(self) -> int:
        """How many numbers."""
        return self.p.size

    @cached_property
    def moved(self) -> np.ndarray:
        """Which moved beyond their interval, all numbers considered, `[n]`."""
        return np.asarray(self.p_adjusted < ALPHA)

    @cached_property
    def alone(self) -> np.ndarray:
        """Which moved beyond their own interval, and no further, `[n]`."""
        return np.asarray((self.p < ALPHA) & ~self.moved)

    @cached_property
    def outside(self) -> np.ndarray:
        """Which of those that moved left their own interval in A, `[n]`."""
        return np.asarray(self.moved & ((self.b[0] < self.a[1]) | (self.b[0] > self.a[2])))

    @cached_property
    def untold(self) -> np.ndarray:
        """Which differ where no interval tells whether other images would, `[n]`."""
        low, high = self.difference[1:]
        return np.asarray(self.differs & ~(high > low))

    def numbers(self, which: np.ndarray) -> Iterator[Number]:
        """Some of the numbers, with their labels."""
        every = list(product(*self.labels.values()))
        for i in np.flatnonzero(which):
            yield Number(
                self.path,
                self.value,
                dict(zip(self.labels, every[i], strict=True)),
                self.units,
                self.how,
                _three(self.a[:, i]),
                _three(self.b[:, i]),
                _three(self.difference[:, i]),
                float(self.p[i]),
                float(self.p_adjusted[i]),
            )


@dataclass(frozen=True)
class Alone:
    """What one run has and the other has not: a group, a value of it, or some labels of a dimension.

    `what` is the dimension, or `group` or `value`.
    """

    run: Literal["A", "B"]
    path: str
    what: str
    labels: tuple[str, ...]


def matched(
    a: Mapping[str, xr.Dataset], b: Mapping[str, xr.Dataset], same: Mapping[str, bool]
) -> list[Matched]:
    """The numbers that both have, all of them one family; what is read off single images, which differ, is none.

    Args:
        a: Groups of results.
        b: Groups of the other run.
        same: For each stream, whether both runs saw the same images in the same order.
    """
    found = [
        _match(path, value, a[path], b[path], same)
        for path in a
        if path in b
        for value in values_of(a[path])
        if value in b[path] and is_table(a[path], value) and not a[path][value].attrs.get("single")
    ]
    every = [one for one in found if one is not None and one.compared]
    together = adjusted([float(p) for one in every for p in one.p])
    ends = np.cumsum([one.compared for one in every])
    parts = np.split(np.asarray(together, float), ends[:-1]) if every else []
    return [replace(one, p_adjusted=part) for one, part in zip(every, parts, strict=True)]


def alone(a: Mapping[str, xr.Dataset], b: Mapping[str, xr.Dataset]) -> list[Alone]:
    """Groups, values and labels that one of two runs has."""
    found = [Alone("A", path, "group", ()) for path in a if path not in b]
    found += [Alone("B", path, "group", ()) for path in b if path not in a]
    for path in (path for path in a if path in b):
        left, right = a[path], b[path]
        whats = {"value": (values_of(left), values_of(right))}
        dims = [str(dim) for dim in dict.fromkeys((*left.dims, *right.dims)) if dim != "replicate"]
        whats |= {dim: (_labels(left, dim), _labels(right, dim)) for dim in dims}
        for what, (mine, theirs) in whats.items():
            for run, here, there in (("A", mine, theirs), ("B", theirs, mine)):
                known = set(there)
                only = tuple(label for label in here if label not in known)
                if only:
                    found.append(Alone(run, path, what, only))  # type: ignore[arg-type]
    return found


def _labels(data: xr.Dataset, dim: str) -> list[str]:
    if dim in data.coords:
        return [str(label) for label in data[dim].values]
    return [str(i) for i in range(data.sizes.get(dim, 0))]


def _match(path: str, value: str, a: xr.Dataset, b: xr.Dataset, same: Mapping[str, bool]) -> Matched | None:
    dims = [str(dim) for dim in a[value].dims]
    if set(dims) != set(map(str, b[value].dims)):
        return None
    where = [
        {dim: {label: place for place, label in enumerate(_labels(data, dim))} for dim in dims}
        for data in (a, b)
    ]
    labels = {dim: [one for one in where[0][dim] if one in where[1][dim]] for dim in dims}
    sides = [
        data.isel({dim: [places[dim][one] for one in labels[dim]] for dim in dims})
        for data, places in zip((a, b), where, strict=True)
    ]
    triples = [_triple(data, value, dims) for data in sides]
    estimates = [triple[0] for triple in triples]
    largest = max((float(np.nanmax(np.abs(one))) for one in estimates if np.isfinite(one).any()), default=0.0)
    value_of = estimates[1] - estimates[0]
    undefined = np.isnan(estimates[0]) != np.isnan(estimates[1])
    differs = (np.abs(value_of) > ROUNDING * largest) | undefined
    how, ends = ends_of(sides, value, dims, same)
    low, high = ends(LEVEL)
    narrow = high - low <= NO_WIDTH * largest
    low, high = (np.where(narrow, value_of, end) for end in (low, high))
    p = np.ones(value_of.size)
    candidates = differs & (high > low) & ((low > 0) | (high < 0))
    if candidates.any():
        p[candidates] = p_of(ends, candidates)
    attrs = a[value].attrs
    return Matched(
        path, value, str(attrs.get("long_name") or value), str(attrs.get("units", "1")), labels, how,
        triples[0], triples[1], np.stack([value_of, low, high]), differs, p, p,
    )  # fmt: skip


def _triple(data: xr.Dataset, value: str, dims: Sequence[str]) -> Array:
    estimate = flat(data[value], dims)
    ends = [
        flat(data[f"{value}_{end}"], dims) if f"{value}_{end}" in data else np.full(estimate.size, np.nan)
        for end in ("low", "high")
    ]
    return np.stack([estimate, *ends])


def _three(column: Array) -> tuple[float, float, float]:
    value, low, high = map(float, column)
    return value, low, high


def in_words(labels: Mapping[str, str]) -> str:
    """Labels of a number in words, without the intact model's: `site blocks.3.attn, token cls`."""
    return ", ".join(f"{dim} {label}" for dim, label in labels.items() if label != "baseline")


def listed(labels: Sequence[str], most: int = 6) -> str:
    """The first few labels, and how many more there are."""
    more = f" and {len(labels) - most} more" if len(labels) > most else ""
    return ", ".join(labels[:most]) + more
