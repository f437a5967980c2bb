"""Processes that share a run: which image blocks are whose, and waiting for one another.

Under `torchrun` every process is a rank of one group; a job array names its shards itself and waits for nobody. Both
deal whole image blocks, so that any number of processes gives the same sums: what a block gave is read from the
store, whoever wrote it. Nothing else is exchanged, and the store is on a disk that all of them see.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import distributed

PATIENCE = timedelta(days=7)
"""How long a rank waits for the others: as long as a block store may take to fill. One that fails ends all."""


@dataclass(frozen=True)
class Ranks:
    """One of several processes.

    Attributes:
        rank: Its number, from 0; the first one leads: it estimates and writes.
        size: How many there are.
        shard: Whether it is a shard of a job array, which waits for nobody and estimates nothing.
    """

    rank: int = 0
    size: int = 1
    shard: bool = False

    @property
    def leads(self) -> bool:
        """Whether it estimates and writes."""
        return self.rank == 0 and not self.shard

    def mine(self, blocks: Sequence[int]) -> list[int]:
        """The blocks that this process computes, dealt in turn."""
        return list(blocks[self.rank :: self.size])

    def wait(self) -> None:
        """Wait until every rank has come here."""
        if self.size > 1 and not self.shard:
            distributed.barrier()


ALONE = Ranks()


def launched() -> tuple[int, int]:
    """Rank and number of processes, as `torchrun` says them in the environment; (0, 1) without it."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return 0, 1
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


@contextmanager
def together() -> Iterator[Ranks]:
    """This process as a rank of those that `torchrun` started; alone where it started none."""
    rank, size = launched()
    if size == 1:
        yield Ranks()
        return
    distributed.init_process_group("gloo", timeout=PATIENCE)
    try:
        yield Ranks(rank, size)
        distributed.barrier()
    finally:
        distributed.destroy_process_group()


def own_device(device: torch.device) -> torch.device:
    """The device of this rank on its node: `cuda` becomes `cuda:1` for the second rank."""
    local = os.environ.get("LOCAL_RANK")
    if device.type == "cuda" and device.index is None and local is not None:
        return torch.device("cuda", int(local) % torch.cuda.device_count())
    return device
