"""How what a quantity keeps becomes one number: mean, slope, rank correlation, place of the extreme. Free of torch.

Owns `take` and `along`, and which takes are smooth in the images. Does not own what is kept (`select`), or intervals
(`intervals`, `bands`).
"""

from dataclasses import replace

import numpy as np
import xarray as xr

from vitdsl.dsl.study import Quantity
from vitdsl.runtime.results.bands import rank_correlation
from vitdsl.runtime.results.intervals import PLAIN, Scale, scale_of
from vitdsl.runtime.results.select import QuantityProblem

ALONG = ("slope", "spearman", "argmin", "argmax")
ENDS = ("first", "last")
UNITLESS = ("spearman", "argmin", "argmax")


def units_of(quantity: Quantity, array: xr.DataArray) -> str:
    """The unit of what is taken of an array."""
    return "1" if quantity.take in UNITLESS else str(array.attrs.get("units", "1"))


def scale_after(quantity: Quantity, array: xr.DataArray, count: int) -> Scale:
    """The scale of what is taken of so many numbers of an array."""
    scale = scale_of(array.attrs)
    if quantity.take == "spearman":
        return Scale(-1.0, 1.0)
    if quantity.take not in ("mean", "median", "first", "last", "min", "max"):
        return PLAIN
    if count == 1:
        return scale
    return replace(scale, count=False, share=scale.share and quantity.take in ("mean", *ENDS))


def goes_along(quantity: Quantity) -> bool:
    """Whether it is taken along a coordinate."""
    return quantity.take in ALONG or (quantity.take in ENDS and quantity.along is not None)


def along_of(quantity: Quantity, data: xr.Dataset) -> str:
    """The coordinate along which a quantity goes.

    Raises:
        QuantityProblem: There is no such coordinate, or it has no numbers.
    """
    if quantity.along is not None:
        names = [quantity.along]
    else:
        swept = data.sizes.get("condition", 1) > 1
        names = (["ablated_depth"] if swept else []) + ["depth", "depth_x", "ablated_depth"]
    numeric = [str(name) for name, coord in data.coords.items() if np.issubdtype(coord.dtype, np.number)]
    for name in names:
        if name in numeric and (quantity.along is not None or np.isfinite(data[name].values).any()):
            return name
    raise QuantityProblem(
        ("along",),
        f"`{names[0]}` is not a numeric coordinate of metric `{quantity.metric}`",
        (f"there are: {', '.join(numeric) or 'none'}",),
    )


def cells(
    quantity: Quantity, left: list[xr.Dataset], arrays: list[xr.DataArray]
) -> tuple[np.ndarray, np.ndarray]:
    """The numbers that one is taken of, and where they stand.

    Args:
        quantity: What to take.
        left: The groups.
        arrays: Of each group, the values to take it of; of all, or none, for each replicate (the first axis).

    Returns:
        Where they stand along the quantity's coordinate `[n]`, and the numbers `[n]` or `[replicate, n]`.
    """
    lead = [dim for dim in ("replicate",) if dim in arrays[0].dims]
    if not goes_along(quantity):
        flat = []
        for array in arrays:
            values = array.transpose(*lead, *(dim for dim in array.dims if dim not in lead)).values
            flat.append(values.reshape(*values.shape[: len(lead)], -1))
        found = np.concatenate(flat, -1)
        return np.arange(found.shape[-1], dtype=float), found
    xs, ys = [], []
    for data, array in zip(left, arrays, strict=True):
        name = along_of(quantity, data)
        dims = list(data[name].dims)
        mean = array.mean([dim for dim in array.dims if dim not in (*dims, *lead)], skipna=False)
        values = mean.transpose(*lead, *dims).values
        ys.append(values if dims else values[..., None])
        xs.append(np.atleast_1d(np.asarray(data[name].values, float)))
    x, y = np.concatenate(xs), np.concatenate(ys, -1)
    return x[~np.isnan(x)], y[..., ~np.isnan(x)]


def taken(quantity: Quantity, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """One number of `cells`, or one for each replicate (the first axis)."""
    return _along(quantity.take, x, y) if goes_along(quantity) else _reduce(quantity.take, y)


def _reduce(take: str, values: np.ndarray) -> np.ndarray:
    if take == "spread":
        return np.asarray(values.max(-1) - values.min(-1))
    if take in ENDS:
        return np.asarray(values[..., 0 if take == "first" else -1])
    return np.asarray(getattr(np, take)(values, -1))


def _along(take: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Slope, rank correlation, place of the extreme, or end of `y [..., n]` over `x [n]`."""
    if not x.size:
        return np.full(y.shape[:-1], np.nan)
    if take in ENDS:
        return np.asarray(y[..., x == (x.min() if take == "first" else x.max())].mean(-1))
    if take in ("argmin", "argmax"):
        if np.isnan(y).any():
            return np.full(y.shape[:-1], np.nan)
        return np.asarray(x[(np.argmin if take == "argmin" else np.argmax)(y, -1)])
    if take == "spearman":
        return rank_correlation(x, y)
    dx, dy = x - x.mean(), y - y.mean(-1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray((dx * dy).sum(-1) / (dx * dx).sum())
