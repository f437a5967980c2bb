"""Intervals of numbers that images give: how far other images of the same kind could move them. Free of torch.

The delete-a-group jackknife with Student's t; beside it, for shares of images, what counting gives (Clopper and
Pearson 1934; Bonett and Price 2012), whose interval does not vanish where all images agree: the wider of the two ends
is taken. Numbers that are correlations are put on Fisher's z scale first, and no end leaves the range of the values.
Images are what is resampled; other trainings are not (`differences`), nor is a choice among several numbers (`bands`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from vitdsl.runtime.results.quantiles import beta, student

LEVEL = 0.95
Array = npt.NDArray[np.float64]
NEAR_ONE = 1e-9
"""On the z scale, correlations stop so far below one."""


@dataclass(frozen=True)
class Scale:
    """What an interval must know of a number.

    Attributes:
        low: The smallest that it can be, None without a bound.
        high: The largest.
        share: Whether it is a mean over images of something that lies between the two ends for each image.
        count: Whether, for each image, it is one of the two ends of 0 to 1: a count of images.
        correlation: Whether it is symmetric about 0 on Fisher's z scale.
    """

    low: float | None = None
    high: float | None = None
    share: bool = False
    count: bool = False
    correlation: bool = False


PLAIN = Scale()


def scale_of(attrs: Mapping[str, Any]) -> Scale:
    """The scale of a value, from its attributes in the results."""
    low, high = attrs.get("valid_min"), attrs.get("valid_max")
    share = str(attrs.get("share", ""))
    return Scale(low, high, bool(share), share == "images" and low == 0, attrs.get("scale") == "z")


def jackknife(
    estimate: Array, replicates: Array, sizes: Array, level: float | Array = LEVEL
) -> tuple[Array, Array]:
    """An interval about an estimate.

    The jackknife for groups of unequal size (Busing, Meijer and van der Leeden 1999), with Student's t for as many
    degrees of freedom as there are groups less one.

    Args:
        estimate: From all images, any shape.
        replicates: `[part, ...]`, each without one part of the images.
        sizes: `[part]`, images in each part; one without images does not count.
        level: How often it holds the truth.

    Returns:
        Lower and upper end, as `estimate`; NaN for fewer than two parts.
    """
    error, freedom = standard_error(estimate, replicates, sizes)
    reach = student(0.5 + level / 2, freedom) * error if freedom else error
    return np.asarray(estimate - reach), np.asarray(estimate + reach)


def standard_error(estimate: Array, replicates: Array, sizes: Array) -> tuple[Array, int]:
    """The standard error of an estimate, and its degrees of freedom; NaN and 0 for fewer than two parts."""
    estimate, seen = np.asarray(estimate, float), sizes > 0
    parts = int(seen.sum())
    if parts < 2:
        return np.full(np.shape(estimate), np.nan), 0
    replicates, sizes = replicates[seen], sizes[seen]
    h = (sizes.sum() / sizes).reshape(-1, *[1] * np.ndim(estimate))
    with np.errstate(invalid="ignore"):
        pseudo = h * estimate - (h - 1) * replicates
        center = parts * estimate - ((1 - 1 / h) * replicates).sum(0)
        variance = ((pseudo - center) ** 2 / (h - 1)).sum(0) / parts
    return np.asarray(np.sqrt(variance)), parts - 1


def interval(
    estimate: Array | float, replicates: Any, sizes: Any, scale: Scale = PLAIN, level: float | Array = LEVEL
) -> tuple[Array, Array]:
    """The interval of numbers on their scale: `jackknife`, widened and clipped as the scale asks.

    Args:
        estimate: From all images, any shape.
        replicates: `[part, ...]`, each without one part of the images.
        sizes: `[part]`, images in each part.
        scale: What the numbers are.
        level: How often the interval holds the truth; or one for each number, as `estimate`.
    """
    estimate, replicates, sizes = (np.asarray(one, float) for one in (estimate, replicates, sizes))
    if scale.correlation:
        z, others = (np.arctanh(np.clip(one, NEAR_ONE - 1, 1 - NEAR_ONE)) for one in (estimate, replicates))
        low, high = (np.tanh(end) for end in jackknife(z, others, sizes, level))
        outside = np.abs(estimate) >= 1 - NEAR_ONE
        plain = jackknife(estimate, replicates, sizes, level)
        low, high = np.where(outside, plain[0], low), np.where(outside, plain[1], high)
    else:
        low, high = jackknife(estimate, replicates, sizes, level)
    if scale.share and sizes.sum() > 0:
        error, freedom = standard_error(estimate, replicates, sizes)
        counted = (
            clopper_pearson(estimate, float(sizes.sum()), level)
            if scale.count
            else with_extremes(estimate, error, float(sizes.sum()), freedom, scale, level)
        )
        low, high = np.minimum(low, counted[0]), np.maximum(high, counted[1])
    low = low if scale.low is None else np.where(estimate < scale.low, low, np.maximum(low, scale.low))
    high = high if scale.high is None else np.where(estimate > scale.high, high, np.minimum(high, scale.high))
    return np.asarray(low), np.asarray(high)


def clopper_pearson(share: Array, images: float, level: float | Array = LEVEL) -> tuple[Array, Array]:
    """The exact interval of a share of images, 0 to 1, from how many of them there are."""
    tail = (1 - level) / 2
    hits = np.asarray(share, float) * images
    low = np.where(hits > 0, beta(tail, hits, images - hits + 1), 0.0)
    high = np.where(hits < images, beta(1 - tail, hits + 1, images - hits), 1.0)
    lost = np.isnan(hits)
    return np.where(lost, np.nan, low), np.where(lost, np.nan, high)


def with_extremes(
    mean: Array, error: Array, images: float, freedom: int, scale: Scale, level: float | Array = LEVEL
) -> tuple[Array, Array]:
    """The interval of a mean over images that lies between known ends for each, with extreme images added.

    As if images at the two ends had been seen as well: two of each for shares (Agresti and Coull 1998), one of each
    for differences of shares, where it is that of Bonett and Price (2012) for paired proportions.

    Args:
        mean: The mean over images.
        error: Its standard error.
        images: How many images.
        freedom: Degrees of freedom of the error.
        scale: The ends.
        level: How often it holds the truth.
    """
    assert scale.low is not None and scale.high is not None
    added = 2 if scale.low >= 0 else 1
    total = images + 2 * added
    squares = images * error**2 + np.square(mean)
    centre = (images * mean + added * (scale.low + scale.high)) / total
    square = (images * squares + added * (scale.low**2 + scale.high**2)) / total
    variance = np.maximum(square - centre**2, 0.0) / total
    reach = student(0.5 + level / 2, max(freedom, 1)) * np.sqrt(variance)
    return np.asarray(centre - reach), np.asarray(centre + reach)
