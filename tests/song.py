"""Minibatch CKA as it is written down: Song's unbiased HSIC of whole Gram matrices, float64, one pair at a time."""

from collections.abc import Sequence

import numpy as np

from vitdsl.runtime.metrics._base import Array


def hsic(x: Array, y: Array) -> float:
    """Song et al. 2012 of features `[image, feature]`, times n (n - 3): what batches add up."""
    n = len(x)
    if n < 4:
        return 0.0
    k, l = ((one - one.mean(0)) @ (one - one.mean(0)).T for one in (x, y))  # noqa: E741
    np.fill_diagonal(k, 0.0)
    np.fill_diagonal(l, 0.0)
    ones = np.ones(n)
    joint = ones @ k @ ones * (ones @ l @ ones) / ((n - 1) * (n - 2))
    return float(np.trace(k @ l) + joint - 2 / (n - 2) * (ones @ k @ l @ ones))


def cka(x: Array, y: Array, batch: int) -> float:
    """Of all images in batches of so many: a ratio of sums."""
    cuts = [slice(start, start + batch) for start in range(0, len(x), batch)]

    def total(one: Array, other: Array) -> float:
        return sum(hsic(one[cut], other[cut]) for cut in cuts)

    below = total(x, x) * total(y, y)
    return total(x, y) / float(np.sqrt(below)) if below > 0 else float("nan")


def matrix(xs: Sequence[Array], ys: Sequence[Array], batch: int) -> Array:
    """CKA of every one of x with every one of y."""
    return np.array([[cka(x, y, batch) for y in ys] for x in xs])
