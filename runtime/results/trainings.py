"""Several trainings as one: groups of results that differ in nothing but the seeds of their models. Free of torch.

What a page draws of three seeds is their mean, with an interval over trainings and images together (`differences` has
the same sum for claims). Groups whose conditions or sites differ stay apart. The groups in `results.nc` stay as they
are.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from vitdsl.runtime.results.intervals import LEVEL, interval, scale_of
from vitdsl.runtime.results.quantiles import student
from vitdsl.runtime.results.quantities import seeds_of

NAMES = ("model", "model_x", "model_y")


def joined(groups: Mapping[str, xr.Dataset]) -> dict[str, xr.Dataset]:
    """The groups, those of several trainings as one, in the place of the first."""
    alike: dict[Any, list[str]] = {}
    for path, data in groups.items():
        alike.setdefault(_but_for_seeds(path, data), []).append(path)
    found = {}
    for (path, *_), paths in alike.items():
        same = [groups[one] for one in paths]
        if len(paths) > 1 and _same_labels(same):
            found[path] = _mean(same)
        else:
            found |= {one: groups[one] for one in paths}
    return found


def _but_for_seeds(path: str, data: xr.Dataset) -> tuple[Any, ...]:
    """What a group is called without its seeds, and all that sweeps say of it."""
    seeds = [str(name) for name, coord in data.coords.items() if coord.attrs.get("training")]
    if not seeds_of(data):
        return (path,)
    fields = {name.removesuffix("_x").removesuffix("_y") for name in seeds}
    metric, _, rest = path.partition("/")
    models = "~".join(without(one, fields) for one in rest.split("~"))
    others = {str(n): c.item() for n, c in data.coords.items() if not c.ndim and n not in (*seeds, *NAMES)}
    return (f"{metric}/{models}", tuple(sorted(others.items(), key=str)))


def without(name: str, fields: set[str]) -> str:
    """A variant's name without some of its fields: `vit[depth=4,seed=1]` becomes `vit[depth=4]`."""
    base, _, rest = name.partition("[")
    inside, _, behind = rest.partition("]")
    kept = [part for part in inside.split(",") if part.partition("=")[0] not in fields]
    return base + (f"[{','.join(kept)}]" if inside and kept else "") + behind


def _same_labels(groups: Sequence[xr.Dataset]) -> bool:
    first = groups[0]
    return all(
        one.sizes == first.sizes
        and set(one.data_vars) == set(first.data_vars)
        and all(
            np.array_equal(one[dim].values, first[dim].values) for dim in first.dims if dim in first.coords
        )
        for one in groups[1:]
    )


def _mean(groups: Sequence[xr.Dataset]) -> xr.Dataset:
    """The mean over trainings of every number, with intervals over trainings and images, and those of each training."""
    first, count = groups[0], len(groups)
    found = first.copy(deep=True)
    fields = {
        str(n).removesuffix("_x").removesuffix("_y")
        for n, c in first.coords.items()
        if c.attrs.get("training")
    }
    for name in NAMES:
        if name in found.coords:
            found = found.assign_coords({name: without(str(first[name].item()), fields)})
    found = found.drop_vars([name for name, coord in first.coords.items() if coord.attrs.get("training")])
    for name in map(str, first.data_vars):
        if name.endswith(("_low", "_high")):
            continue
        stacked = np.stack([one[name].values for one in groups]).astype(float)
        found[name] = found[name].copy(data=stacked.mean(0))
    for name in [name for name in map(str, first.data_vars) if f"{name}_low" in first]:
        stacked = np.stack([one[name].values for one in groups]).astype(float)
        found[f"{name}_trainings"] = (("training", *found[name].dims), stacked)
        seeds = over_trainings(stacked)
        for end, images, sign in zip(("low", "high"), _over_images(found, name), (-1, 1), strict=True):
            reach = np.hypot(images - found[name].values, seeds)
            found[f"{name}_{end}"] = found[f"{name}_{end}"].copy(data=found[name].values + sign * reach)
    found.attrs["trainings"] = count
    return found


def over_trainings(each: np.ndarray) -> np.ndarray:
    """How far the interval of a mean over trainings reaches for what they differ in; `each` is `[training, ...]`."""
    reach = student(0.5 + LEVEL / 2, len(each) - 1) * each.std(0, ddof=1) / np.sqrt(len(each))
    return np.asarray(reach)


def width_over_images(data: xr.Dataset, value: str) -> float:
    """How wide an interval over images alone is, as a share of that over trainings and images: the median; or NaN."""
    if f"{value}_low" not in data or not data.sizes.get("replicate"):
        return float("nan")
    low, high = _over_images(data, value)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = (high - low) / (data[f"{value}_high"].values - data[f"{value}_low"].values)
    known = ratio[np.isfinite(ratio)]
    return float(np.median(known)) if known.size else float("nan")


def _over_images(data: xr.Dataset, value: str) -> tuple[np.ndarray, np.ndarray]:
    without = data[f"{value}_replicates"].transpose("replicate", ...).values
    sizes = np.atleast_1d(np.asarray(data.attrs.get("left_out", []), float))
    return interval(data[value].values, without, sizes, scale_of(data[value].attrs))
