"""Processes that share a run: which share is whose, waiting for one another, and whose error is said.

Under `torchrun` every process is a rank of one group; a job array names its shards itself and waits for nobody. Both
deal whole image blocks, so that any number of processes gives the same sums: what a block gave is read from the
store, whoever wrote it. Only training exchanges more (`train/sharing`). torch is imported where there are several
processes, so that a wrong study of one process is told at once.
"""

import hashlib
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

from vitdsl.dsl.diagnostics import VitdslError

if TYPE_CHECKING:
    import torch
    from torch.distributed.distributed_c10d import Store

T = TypeVar("T")

PATIENCE = timedelta(days=7)
"""How long a rank waits for the others: as long as a block store may take to fill. One that fails ends all."""
ALIKE_SECONDS = 2.0
"""How long a rank that failed looks whether one before it says the same."""
ENDED_SECONDS = 20.0
"""How long a rank that has nothing to say waits for `torchrun` to end it, as it does once one has failed."""


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

    @property
    def team(self) -> "Ranks":
        """Those that it can meet: a shard meets nobody."""
        return ALONE if self.shard else self

    def mine(self, items: Sequence[T]) -> list[T]:
        """Those of blocks, or of a batch's rows, that are this process's, dealt in turn."""
        return list(items[self.rank :: self.size])

    def wait(self) -> None:
        """Wait until every rank has come here."""
        if self.team.size > 1:
            from torch import distributed

            distributed.barrier()

    @contextmanager
    def leader_first(self) -> Iterator[None]:
        """What is inside is done by the one that leads, and by the others after it: they find its downloads."""
        if not self.leads:
            self.wait()
        yield
        if self.leads:
            self.wait()

    def told(self, value: T) -> T:
        """What the one that leads has for a value."""
        if self.team.size == 1:
            return value
        from torch import distributed

        box = [value]
        distributed.broadcast_object_list(box, src=0)
        return box[0]

    def gathered(self, value: T) -> list[T]:
        """The values of all ranks, in their order."""
        if self.team.size == 1:
            return [value]
        from torch import distributed

        values = [value] * self.size
        distributed.all_gather_object(values, value)
        return values


ALONE = Ranks()


def launched() -> tuple[int, int]:
    """Rank and number of processes, as `torchrun` says them in the environment; (0, 1) without it."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return 0, 1
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


@contextmanager
def together() -> Iterator[Ranks]:
    """This process as a rank of those that `torchrun` started; alone where it started none.

    An error that several ranks have alike is raised by the lowest of them; the others end without a word. Another is
    raised with the number of its rank.
    """
    rank, size = launched()
    if size == 1:
        yield ALONE
        return
    from torch import distributed
    from torch.distributed.distributed_c10d import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    store, _, _ = next(rendezvous("env://", rank, size))
    distributed.init_process_group(
        "gloo", store=PrefixStore("ranks", store), rank=rank, world_size=size, timeout=PATIENCE
    )
    try:
        yield Ranks(rank, size)
        distributed.barrier()
    except Exception as error:
        if _another_says(error, rank, PrefixStore("errors", store)):
            time.sleep(ENDED_SECONDS)
            raise SystemExit(getattr(error, "exit_code", 1)) from None
        if rank == 0:
            raise
        raise _numbered(error, rank) from error.__cause__
    finally:
        distributed.destroy_process_group()


def _another_says(error: Exception, rank: int, notes: "Store") -> bool:
    """Whether another rank says this error, or one that this error follows from.

    A rank that waits for one that ended has an error of its own, which is not worth a word; only the first that fails
    can have one. What a user can cause (`VitdslError`) never follows from another rank.
    """
    text = hashlib.sha256(str(error).encode()).hexdigest()
    try:
        first = notes.add("failed", 1) == 1
        notes.set(f"{rank}/{text}", "")
        until = time.monotonic() + ALIKE_SECONDS
        while rank and time.monotonic() < until:
            if any(notes.check([f"{lower}/{text}"]) for lower in range(rank)):
                return True
            time.sleep(0.05)
    except RuntimeError:  # the node with the notes is gone
        return False
    return not first and not isinstance(error, VitdslError)


def _numbered(error: Exception, rank: int) -> Exception:
    """An error with the number of its rank."""
    if isinstance(error, VitdslError):
        return type(error)(replace(one, message=f"rank {rank}: {one.message}") for one in error.diagnostics)
    sys.stderr.write(f"rank {rank}: ")
    return error


def own_device(device: "torch.device") -> "torch.device":
    """The device of this rank on its node: `cuda` becomes `cuda:1` for the second rank."""
    local = os.environ.get("LOCAL_RANK")
    if device.type == "cuda" and device.index is None and local is not None:
        import torch

        return torch.device("cuda", int(local) % torch.cuda.device_count())
    return device
