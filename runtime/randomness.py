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
    gpu = device if device is not None and device.type == "cuda" else None
    kept = random.getstate(), np.random.get_state(), torch.get_rng_state()
    kept_gpu = None if gpu is None else torch.cuda.get_rng_state(gpu)
    try:
        random.seed(seed)
        np.random.set_state(_legacy(seed).get_state())
        torch.default_generator.manual_seed(seed)
        if gpu is not None:
            with torch.cuda.device(gpu):
                torch.cuda.manual_seed(seed)
        yield
    finally:
        random.setstate(kept[0])
        np.random.set_state(kept[1])
        torch.set_rng_state(kept[2])
        if gpu is not None and kept_gpu is not None:
            torch.cuda.set_rng_state(kept_gpu, gpu)


def _legacy(seed: int) -> np.random.RandomState:
    return np.random.RandomState(np.random.MT19937(np.random.SeedSequence(seed)))
