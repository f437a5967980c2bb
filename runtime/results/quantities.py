"""Quantities: one number out of a metric's results, the way a claim names it. Free of torch.

`where` keeps coordinates: a value, a list, a range `{from:, to:}`, or, for names, selectors. Where it says
nothing of conditions, values that compare with the intact model (`drop`, drift) are taken over all ablations,
and all others at the baseline. `take` then makes one number of what is left, over a coordinate, or over a
swept field (`along: train.fraction`), of which every model's results have one value.

`argmin`, `argmax`, `spearman`, `min`, `max` and `median` do not move smoothly with the images: where no image block
changes which place is the extreme, the interval has no width, which says less than it seems to.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from scipy import stats

from vitdsl.dsl.selectors import SelectorError, match
from vitdsl.dsl.study import BASELINE, Quantity, Range
from vitdsl.dsl.text import did_you_mean, ticked

ALONG = ("slope", "spearman", "argmin", "argmax")
ENDS = ("first", "last")
UNITLESS = ("spearman", "argmin", "argmax")
MODEL_KEYS = ("model", "model_x", "model_y")


class QuantityProblem(Exception):
    """A quantity names something that the results do not have.

    Attributes:
        path: The field of the quantity.
        message: What is wrong.
        help: What there is.
        key: Whether it is the field's name that is wrong, and not its value.
    """

    def __init__(
        self, path: tuple[str | int, ...], message: str, help: tuple[str, ...] = (), *, key: bool = False
    ) -> None:
        super().__init__(message)
        self.path, self.message, self.help, self.key = path, message, help, key


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
class Reading:
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
    """What is left of the metric's groups.

    Raises:
        QuantityProblem: There is no such value, coordinate or label.
    """
    candidates = [data for path, data in groups.items() if path.partition("/")[0] == quantity.metric]
    values = dict.fromkeys(
        str(name) for data in candidates for name, v in data.data_vars.items() if "relative" in v.attrs
    )
    if quantity.value not in values:
        raise QuantityProblem(
            ("value",),
            f"metric `{quantity.metric}` has no value `{quantity.value}`",
            (did_you_mean(quantity.value, list(values)), f"it has: {', '.join(values)}"),
        )
    keys = dict.fromkeys(
        key for data in candidates for key in [*MODEL_KEYS, *data.coords, *data.attrs] if _has(data, str(key))
    )
    for key in quantity.where:
        if key not in keys:
            raise QuantityProblem(
                ("where", key),
                f"results of metric `{quantity.metric}` have no coordinate `{key}`",
                (did_you_mean(key, [str(k) for k in keys]), f"they have: {', '.join(_told(keys))}"),
                key=True,
            )
    left = candidates
    for key, wanted in quantity.where.items():
        labels = list(dict.fromkeys(label for data in left for label in _labels(data, key)))
        for index, one in enumerate(wanted) if isinstance(wanted, (list, tuple)) else [(None, wanted)]:
            if all(_keep(data, key, one) is None for data in left):
                place = ("where", key) if index is None else ("where", key, index)
                also = "" if len(quantity.where) == 1 else " with what the other coordinates keep"
                hint = did_you_mean(one, [str(label) for label in labels]) if isinstance(one, str) else ""
                raise QuantityProblem(
                    place, f"no result has `{key}: {_text(one)}`{also}", (hint, _there(labels, one))
                )
        left = [kept for data in left if (kept := _keep(data, key, wanted)) is not None]
    if not any(key.startswith(("condition", "ablat")) for key in quantity.where):
        left = [kept for data in left if (kept := _default_conditions(data, quantity.value)) is not None]
        if not left:
            raise QuantityProblem(
                ("value",),
                f"`{quantity.value}` compares conditions with the intact model, and there is no ablation here",
                ("add an ablation of this model, or take another value",),
            )
    if _goes_along(quantity):
        for data in left:
            along_of(quantity, data)
    return left


def read(quantity: Quantity, groups: Mapping[str, xr.Dataset]) -> Reading:
    """Evaluate a quantity on results."""
    left = select(quantity, groups)
    arrays = [data[quantity.value] for data in left]
    cells = np.concatenate([array.values.ravel() for array in arrays])
    return Reading(
        float(_take(quantity, left, arrays)),
        {stream: _left_out(quantity, left, stream) for stream in dict.fromkeys(map(_stream, left))},
        _units(quantity, arrays[0]),
        cells.size,
        int(np.isnan(cells).sum()),
    )


def _left_out(quantity: Quantity, left: list[xr.Dataset], stream: str) -> LeftOut:
    """The quantity without each image block of a stream; what comes from other streams stays as it is."""
    name = f"{quantity.value}_replicates"
    first = next(data for data in left if _stream(data) == stream)
    sizes = np.atleast_1d(np.asarray(first.attrs.get("block_images", []), float))
    blocks = first[name].sizes["replicate"] if name in first else 0
    if not blocks:
        return LeftOut(np.empty(0), sizes)
    arrays = [
        data[name] if _stream(data) == stream else data[quantity.value].expand_dims(replicate=blocks)
        for data in left
    ]
    return LeftOut(np.atleast_1d(_take(quantity, left, arrays)), sizes)


def _stream(data: xr.Dataset) -> str:
    return str(data.attrs.get("data", ""))


def _units(quantity: Quantity, array: xr.DataArray) -> str:
    return "1" if quantity.take in UNITLESS else str(array.attrs.get("units", "1"))


def _goes_along(quantity: Quantity) -> bool:
    return quantity.take in ALONG or (quantity.take in ENDS and quantity.along is not None)


def along_of(quantity: Quantity, data: xr.Dataset) -> str:
    """The coordinate along which slope, spearman, argmin and argmax go."""
    if quantity.along is not None:
        names = [quantity.along]
    else:
        swept = data.sizes.get("condition", 1) > 1
        names = (["ablated_depth"] if swept else []) + ["depth", "depth_x", "ablated_depth"]
    for name in names:
        if quantity.along is not None and _is_number(data.attrs.get(name)) and name not in data.coords:
            return name
        if name in data.coords and data[name].ndim == 1 and np.issubdtype(data[name].dtype, np.number):
            if quantity.along is not None or np.isfinite(data[name].values).any():
                return name
    numeric = [str(n) for n, c in data.coords.items() if c.ndim == 1 and np.issubdtype(c.dtype, np.number)]
    numeric += [
        str(name) for name, value in data.attrs.items() if _is_number(value) and _has(data, str(name))
    ]
    raise QuantityProblem(
        ("along",),
        f"`{names[0]}` is not a numeric coordinate of metric `{quantity.metric}`",
        (f"there are: {', '.join(n for n in numeric if n != 'replicate') or 'none'}",),
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, np.number)) and not isinstance(value, bool)


def _take(quantity: Quantity, left: list[xr.Dataset], arrays: list[xr.DataArray]) -> np.ndarray:
    """One number, or one for each replicate (the first axis), of the arrays of some groups."""
    lead = [dim for dim in ("replicate",) if dim in arrays[0].dims]
    if not _goes_along(quantity):
        flat = []
        for array in arrays:
            values = array.transpose(*lead, *(dim for dim in array.dims if dim not in lead)).values
            flat.append(values.reshape(*values.shape[: len(lead)], -1))
        return _reduce(quantity.take, np.concatenate(flat, -1))
    xs, ys = [], []
    for data, array in zip(left, arrays, strict=True):
        name = along_of(quantity, data)
        dims = list(data[name].dims) if name in data.coords else []
        mean = array.mean([dim for dim in array.dims if dim not in (*dims, *lead)], skipna=False)
        values = mean.transpose(*lead, *dims).values
        ys.append(values if dims else values[..., None])
        xs.append(np.asarray(data[name].values if dims else [data.attrs[name]], float))
    return _along(quantity.take, np.concatenate(xs), np.concatenate(ys, -1))


def _reduce(take: str, values: np.ndarray) -> np.ndarray:
    if take == "spread":
        return np.asarray(values.max(-1) - values.min(-1))
    if take in ENDS:
        return np.asarray(values[..., 0 if take == "first" else -1])
    return np.asarray(getattr(np, take)(values, -1))


def _along(take: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Slope, rank correlation, place of the extreme, or end of `y [..., n]` over `x [n]`."""
    keep = ~np.isnan(x)
    x, y = x[keep], y[..., keep]
    if not x.size:
        return np.full(y.shape[:-1], np.nan)
    if take in ENDS:
        return np.asarray(y[..., x == (x.min() if take == "first" else x.max())].mean(-1))
    if take in ("argmin", "argmax"):
        if np.isnan(y).any():
            return np.full(y.shape[:-1], np.nan)
        return np.asarray(x[(np.argmin if take == "argmin" else np.argmax)(y, -1)])
    if take == "spearman":
        x, y = stats.rankdata(x), np.apply_along_axis(_ranks, -1, y)
    dx, dy = x - x.mean(), y - y.mean(-1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        slope = (dx * dy).sum(-1) / (dx * dx).sum()
        if take == "slope":
            return np.asarray(slope)
        return np.asarray((dx * dy).sum(-1) / np.sqrt((dx * dx).sum() * (dy * dy).sum(-1)))


def _ranks(values: np.ndarray) -> np.ndarray:
    return np.full(values.shape, np.nan) if np.isnan(values).any() else np.asarray(stats.rankdata(values))


def _keep(data: xr.Dataset, key: str, wanted: Any) -> xr.Dataset | None:
    """The part of a group whose coordinate is wanted; None where nothing is."""
    labels = _labels(data, key)
    kept = [_is_wanted(label, wanted, labels) for label in labels]
    if key not in data.coords:
        return data if any(kept) else None
    if not any(kept):
        return None
    coord = data[key]
    return data.isel({coord.dims[0]: np.flatnonzero(kept)}) if coord.ndim else data


def _is_wanted(label: Any, wanted: Any, labels: list[Any]) -> bool:
    if isinstance(wanted, Range):
        if isinstance(label, str) or np.isnan(label):
            return False
        return (wanted.from_ is None or label >= wanted.from_ - 1e-9) and (
            wanted.to is None or label <= wanted.to + 1e-9
        )
    if isinstance(wanted, (list, tuple)):
        return any(_is_wanted(label, one, labels) for one in wanted)
    if isinstance(wanted, str):
        if str(label) == wanted or str(label).partition("[")[0] == wanted:
            return True
        return any(mark in wanted for mark in "*?[{") and _selects(wanted, str(label), labels)
    if isinstance(label, str):
        return label == str(wanted)
    if isinstance(wanted, bool):
        return False
    return bool(np.isclose(float(label), float(wanted), rtol=1e-9, atol=1e-9))


def _selects(wanted: str, label: str, labels: list[Any]) -> bool:
    """Whether a selector picks a label; of a condition `name@site`, its site among those of the name."""
    head, at, wanted_site = wanted.partition("@")
    names = [str(one) for one in labels]
    if at:
        prefix, _, label = label.partition("@")
        if prefix != head:
            return False
        names = [name.partition("@")[2] for name in names if name.startswith(f"{head}@")]
        wanted = wanted_site
    try:
        return label in match([wanted], names)
    except SelectorError:
        return False


def _default_conditions(data: xr.Dataset, value: str) -> xr.Dataset | None:
    if "condition" not in data.dims:
        return data
    intact = data["condition"].values == BASELINE
    kept = ~intact if data[value].attrs.get("relative") else intact
    if not kept.any():
        kept = ~kept if not data[value].attrs.get("relative") else kept
    return data.isel(condition=np.flatnonzero(kept)) if kept.any() else None


def only_intact(data: xr.Dataset, value: str) -> bool:
    """Whether a value that compares with the intact model is left at the intact model alone."""
    relative = data[value].attrs.get("relative") and "condition" in data.dims
    return bool(relative) and bool((data["condition"].values == BASELINE).all())


def _labels(data: xr.Dataset, key: str) -> list[Any]:
    if key in data.coords:
        return list(np.atleast_1d(data[key].values).tolist())
    if key == "model" and "model" not in data.attrs:
        return [data.attrs[name] for name in ("model_x", "model_y") if name in data.attrs]
    return [data.attrs[key]] if key in data.attrs else []


def _has(data: xr.Dataset, key: str) -> bool:
    fixed = ("metric", "kind", "kind_version", "paired", "title", "block_images", "undefined")
    return key != "replicate" and key not in fixed and bool(_labels(data, key))


def _told(keys: Mapping[Any, Any]) -> list[str]:
    return [str(key) for key in keys]


def _text(wanted: Any) -> str:
    if isinstance(wanted, Range):
        ends = {"from": wanted.from_, "to": wanted.to}
        return "{" + ", ".join(f"{end}: {value:g}" for end, value in ends.items() if value is not None) + "}"
    return str(wanted)


def _there(labels: list[Any], wanted: Any) -> str:
    """The labels that there are, or their reach where they are numbers."""
    numbers = [label for label in labels if _is_number(label) and not np.isnan(label)]
    if isinstance(wanted, Range):
        if not numbers:
            return f"a range is for numbers; there are {ticked([one for one in labels if one != ''])}"
        return f"they go from {min(numbers):g} to {max(numbers):g}"
    if numbers:
        return f"there are {ticked([f'{number:g}' for number in sorted(numbers)])}"
    return f"there are {ticked([one for one in labels if one != ''])}"
