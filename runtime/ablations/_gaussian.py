"""Gaussian numbers that hang on a key and a position alone, whatever is drawn beside them, on any device.

The 64-bit numbers of SplitMix64 (Steele et al. 2014) behind a key, two of which become two Gaussians (Box and Muller
1958). Does not own where 64-bit numbers come from (`_chance`), or whose noise it is (`noise`).
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from vitdsl.runtime.ablations._chance import STEP, scattered
from vitdsl.runtime.metrics._gram import accumulator

USED = 53
"""Bits of each number that are used: those of a float64."""


def standard(keys: Tensor, *, shape: Sequence[int], seed: int) -> Tensor:
    """Standard Gaussian noise `[key, *shape]` from int64 keys `[key]`, float64 (float32 on mps).

    Key by key, so that no more than one image's integers are in memory.
    """
    starts = scattered(scattered(torch.full_like(keys, seed)) ^ keys)
    return torch.stack([_gaussians(start, math.prod(shape)).view(*shape) for start in starts])


def numbers(start: Tensor, count: int) -> Tensor:
    """So many 64-bit numbers of SplitMix64 from a start `[]`."""
    return scattered(start + torch.arange(count, device=start.device) * STEP)


def _gaussians(start: Tensor, count: int) -> Tensor:
    exact, half = accumulator(start.device), (count + 1) // 2
    bits = numbers(start, 2 * half) >> (64 - USED) & (1 << USED) - 1
    uniform = (bits.to(exact) + 0.5) / 2**USED
    radius, angle = (-2 * uniform[:half].log()).sqrt(), 2 * math.pi * uniform[half:]
    return torch.cat([radius * angle.cos(), radius * angle.sin()])[:count]
