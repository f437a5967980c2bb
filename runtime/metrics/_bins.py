"""Bins of a logarithm: counts in them add up over images, and give quantiles, medians and MADs to about one bin.

Values are taken to be evenly spread over the logarithm within their bin. Does not own what is counted (`token_norms`).
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vitdsl.runtime.metrics._base import Array

LOWEST, HIGHEST = -3, 6
"""Powers of ten between which values have bins."""
HALVINGS = 64


@dataclass(frozen=True)
class Bins:
    """Bins of equal width in the logarithm; one more below all (for zero too), and one above all.

    A position is a logarithm in units of bins: 0 at the lower end of the first bin with both ends.
    """

    per_decade: int

    @property
    def inner(self) -> int:
        """Bins that have both ends."""
        return (HIGHEST - LOWEST) * self.per_decade

    def summed(self, weights: Tensor, values: Tensor) -> Tensor:
        """Sums of weights by the bin of their value, `[batch, value]` to `[batch, bin]`; values are no NaN."""
        at = ((values.log10() - LOWEST) * self.per_decade).nan_to_num(0.0).clamp(-1, self.inner)
        found = weights.new_zeros(len(weights), self.inner + 2)
        return found.scatter_add_(1, at.floor().to(torch.int64) + 1, weights)

    def position(self, value: float) -> float:
        """The position of a value."""
        return float((np.log10(value) - LOWEST) * self.per_decade)

    def norm(self, position: Array) -> Array:
        """The value at a position."""
        return np.asarray(10.0 ** (LOWEST + position / self.per_decade))

    def quantile(self, counts: Array, share: float) -> Array:
        """The smallest position up to which a share of counts `[..., bin]` lies; NaN in an end bin, or of nothing."""
        reached = counts.cumsum(-1)
        target = share * reached[..., -1:]
        bin_ = np.minimum((reached < target).sum(-1, keepdims=True), counts.shape[-1] - 1)
        here, upto = (np.take_along_axis(one, bin_, -1) for one in (counts, reached))
        with np.errstate(divide="ignore", invalid="ignore"):
            position = bin_ - 1 + (target - (upto - here)) / here
        inside = (bin_ >= 1) & (bin_ <= self.inner) & (target > 0)
        return np.asarray(np.where(inside, position, np.nan)[..., 0])

    def split(self, counts: Array, position: Array) -> Array:
        """What of counts `[..., bin]` lies below and above a position, `[..., (below, above)]`."""
        reached = counts.cumsum(-1)
        at = np.clip(position + 1, 0.0, counts.shape[-1])[..., None]
        bin_ = np.clip(np.nan_to_num(np.floor(at)), 0, counts.shape[-1] - 1).astype(np.intp)
        bin_ = np.broadcast_to(bin_, (*counts.shape[:-1], 1))
        here, upto = (np.take_along_axis(one, bin_, -1) for one in (counts, reached))
        below = upto - here * (bin_ + 1 - at)
        return np.concatenate([below, reached[..., -1:] - below], -1)

    def above_median(self, counts: Array, times: float) -> Array:
        """Median + so many median absolute deviations, both of the logarithm, as a position; NaN if end bins matter."""
        median = self.quantile(counts, 0.5)
        half = counts.cumsum(-1)[..., -1] / 2
        low, high = np.zeros_like(median), np.full_like(median, counts.shape[-1])
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            within = self.split(counts, median + middle)[..., 0] - self.split(counts, median - middle)[..., 0]
            low, high = np.where(within < half, middle, low), np.where(within < half, high, middle)
        limit = median + times * high
        lost = ((median - high < 0) & (counts[..., 0] > 0)) | ((limit > self.inner) & (counts[..., -1] > 0))
        return np.where(lost, np.nan, limit)
