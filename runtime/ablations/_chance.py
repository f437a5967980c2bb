"""Choices by chance that hang on a seed, and where wanted on an image's own pixels, and on nothing else.

All in 64-bit integers, so that they are the same on every machine and however images are cut into batches. Does not
own what is chosen.
"""

import torch
from torch import Tensor

LOW = {shift: (1 << (64 - shift)) - 1 for shift in (27, 30, 31)}


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value


STEP, FIRST, SECOND = (_signed(one) for one in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


def scattered(numbers: Tensor) -> Tensor:
    """The finalising step of SplitMix64: int64 numbers, each to one that looks drawn."""
    mixed = numbers + STEP
    mixed = (mixed ^ (mixed >> 30 & LOW[30])) * FIRST
    mixed = (mixed ^ (mixed >> 27 & LOW[27])) * SECOND
    return mixed ^ (mixed >> 31 & LOW[31])


def fingerprint(images: Tensor) -> Tensor:
    """One int64 number `[image]` of each image's pixels `[image, ...]`, bit by bit."""
    bits = (images.detach().float() + 0.0).contiguous().view(torch.int32).flatten(1).long()
    places = torch.arange(bits.shape[1], device=bits.device)
    return scattered(bits ^ scattered(places)).sum(1)


def orders(prints: Tensor, count: int, seed: int) -> Tensor:
    """For each number `[image]` the numbers below `count` in an order by chance, `[image, count]`."""
    start = scattered(scattered(torch.full_like(prints, seed)) ^ prints)
    return scattered(start[:, None] + torch.arange(count, device=prints.device)).argsort(dim=1, stable=True)


def order(count: int, seed: int, device: torch.device) -> Tensor:
    """The numbers below `count` in one order by chance, `[1, count]`."""
    return orders(torch.zeros(1, dtype=torch.int64, device=device), count, seed)
