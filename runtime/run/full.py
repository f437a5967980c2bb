"""Out of memory: how it is told from other errors, and what a user is told.

Does not own what is tried before (`execute`).
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from vitdsl.dsl.diagnostics import Diagnostic, EnvironmentProblem
from vitdsl.runtime.plan.plan import Group, Plan


def is_memory(error: BaseException) -> bool:
    """Whether an error is out of memory; the CPU's allocator raises a plain `RuntimeError`."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or (
        isinstance(error, RuntimeError) and "allocate memory" in str(error)
    )


@contextmanager
def memory_errors(plan: Plan, groups: Sequence[Group[Any]], device: torch.device) -> Iterator[None]:
    """Out of memory becomes an error that says what to do."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if not is_memory(error):
            raise
        batches = sorted({plan.data[group.data].batch for group in groups})
        half = max(4, batches[0] // 2)
        raise EnvironmentProblem(
            Diagnostic(
                "VD409",
                f"out of memory on {device} with batches of {', '.join(map(str, batches))} images",
                help=(
                    f"take smaller batches: `--set data.{groups[0].data}.batch={half}`"
                    if half < batches[0]
                    else "take fewer layers, or a larger device",
                    "`vitdsl plan` prints an estimate of the memory",
                ),
            )
        ) from error
