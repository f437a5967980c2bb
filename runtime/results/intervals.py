"""Intervals from leave-one-image-block-out estimates: the delete-a-group jackknife. Free of torch.

Images are what is resampled; the interval speaks of other images of the same kind, not of other trainings.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

LEVEL = 0.95
Array = npt.NDArray[np.float64]


def jackknife(estimate: Array, replicates: Array, sizes: Array) -> tuple[Array, Array]:
    """A 95 % interval about an estimate.

    The jackknife for groups of unequal size (Busing, Meijer and van der Leeden 1999), with Student's t for as
    many degrees of freedom as there are image blocks less one.

    Args:
        estimate: From all images, any shape.
        replicates: `[block, ...]`, each without one image block.
        sizes: `[block]`, images in each block; one without images does not count.

    Returns:
        Lower and upper end, as `estimate`; NaN for fewer than two blocks.
    """
    seen = sizes > 0
    blocks = int(seen.sum())
    if blocks < 2:
        nothing = np.full(np.shape(estimate), np.nan)
        return nothing, nothing.copy()
    replicates, sizes = replicates[seen], sizes[seen]
    total = sizes.sum()
    h = (total / sizes).reshape(-1, *[1] * np.ndim(estimate))
    pseudo = h * estimate - (h - 1) * replicates
    center = blocks * estimate - ((1 - 1 / h) * replicates).sum(0)
    variance = ((pseudo - center) ** 2 / (h - 1)).sum(0) / blocks
    reach = stats.t.ppf(0.5 + LEVEL / 2, blocks - 1) * np.sqrt(variance)
    return np.asarray(estimate - reach), np.asarray(estimate + reach)


def interval(estimate: float, replicates: Any, sizes: Any) -> tuple[float, float]:
    """`jackknife` for one number."""
    low, high = jackknife(np.asarray(estimate), np.asarray(replicates, float), np.asarray(sizes, float))
    return float(low), float(high)
