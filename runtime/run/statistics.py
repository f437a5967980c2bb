"""Sums over images, kept for each image block, and what is estimated from them.

Statistics add: any split of the images into batches, shards or runs merges to the same sums. Keeping them for
each image block gives an interval for every number by leaving one block out at a time. Sums are float64.
"""

import json
from collections.abc import Mapping
from typing import Generic

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from vitdsl.runtime.metrics._base import Array
from vitdsl.runtime.plan.plan import Group, Kind
from vitdsl.runtime.results.intervals import jackknife


class Statistics(Generic[Kind]):
    """The sums of one group: for each view and name, `[block, ...]`; and rows, for each block `[image, ...]`."""

    def __init__(self, group: Group[Kind], blocks: int) -> None:
        self.group, self.blocks = group, blocks
        self.sums: dict[str, dict[str, Tensor]] = {}
        self.rows: dict[str, dict[str, list[list[Array]]]] = {}
        self.images = np.zeros(blocks)

    def add(self, view: str, block: int, observed: Mapping[str, Tensor]) -> None:
        """Add what one batch gave under one condition."""
        sums = self.sums.setdefault(view, {})
        for name, value in observed.items():
            if value.device.type == "mps":
                value = value.cpu()
            value = value.double()
            if name in self.group.kind.rows:
                kept = self.rows.setdefault(view, {}).setdefault(name, [[] for _ in range(self.blocks)])
                kept[block].append(value.cpu().numpy())
                continue
            if name not in sums:
                sums[name] = torch.zeros(self.blocks, *value.shape, dtype=torch.float64, device=value.device)
            sums[name][block] += value

    def of_block(self, view: str, block: int) -> dict[str, Array]:
        """What one image block gave under one condition: sums, and its images' rows one behind the other."""
        found = {name: value[block].cpu().numpy() for name, value in self.sums.get(view, {}).items()}
        rows = {name: np.concatenate(kept[block]) for name, kept in self.rows.get(view, {}).items()}
        return found | rows

    def put(self, view: str, block: int, images: int, arrays: Mapping[str, Array]) -> None:
        """Take over what `of_block` gave; sums that are there already are replaced."""
        self.images[block] = images
        for name, value in arrays.items():
            if name in self.group.kind.rows:
                kept = self.rows.setdefault(view, {}).setdefault(name, [[] for _ in range(self.blocks)])
                kept[block] = [value]
            else:
                sums = self.sums.setdefault(view, {})
                if name not in sums:
                    sums[name] = torch.zeros(self.blocks, *value.shape, dtype=torch.float64)
                sums[name][block] = torch.from_numpy(np.asarray(value))

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
        self.images = self.images + other.images

    def arrays(self) -> dict[str, Array]:
        """By name, `[condition, block, ...]`, conditions in the order of the group's views.

        Raises:
            ValueError: No image was seen, so there is nothing to estimate from.
        """
        if not (self.sums or self.rows) or not self.images.sum() > 0:
            raise ValueError(f"`{self.group.path}` has seen no images")
        names = next(iter(self.sums.values()), {})
        return {
            name: np.stack([self.sums[view.id][name].cpu().numpy() for view in self.group.views])
            for name in names
        }

    def rows_without(self, block: int | None) -> dict[str, Array]:
        """Rows by name, `[condition, image, ...]`, in the order of the images; without those of one image block."""
        names = next(iter(self.rows.values()), {})
        kept = [i for i in range(self.blocks) if i != block]
        return {
            name: np.stack(
                [
                    np.concatenate([part for i in kept for part in self.rows[view.id][name][i]])
                    for view in self.group.views
                ]
            )
            for name in names
        }


def estimate(statistics: Statistics, frame: xr.Dataset) -> xr.Dataset:
    """Fill a group's frame: values, intervals, replicates, and the reasons for what is undefined."""
    group, kind = statistics.group, statistics.group.kind
    arrays = statistics.arrays()
    totals = {name: array.sum(1) for name, array in arrays.items()} | statistics.rows_without(None)
    several = statistics.blocks > 1
    values = kind.estimate(totals, group.x.sites)
    replicates = _replicates(statistics, arrays) if several else {}
    result = frame.copy()
    for name in kind.values(paired=group.paired):
        variable = frame[name]
        found = np.asarray(values[name], np.float64)
        each = np.moveaxis(replicates[name], 1, 0) if several else np.empty((0, *variable.shape))
        if found.shape != variable.shape or each.shape[1:] != variable.shape:
            raise ValueError(f"`{group.path}` gave {name} of shape {found.shape}, not {variable.shape}")
        low, high = jackknife(found, each, statistics.images if several else np.empty(0))
        units = {"units": variable.attrs["units"]}
        result[name] = variable.copy(data=found)
        result[f"{name}_low"] = xr.Variable(variable.dims, low, units)
        result[f"{name}_high"] = xr.Variable(variable.dims, high, units)
        result[f"{name}_replicates"] = xr.Variable(("replicate", *variable.dims), each, units)
    result.attrs["block_images"] = statistics.images if several else [float(statistics.images.sum())]
    result.attrs["undefined"] = json.dumps(_undefined(group, totals))
    return result


def _replicates(statistics: Statistics, arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Estimates without each image block, `[condition, block, ...]`; one by one where rows are kept."""
    group = statistics.group
    left_out = {name: _without_each(array) for name, array in arrays.items()}
    if not group.kind.rows:
        return group.kind.estimate(left_out, group.x.sites)
    each = [
        group.kind.estimate(
            {name: array[:, block] for name, array in left_out.items()} | statistics.rows_without(block),
            group.x.sites,
        )
        for block in range(statistics.blocks)
    ]
    return {name: np.stack([one[name] for one in each], 1) for name in each[0]}


def _without_each(array: Array) -> Array:
    """Sums over the axis of image blocks without each of them, `[condition, block, ...]`.

    Added up rather than taken from the total, which would lose the small blocks beside a large one.
    """
    nothing = np.zeros_like(array[:, :1])
    before = np.concatenate([nothing, array.cumsum(1)[:, :-1]], 1)
    after = np.concatenate([array[:, ::-1].cumsum(1)[:, -2::-1], nothing], 1)
    return np.asarray(before + after)


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
