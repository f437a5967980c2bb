"""Sums over images, and what is estimated from them.

Statistics add: any split of the images into batches, shards or runs merges to the same sums. They are kept apart for
32 image groups (`metrics/_groups`), or, for kinds that cannot tell images apart, for each image block; leaving one out
at a time gives an interval for every number. Sums are float64.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Generic

import numpy as np
import numpy.typing as npt
import torch
import xarray as xr
from torch import Tensor

from vitdsl.runtime.metrics._base import Array, Fit
from vitdsl.runtime.metrics._groups import GROUPS
from vitdsl.runtime.plan.plan import Group, Kind
from vitdsl.runtime.results.intervals import interval, scale_of
from vitdsl.runtime.transfer import brought, done


class Statistics(Generic[Kind]):
    """The sums of one group of results.

    Attributes:
        sums: For each view and name, `[part, ...]`: a part is an image group, or an image block for kinds without
            `degrees`; of a fit, which has no interval, all images. Examples have no parts.
        rows: For each view, name and image block, `[image, ...]`.
        positions: For each image block, the positions of its images in the stream, in the order they came.
    """

    def __init__(self, group: Group[Kind], blocks: int) -> None:
        self.group, self.blocks = group, blocks
        self._one_sum = isinstance(group.kind, Fit)
        self.sums: dict[str, dict[str, Tensor]] = {}
        self.rows: dict[str, dict[str, list[list[Array]]]] = {}
        self.positions: list[list[int]] = [[] for _ in range(blocks)]
        self._all: dict[str, Array] = {}

    @property
    def images(self) -> npt.NDArray[np.float64]:
        """How many images each image block has, `[block]`."""
        return np.array([float(len(some)) for some in self.positions])

    @property
    def by_group(self) -> bool:
        """Whether image groups are left out at a time, and not image blocks."""
        return bool(self.group.kind.degrees) or not any(self.sums.values())

    def parts(self) -> npt.NDArray[np.float64]:
        """How many images are in each of what is left out at a time, `[part]`."""
        if not self.by_group:
            return self.images
        return np.bincount(self._groups(), minlength=GROUPS).astype(float)

    def _groups(self) -> npt.NDArray[np.intp]:
        """The image group of every image, one image block behind the other."""
        return np.array([row % GROUPS for some in self.positions for row in some], np.intp)

    def saw(self, block: int, rows: Iterable[int]) -> None:
        """Note the images of an image block, once for all views."""
        self.positions[block] += rows

    def add(self, view: str, block: int, observed: Mapping[str, Tensor]) -> None:
        """Add what one batch gave under one condition: all of it, or nothing where memory is full."""
        sums, kind = self.sums.setdefault(view, {}), self.group.kind
        exact = {
            name: (value.cpu() if value.device.type == "mps" else value).double()
            for name, value in observed.items()
        }
        rows = {name: brought(value) for name, value in exact.items() if kind.keeps(name)}
        for name, value in exact.items():
            if name not in rows:
                self._make_room(sums, name, value)
        for name, value in exact.items():
            if name in rows:
                kept = self.rows.setdefault(view, {}).setdefault(name, [[] for _ in range(self.blocks)])
                kept[block].append(rows[name])
                self._all.pop(name, None)
            else:
                self._add_sum(sums, name, block, value)

    def _make_room(self, sums: dict[str, Tensor], name: str, value: Tensor) -> None:
        degrees = {} if name in self.group.kind.examples else self.group.kind.degrees
        if degrees and (name not in degrees or value.shape[:1] != (GROUPS,)):
            raise ValueError(
                f"`{self.group.kind.name}` gave {name} of shape {list(value.shape)}, not by image group"
            )
        if name not in sums:
            parts = 1 if self._one_sum else self.blocks
            shape = (parts, *value.shape) if self._by_block(name) else value.shape
            sums[name] = torch.zeros(shape, dtype=torch.float64, device=value.device)

    def _add_sum(self, sums: dict[str, Tensor], name: str, block: int, value: Tensor) -> None:
        self._make_room(sums, name, value)
        part = sums[name][0 if self._one_sum else block] if self._by_block(name) else sums[name]
        part += value

    def _by_block(self, name: str) -> bool:
        """Whether sums of a name are kept apart for each image block."""
        return not self.group.kind.degrees and name not in self.group.kind.examples

    def of_first_block(self, view: str) -> dict[str, Array]:
        """What one image block gave under one condition: sums, and its images' rows one behind the other.

        Of sums that hold one image block alone. Waits for the device.
        """
        done()
        sums = self.sums.get(view, {}).items()
        found = {name: (value[0] if self._by_block(name) else value).cpu().numpy() for name, value in sums}
        rows = {name: _joined(kept[0]) for name, kept in self.rows.get(view, {}).items()}
        return found | rows

    def put(self, view: str, block: int, arrays: Mapping[str, Array]) -> None:
        """Take over what `of_first_block` gave of an image block; each once, and in their order."""
        for name, value in arrays.items():
            if self.group.kind.keeps(name):
                kept = self.rows.setdefault(view, {}).setdefault(name, [[] for _ in range(self.blocks)])
                kept[block] = [value]
                self._all.pop(name, None)
            else:
                sums = self.sums.setdefault(view, {})
                self._add_sum(sums, name, block, torch.from_numpy(np.asarray(value)))

    def merge(self, other: "Statistics[Kind]") -> None:
        """Add the sums of other images of the same group, kept in the same image blocks."""
        if self.blocks != other.blocks:
            raise ValueError(f"sums of {self.blocks} and of {other.blocks} image blocks do not merge")
        for view, sums in other.sums.items():
            mine = self.sums.setdefault(view, {})
            for name, value in sums.items():
                mine[name] = mine[name] + value if name in mine else value.clone()
        for view, rows in other.rows.items():
            for name, kept in rows.items():
                here = self.rows.setdefault(view, {}).setdefault(name, [[] for _ in range(self.blocks)])
                for block, parts in enumerate(kept):
                    here[block] += parts
                    self._all.pop(name, None)
        for block, positions in enumerate(other.positions):
            self.positions[block] += positions

    def arrays(self) -> dict[str, Array]:
        """By name, `[condition, part, ...]`, conditions in the order of the group's views.

        Raises:
            ValueError: No image was seen, so there is nothing to estimate from.
        """
        if not (self.sums or self.rows) or not self.images.sum() > 0:
            raise ValueError(f"`{self.group.path}` has seen no images")
        names = next(iter(self.sums.values()), {})
        return self._stacked(name for name in names if name not in self.group.kind.examples)

    def totals(self) -> dict[str, Array]:
        """What is estimated from, by name: sums over all images, rows, and examples, `[condition, ...]`."""
        sums = {name: array.sum(1) for name, array in self.arrays().items()}
        return sums | self.all_rows() | self.examples()

    def examples(self) -> dict[str, Array]:
        """What is kept of a few images, by name, `[condition, ...]`."""
        return self._stacked(self.group.kind.examples)

    def _stacked(self, names: Iterable[str]) -> dict[str, Array]:
        return {
            name: np.stack([self.sums[view.id][name].cpu().numpy() for view in self.group.views])
            for name in names
        }

    def all_rows(self) -> dict[str, Array]:
        """Rows by name, `[condition, image, ...]`, one image block behind the other."""
        return {name: self._rows_of(name) for name in next(iter(self.rows.values()), {})}

    def _rows_of(self, name: str) -> Array:
        """All rows of a name, made once; the rows of image blocks then lie in it, and are nowhere else."""
        if name not in self._all:
            first = [part for kept in self.rows[self.group.views[0].id][name] for part in kept]
            shape = len(self.group.views), sum(map(len, first)), *first[0].shape[1:]
            whole = np.empty(shape, first[0].dtype)
            for view, there in zip(self.group.views, whole, strict=True):
                begin = 0
                for kept in filter(None, self.rows[view.id][name]):
                    end = begin + sum(map(len, kept))
                    there[begin:end] = np.concatenate(kept)
                    kept[:], begin = [there[begin:end]], end
            self._all[name] = whole
        return self._all[name]

    def part_of_images(self) -> npt.NDArray[np.intp]:
        """For every image in the order of `all_rows`, the part that it is left out with."""
        if self.by_group:
            return self._groups()
        return np.repeat(np.arange(self.blocks), self.images.astype(int))


def _joined(parts: list[Array]) -> Array:
    """Rows one behind the other, in place of their parts."""
    parts[:] = [np.concatenate(parts)]
    return parts[0]


def estimate(statistics: Statistics, frame: xr.Dataset) -> xr.Dataset:
    """Fill a group's frame: values, intervals, replicates, and the reasons for what is undefined."""
    group, kind = statistics.group, statistics.group.kind
    arrays = statistics.arrays()
    totals = statistics.totals()
    images = statistics.parts()
    several = int((images > 0).sum()) > 1
    values = kind.estimate(totals, group.x.sites)
    replicates = _replicates(statistics, arrays) if several else {}
    result = frame.copy()
    for name, value in kind.values(paired=group.paired).items():
        variable = frame[name]
        found = np.asarray(values[name], np.float64)
        if value.example:
            result[name] = variable.copy(data=found)
            continue
        each = np.moveaxis(replicates[name], 1, 0) if several else np.empty((0, *variable.shape))
        if found.shape != variable.shape or each.shape[1:] != variable.shape:
            raise ValueError(f"`{group.path}` gave {name} of shape {found.shape}, not {variable.shape}")
        if not value.interval:
            each = np.full_like(each, np.nan)
        scale = scale_of(variable.attrs)
        low, high = interval(found, each, images if several else np.empty(0), scale)
        units = {"units": variable.attrs["units"]}
        line = kind.line_seen(name, totals, group.x.sites)
        seen = {"baseline_line": line[0], "baseline_label": line[1]} if line else {}
        result[name] = variable.copy(data=found).assign_attrs(seen)
        result[f"{name}_low"] = xr.Variable(variable.dims, low, units)
        result[f"{name}_high"] = xr.Variable(variable.dims, high, units)
        result[f"{name}_replicates"] = xr.Variable(("replicate", *variable.dims), each, units)
    result.attrs["left_out"] = images if several else [float(images.sum())]
    result.attrs["undefined"] = json.dumps(_undefined(group, totals))
    return result


