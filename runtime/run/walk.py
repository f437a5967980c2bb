"""One walk over image blocks of one stream: every model's merged graph on every batch, every group's sums.

Each batch is decoded once and put through each model once, or some of its conditions after the other (`turns`); what
the taps reduce is observed at once and added, so that memory does not grow with the number of images. Where memory is
full, half as many conditions run together, and the batch is tried again: its images are part of what is estimated, and
stay. Does not own which blocks are walked (`saved`), trust checks (`trust`) or labels (`plan`).
"""

import gc
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from vitdsl.dsl.text import counted
from vitdsl.runtime.data.stream import Batch, Stream
from vitdsl.runtime.full import is_memory
from vitdsl.runtime.metrics._base import Array
from vitdsl.runtime.progress import Progress
from vitdsl.runtime.run.execute import Gave, Runner, remembering
from vitdsl.runtime.run.full import memory_errors
from vitdsl.runtime.run.otherwise import named
from vitdsl.runtime.run.statistics import Statistics
from vitdsl.runtime.run.turns import Turn


@dataclass(frozen=True)
class Computed:
    """What a walk over one image block gave.

    Attributes:
        block: The image block.
        rows: The positions of its images in the stream.
        sums: For each group's path and view, its arrays by name.
    """

    block: int
    rows: list[int]
    sums: dict[tuple[str, str], dict[str, Array]]


@dataclass
class Walked:
    """What a walk over a whole stream has seen and summed."""

    stream: Stream
    statistics: dict[str, Statistics[Any]]
    seconds: float = 0.0
    forward_seconds: dict[str, float] = field(default_factory=dict)


First = Callable[[Batch, Mapping[str, Tensor], Mapping[str, Gave], Turn], None]
Then = Callable[[Batch, Mapping[str, Statistics[Any]]], None]


def walk(
    runner: Runner,
    stream: Stream,
    blocks: Sequence[int],
    *,
    first: First,
    then: Then | None = None,
    progress: Progress,
    seconds: dict[str, float] | None = None,
) -> Iterator[Computed]:
    """Walk over some image blocks, and give what each of them gave as soon as it is done.

    Args:
        runner: The compiled models and the groups.
        stream: The images.
        blocks: Which image blocks, in the order in which they are walked.
        first: Called with the first batch and what the models gave by the end of each turn; the trust checks.
        then: Called with the first batch and its sums, once it is whole.
        progress: Told of every batch.
        seconds: Takes the seconds of each model's forward passes.

    Raises:
        EnvironmentProblem: An image is unreadable (VD402); out of memory (VD409); a model that is read by hooks does
            something else for some images (VD507).
    """
    wanted = [(block, batch) for block in blocks for batch in stream.batches_of(block)]
    last = {block: batch for block, batch in wanted}
    fresh = _nothing_yet(runner, 1)
    begun = False
    with memory_errors(runner.plan, runner.groups, runner.device):
        for batch in stream.read(batch for _, batch in wanted):
            check = None if begun else first
            with named(runner.models, stream, batch.rows):
                run_batch(runner, batch, fresh, first=check, progress=progress, seconds=seconds)
            if then is not None and not begun:
                then(batch, fresh)
            begun = True
            for words in runner.refused():
                progress.say(words)
            progress.step(len(batch.rows))
            if batch.index == last[batch.block]:
                yield _computed(batch.block, fresh)
                fresh = _nothing_yet(runner, 1)


def run_batch(
    runner: Runner,
    batch: Batch,
    into: Mapping[str, Statistics[Any]],
    *,
    first: First | None = None,
    progress: Progress,
    seconds: dict[str, float] | None = None,
) -> None:
    """Add one batch to sums of one image block; where memory is full, with half as many conditions at a time."""
    done: set[tuple[str, str]] = set()
    while not _fits(runner, batch, into, done, first, seconds):
        gc.collect()
        if runner.device.type == "cuda":
            torch.cuda.empty_cache()
        runner.halve()
        progress.say(f"out of memory: {counted(runner.together, 'condition')} at a time from here on")
    for one in into.values():
        one.saw(0, batch.rows)


def _fits(
    runner: Runner,
    batch: Batch,
    into: Mapping[str, Statistics[Any]],
    done: set[tuple[str, str]],
    first: First | None,
    seconds: dict[str, float] | None,
) -> bool:
    """Run a batch, one turn after the other; False where memory was full and fewer conditions can run together."""
    try:
        with remembering(runner.gradients):
            images = runner.on_device(batch)
            found: dict[str, Gave] = {name: {} for name in runner.models}
            for number, turn in enumerate(runner.turns):
                for name in runner.models:
                    started = time.perf_counter()
                    found[name] = {**found[name], **runner.forward(name, images[name], number)}
                    if seconds is not None:
                        seconds[name] += time.perf_counter() - started
                if first is not None:
                    first(batch, images, found, turn)
                runner.observe(turn, batch, found, into, done)
                found = {
                    name: {at: read for at, read in gave.items() if (name, at) in turn.after}
                    for name, gave in found.items()
                }
    except (MemoryError, RuntimeError) as error:
        if not is_memory(error) or runner.together == 1:
            raise
        return False
    return True


def run_pass(runner: Runner, stream: Stream, *, first: First, progress: Progress) -> Walked:
    """Walk a whole stream once, keeping nothing beside the sums; see `walk`."""
    result = Walked(stream, _nothing_yet(runner, stream.image_blocks), 0.0, dict.fromkeys(runner.models, 0.0))
    started = time.perf_counter()
    blocks = range(stream.image_blocks)
    for done in walk(runner, stream, blocks, first=first, progress=progress, seconds=result.forward_seconds):
        for one in result.statistics.values():
            one.saw(done.block, done.rows)
        for (path, view), arrays in done.sums.items():
            result.statistics[path].put(view, done.block, arrays)
    result.seconds = time.perf_counter() - started
    return result


def _nothing_yet(runner: Runner, blocks: int) -> dict[str, Statistics[Any]]:
    return {group.path: Statistics(group, blocks) for group in runner.groups}


def _computed(block: int, fresh: Mapping[str, Statistics[Any]]) -> Computed:
    rows = next((one.positions[0] for one in fresh.values()), [])
    sums = {
        (path, view.id): statistics.of_first_block(view.id)
        for path, statistics in fresh.items()
        for view in statistics.group.views
    }
    return Computed(block, rows, sums)
