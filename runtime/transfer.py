"""Numbers on their way between the host and the device that computes, neither of which waits for the other.

A tensor made of Python's numbers between two batches costs a copy to the device, and the copy waits for all that the
device has still to do; so does one that is fetched. So what a site or the fields of a kind decide is made once and
kept, what differs from batch to batch is sent without waiting, and what is kept of images comes when it comes. Does
not own what is computed, or when it is read.
"""

from collections.abc import Callable, Hashable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

KEPT = 256
"""So many are kept; those that were asked for least recently are made again."""


@lru_cache(KEPT)
def held(
    make: Callable[..., Tensor],
    *args: Hashable,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
) -> Tensor:
    """What a function gives for some arguments, made once for each device; nobody may write over it.

    Args:
        make: A pure function.
        args: Its arguments.
        device: Where the tensor is wanted.
        dtype: In what; None for what it is made in.
    """
    with torch.inference_mode(False):
        return make(*args).to(device, dtype)


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """A host's tensor on a device, which does not make the host wait; the tensor itself must stay as it is."""
    if device.type == "cuda" and torch.cuda.is_available():
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


def brought(tensor: Tensor) -> npt.NDArray[Any]:
    """A device's tensor as the host's array: its numbers are there once the device is done (`done`)."""
    if tensor.device.type != "cuda":
        return np.asarray(tensor.cpu())
    there = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    return np.asarray(there.copy_(tensor, non_blocking=True))


def done() -> None:
    """Wait until the device has done all that it was told."""
    cuda: Any = torch.cuda
    if cuda.is_initialized():
        cuda.current_stream().synchronize()


def places(tensor: Tensor, axis: int, chosen: Sequence[int]) -> Tensor:
    """Some places of an axis in the order given, negative ones from the end; a view where they follow one another."""
    size = tensor.shape[axis]
    indices = tuple(index % size for index in chosen)
    if indices == tuple(range(indices[0], indices[0] + len(indices))):
        return tensor.narrow(axis, indices[0], len(indices))
    return tensor.index_select(axis, held(torch.tensor, indices, device=tensor.device))


def members(size: int, chosen: tuple[int, ...]) -> Tensor:
    """Which of so many places are chosen, `[place]` (bool); negative ones count from the end."""
    found = torch.zeros(size, dtype=torch.bool)
    found[list(chosen)] = True
    return found
