"""How what a quantity keeps becomes one number: mean, slope, rank correlation, place of the extreme. Free of torch.

Owns `take` and `along`. Does not own what is kept (`select`), or intervals (`intervals`).

`argmin`, `argmax`, `spearman`, `min`, `max` and `median` do not move smoothly with the images: where no image block
changes which place is the extreme, the interval has no width, which says less than it seems to.
"""

import numpy as np
import xarray as xr
from scipy import stats

from vitdsl.dsl.study import Quantity
from vitdsl.runtime.results.select import QuantityProblem

ALONG = ("slope", "spearman", "argmin", "argmax")
ENDS = ("first", "last")
UNITLESS = ("spearman", "argmin", "argmax")


def units_of(quantity: Quantity, array: xr.DataArray) -> str:
    """The unit of what is taken of an array."""
    return "1" if quantity.take in UNITLESS else str(array.attrs.get("units", "1"))


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


def taken(quantity: Quantity, left: list[xr.Dataset], arrays: list[xr.DataArray]) -> np.ndarray:
    """One number, or one for each replicate (the first axis), of some groups.

    Args:
        quantity: What to take.
        left: The groups.
        arrays: Of each group, the values to take it of.
    """
    lead = [dim for dim in ("replicate",) if dim in arrays[0].dims]
    if not goes_along(quantity):
        flat = []
        for array in arrays:
            values = array.transpose(*lead, *(dim for dim in array.dims if dim not in lead)).values
            flat.append(values.reshape(*values.shape[: len(lead)], -1))
        return _reduce(quantity.take, np.concatenate(flat, -1))
    xs, ys = [], []
    for data, array in zip(left, arrays, strict=True):
        name = along_of(quantity, data)
        dims = list(data[name].dims)
        mean = array.mean([dim for dim in array.dims if dim not in (*dims, *lead)], skipna=False)
        values = mean.transpose(*lead, *dims).values
        ys.append(values if dims else values[..., None])
        xs.append(np.atleast_1d(np.asarray(data[name].values, float)))
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
