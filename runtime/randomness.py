"""Random numbers that disturb nobody: code under a seed of its own, after which all is as before."""

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def seed_of(*parts: int | str) -> int:
    """A 63-bit seed that depends on every part, the same on every machine."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "big") >> 1


def permutation(n: int, seed: int) -> list[int]:
    """The numbers below `n`, shuffled; the order is fixed by NumPy's promise for `RandomState`."""
    return [int(i) for i in _legacy(seed).permutation(n)]


@contextmanager
def isolated(seed: int, device: torch.device | None = None) -> Iterator[None]:
    """Seed torch, NumPy and `random` inside; give each its former state back afterwards.

    Args:
        seed: The seed of all three.
        device: A CUDA device whose generator is used as well.
    """
    cuda = device is not None and device.type == "cuda"
    kept = random.getstate(), np.random.get_state(), torch.get_rng_state()
    kept_cuda = torch.cuda.get_rng_state(device) if cuda else None
    try:
        random.seed(seed)
        np.random.set_state(_legacy(seed).get_state())
        torch.default_generator.manual_seed(seed)
        if cuda:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield
    finally:
        random.setstate(kept[0])
        np.random.set_state(kept[1])
        torch.set_rng_state(kept[2])
        if kept_cuda is not None:
            torch.cuda.set_rng_state(kept_cuda, device)


def _legacy(seed: int) -> np.random.RandomState:
    return np.random.RandomState(np.random.MT19937(np.random.SeedSequence(seed)))
