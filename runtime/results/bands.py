"""Numbers that a choice among several gave: the largest, the smallest, their spread, where the extreme stands.

Whoever picks the largest of many numbers picks luck as well, and leaving images out does not show it: the same one
stays the largest. Here all numbers get intervals that hold at once (Sidak), and the place of the extreme becomes the
set of places that are not clearly beaten (Hsu 1984, multiple comparisons with the best). A rank correlation is a choice
of an order, and gets the orders that such intervals allow. Free of torch. Does not own intervals of one number
(`intervals`).
"""

from typing import Any

import numpy as np

from vitdsl.runtime.results.intervals import LEVEL, PLAIN, Array, Scale, interval

SELECTING = ("max", "min", "spread", "argmax", "argmin")


def together(level: float, count: int) -> float:
    """The level at which each of so many intervals must be for all to hold at once (Sidak 1967)."""
    return float(level ** (1 / max(count, 1)))


def selected(
    take: str, x: Array, values: Array, replicates: Array, sizes: Array, scale: Scale, level: float = LEVEL
) -> tuple[float, float]:
    """The interval of an extreme, of the spread, or of the place of an extreme.

    Args:
        take: One of `SELECTING`.
        x: `[n]`, where the numbers stand; counts for places alone.
        values: `[n]`, the numbers.
        replicates: `[part, n]`, each without one part of the images.
        sizes: `[part]`, images in each part.
        scale: What each of the numbers is.
        level: How often it holds the truth.
    """
    if take in ("argmax", "argmin"):
        places = x[not_beaten(values, replicates, sizes, scale, level, lowest=take == "argmin")]
        return (float(places.min()), float(places.max())) if places.size else (np.nan, np.nan)
    low, high = interval(values, replicates, sizes, scale, together(level, len(values)))
    if take == "spread":
        return max(0.0, float(low.max() - high.min())), float(high.max() - low.min())
    pick = np.max if take == "max" else np.min
    return float(pick(low)), float(pick(high))


def not_beaten(
    values: Array,
    replicates: Array,
    sizes: Array,
    scale: Scale,
    level: float = LEVEL,
    *,
    lowest: bool = False,
) -> np.ndarray:
    """Which numbers may be the extreme: those that the best does not beat at this level, `[n]`.

    Each is compared with the best on the same images, at a level that holds for all comparisons at once.
    """
    sign = -1.0 if lowest else 1.0
    best = int(np.argmax(sign * values))
    lead = sign * (values[best] - values)
    leads = sign * (replicates[:, [best]] - replicates)
    low, _ = interval(lead, leads, sizes, difference_of(scale), together(level, max(len(values) - 1, 1)))
    found = ~(low > 0)
    found[best] = True
    return np.asarray(found)


def difference_of(scale: Scale) -> Scale:
    """The scale of the difference of two numbers of one scale."""
    if not scale.share or scale.low is None or scale.high is None:
        return PLAIN
    width = scale.high - scale.low
    return Scale(-width, width, share=True)


def ranked(
    x: Array, values: Array, replicates: Array, sizes: Array, scale: Scale, level: float = LEVEL
) -> tuple[float, float]:
    """The interval of the rank correlation of numbers with where they stand.

    The most and the least ordered that the numbers can be inside intervals that hold for all of them at once: where the
    images do not tell the order of neighbours, neither does the interval.
    """
    low, high = interval(values, replicates, sizes, scale, together(level, len(values)))
    if np.isnan(low).any() or np.isnan(high).any():
        return np.nan, np.nan
    found = [float(rank_correlation(x, values))]
    for sign in (1.0, -1.0):
        order = np.argsort(sign * x, kind="stable")
        for inside in (
            _rising(low[order], high[order]),
            -_rising(-high[order][::-1], -low[order][::-1])[::-1],
        ):
            found.append(float(rank_correlation(x[order], inside)))
    return min(found), max(found)


def _rising(low: Array, high: Array) -> Array:
    """Numbers between two ends that rise wherever they can, each as small as the ones before it allow."""
    least = np.maximum.accumulate(low)
    found = np.minimum(least, high)
    step = 1e-9 * max(float(high.max() - low.min()), 1e-300)
    return np.asarray(np.where(found < high, np.minimum(found + step * np.arange(len(low)), high), found))


def rank_correlation(x: Array, y: Any) -> Array:
    """Spearman's correlation of `x [n]` with each of `y [..., n]`; NaN where one of y is NaN, or all are equal."""
    from scipy.stats import rankdata

    y = np.asarray(y, float)
    ranks_x, ranks = rankdata(x), rankdata(y, axis=-1)
    dx, dy = ranks_x - ranks_x.mean(), ranks - ranks.mean(-1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        found = (dx * dy).sum(-1) / np.sqrt((dx * dx).sum() * (dy * dy).sum(-1))
    return np.asarray(np.where(np.isnan(y).any(-1), np.nan, found))