def _replicates(statistics: Statistics, arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Estimates without each part, `[condition, part, ...]`; one by one where rows are kept."""
    group = statistics.group
    degrees = group.kind.degrees
    left_out = {name: _without_each(array, degrees.get(name, 1)) for name, array in arrays.items()}
    rows, parts = statistics.all_rows(), len(statistics.parts())
    for name, array in statistics.examples().items():
        left_out[name] = np.repeat(array[:, None], parts if rows else 1, 1)
    if not rows:
        return group.kind.estimate(left_out, group.x.sites)
    part = statistics.part_of_images()
    kept = [np.flatnonzero(part != one) for one in range(parts)]
    each = list(group.kind.estimate_each(left_out, rows, kept, group.x.sites))
    return {name: np.stack([one[name] for one in each], 1) for name in each[0]}


def _without_each(array: Array, degree: int) -> Array:
    """Sums over the axis of parts without each of them, `[condition, part, ...]`.

    Added up rather than taken from the total, which would lose the small parts beside a large one. A term of degree 2
    joins two images, and is half in the part of either: what a part takes with it is twice its sum, to first order.
    """
    nothing = np.zeros_like(array[:, :1])
    before = np.concatenate([nothing, array.cumsum(1)[:, :-1]], 1)
    after = np.concatenate([array[:, ::-1].cumsum(1)[:, -2::-1], nothing], 1)
    rest = before + after
    return np.asarray(rest if degree == 1 else rest - (degree - 1) * array)


def _undefined(group: Group, totals: Mapping[str, Array]) -> list[str]:
    """Each reason once, with the conditions that it holds under."""
    under: dict[str, list[str]] = {}
    for position, view in enumerate(group.views):
        one = {name: array[position] for name, array in totals.items()}
        for reason in group.kind.undefined(one, group.x.sites, group.y.sites):
            under.setdefault(reason, []).append(view.id)
    return [f"under {_views_in_words(views, len(group.views))}: {reason}" for reason, views in under.items()]


def _views_in_words(views: list[str], of: int) -> str:
    if len(views) == of > 1:
        return "every condition"
    more = len(views) - 1
    return f"`{views[0]}`" + (f" and {more} other condition{'s' if more > 1 else ''}" if more else "")
