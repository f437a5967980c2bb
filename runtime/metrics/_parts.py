"""A batch in parts that stay in a cache, and in the widest float that its device has.

Sums in float64 of what a model gives in float32 take a copy of it: the copies of one part are written over by those of
the next. Does not own what is computed of a part (the metrics).
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from vitdsl.runtime.metrics._gram import accumulator

AT_ONCE = 1 << 19
"""Numbers of a part on the CPU: with fewer, computing threads wait for one another more than they compute."""
AT_ONCE_CUDA = 1 << 25
"""Numbers of a part on a GPU, where only memory sets a limit."""


def images_at_once(tensor: Tensor) -> int:
    """How many images `[batch, ...]` a part has."""
    return max(1, most_at_once(tensor) // max(1, tensor[0].numel()))


def most_at_once(tensor: Tensor) -> int:
    """How many numbers a part has where one image does not have more."""
    return AT_ONCE_CUDA if tensor.is_cuda else AT_ONCE


def widened(*tensors: Tensor) -> Iterator[tuple[Sequence[Tensor], list[Tensor]]]:
    """A few images of each, and contiguous copies in the widest float; those may be changed, and hold until the next.

    Args:
        tensors: `[batch, ...]`, of one shape.
    """
    step = images_at_once(tensors[0])
    room: list[Tensor] = []
    for parts in zip(*(torch.split(one, step) for one in tensors), strict=True):
        if not room:
            exact = accumulator(parts[0].device)
            room = [torch.empty(part.shape, dtype=exact, device=part.device) for part in parts]
        yield parts, [wide[: len(part)].copy_(part) for wide, part in zip(room, parts, strict=True)]
