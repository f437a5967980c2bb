"""What each condition changes of a part's numbers: differences from the intact model on the same images.

Their intervals come from the numbers without each part of the images, so that what moves both models alike cancels.
Does not own how they are drawn (`figures`), or the jackknife (`runtime.results.intervals`).
"""

from collections.abc import Callable, Sequence

import numpy as np

from vitdsl.reports.names import BASELINE
from vitdsl.reports.parts import Array, Part
from vitdsl.runtime.results.bands import difference_of
from vitdsl.runtime.results.intervals import interval, scale_of


def compares(part: Part) -> bool:
    """Whether the part's conditions are compared with the intact model here: they are not in its numbers already."""
    return bool(part.ablated) and BASELINE in part.conditions and not (part.relative or part.paired)


def change_of(part: Part, over: Sequence[str] = (), *, size: bool = False) -> tuple[Array, Array, Array]:
    """Each condition's numbers less the intact model's, and the ends of the interval of that difference.

    Args:
        part: One for which `compares` holds.
        over: Dimensions to take the mean over, of what is defined.
        size: Take the mean of sizes rather than of differences, which may cancel; such have no intervals.

    Returns:
        Three arrays `[condition, ...]` without those dimensions; ends are NaN where none can be told: without
        numbers for parts of the images, and for means over trainings.
    """
    reduced = differing(part, over, size=size)
    change = reduced(np.asarray(part.array.values, np.float64))
    without = None if size or "trainings" in part.dataset.attrs else part.replicates
    if without is None:
        return change, np.full_like(change, np.nan), np.full_like(change, np.nan)
    scale = difference_of(scale_of(part.dataset[part.value].attrs))
    return change, *interval(change, reduced(without), part.left_out, scale)


def differing(part: Part, over: Sequence[str], *, size: bool) -> Callable[[Array], Array]:
    """From a part's numbers, or those without each part of the images, to what `change_of` tells of them."""
    axes = tuple(list(part.array.dims).index(dim) - part.array.ndim for dim in over)
    intact = part.conditions.index(BASELINE)

    def reduced(values: Array) -> Array:
        found = values - np.take(values, [intact], values.ndim - part.array.ndim)
        return _mean(np.abs(found) if size else found, axes)

    return reduced


def _mean(values: Array, axes: tuple[int, ...]) -> Array:
    if not axes:
        return values
    counts = np.isfinite(values).sum(axes)
    return np.where(counts > 0, np.nansum(values, axis=axes) / np.maximum(counts, 1), np.nan)
