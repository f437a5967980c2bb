"""Full memory in a run: what a user is told.

Does not own how it is told from other errors (`runtime.full`), or what is tried before (`walk`).
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from vitdsl.dsl.diagnostics import Diagnostic
from vitdsl.runtime.full import telling
from vitdsl.runtime.plan.plan import Group, Plan


@contextmanager
def memory_errors(plan: Plan, groups: Sequence[Group[Any]], device: torch.device) -> Iterator[None]:
    """Out of memory in a pass over images becomes an error at their `batch`."""
    batches = sorted({plan.data[group.data].batch for group in groups})
    data, half = groups[0].data, max(4, batches[0] // 2)
    problem = Diagnostic(
        "VD409",
        f"out of memory on {device} with batches of {', '.join(map(str, batches))} images",
        help=(
            f"take smaller batches: `--set data.{data}.batch={half}`"
            if half < batches[0]
            else "take fewer layers, or a larger device",
            "`vitdsl plan` prints an estimate of the memory",
        ),
        about=(("batch",), ("source",)),
    )
    with telling(plan.loaded.source.placed(problem, ("data", data.partition("[")[0]))):
        yield


@contextmanager
def estimate_errors(plan: Plan, group: Group[Any]) -> Iterator[None]:
    """Out of memory where a group is estimated becomes an error at its metric."""
    problem = Diagnostic(
        "VD409",
        f"out of memory where `{group.path}` is estimated",
        help=(
            "take fewer layers or conditions, or close other programs",
            "run the same command again: what was computed of images is kept",
        ),
        about=(("kind",),),
    )
    with telling(plan.loaded.source.placed(problem, ("metrics", group.metric))):
        yield
