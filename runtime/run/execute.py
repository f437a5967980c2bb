"""One walk over image blocks of one stream: every model's merged graph on every batch, every group's sums.

Each batch is decoded once and put through each model once; what the taps reduce is observed at once and added, so that
memory does not grow with the number of images. Does not own which blocks are walked (`saved`), trust checks (`trust`)
or labels (`plan`).
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from vitdsl.dsl.diagnostics import Diagnostic, EnvironmentProblem
from vitdsl.runtime.data.stream import Batch, Stream
from vitdsl.runtime.metrics._base import Array, Observer, Reads
from vitdsl.runtime.plan.lanes import taps_of
from vitdsl.runtime.plan.plan import Group, Plan
from vitdsl.runtime.progress import Progress
from vitdsl.runtime.rounding import AUTOCAST, products_in
from vitdsl.runtime.run.compile import Compiled
from vitdsl.runtime.run.layout import channels_last, lay_out
from vitdsl.runtime.run.seen import seen_under
from vitdsl.runtime.run.statistics import Statistics
from vitdsl.runtime.transfer import sent


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


Known = Callable[[Group[Observer], str], Reads]
"""The constants of a group's own fit for each of its sites, under one of its views."""


def no_fits(group: Group[Observer], view: str) -> Reads:
    """Of groups that are not fitted: nothing is known."""
    return ()


class Runner:
    """Runs the compiled models of one stream batch by batch."""

    def __init__(
        self,
        plan: Plan,
        models: Mapping[str, Compiled],
        groups: Sequence[Group[Observer]],
        device: torch.device,
        dtype: str,
        known: Known = no_fits,
    ) -> None:
        self.plan, self.models, self.groups, self.known = plan, models, groups, known
        self.device, self.dtype = device, dtype
        self.gradients = any(group.kind.gradients for group in groups)
        for compiled in models.values():
            lay_out(compiled, channels_last(compiled.sites, device))
        self.taps = {
            (group.path, side): taps_of(models[reading.model].sites, reading, group)
            for group in groups
            for side, reading in (("x", group.x), ("y", group.y))
        }

    def forward(self, model: str, images: Tensor) -> tuple[tuple[Tensor, ...], ...]:
        """All taps of a model on a batch `[batch, channel, row, col]`."""
        compiled = self.models[model]
        try:
            found = self._forward(compiled, images)
        except RuntimeError:
            if not compiled.channels_last:
                raise
            lay_out(compiled, False)  # a program may take views that need another layout
            found = self._forward(compiled, images)
        if self.gradients:
            found = tuple(tuple(tensor.detach() for tensor in one) for one in found)
        if self.device.type == "mps":
            found = tuple(tuple(tensor.cpu() for tensor in one) for one in found)
        return found

    def _forward(self, compiled: Compiled, images: Tensor) -> tuple[tuple[Tensor, ...], ...]:
        if compiled.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        if self.gradients:
            images = images.detach().requires_grad_()
        with computing(self.device, self.dtype, gradients=self.gradients):
            found: tuple[tuple[Tensor, ...], ...] = compiled.merged.module(images)
        return found

    def on_device(self, batch: Batch) -> dict[str, Tensor]:
        """The batch's images for each model, on the device; shared where preprocessings are equal."""
        moved: dict[int, Tensor] = {}
        for image in batch.images.values():
            if id(image) not in moved:
                moved[id(image)] = image.to(self.device, non_blocking=True)
        return {name: moved[id(image)] for name, image in batch.images.items()}

    def reads(
        self,
        group: Group[Observer],
        side: str,
        lane: str,
        found: Mapping[str, tuple[tuple[Tensor, ...], ...]],
    ) -> Reads:
        """What a group reads on one side under one condition."""
        reading = group.x if side == "x" else group.y
        slots = self.models[reading.model].merged.slots
        return [found[reading.model][slots[lane, tap]] for tap in self.taps[group.path, side]]

    def observe(
        self,
        batch: Batch,
        found: Mapping[str, tuple[tuple[Tensor, ...], ...]],
        into: Mapping[str, Statistics[Observer]],
        block: int,
    ) -> None:
        """Add one batch to the sums of every group, in one of their image blocks."""
        where = at_home(self.device)
        labels, nth = (None if one is None else sent(one, where) for one in (batch.labels, batch.nth))
        answers = {"labels": labels, "nth": nth, "classes": batch.classes}
        with products_in("float32"):
            for group in self.groups:
                statistics = into[group.path]
                statistics.saw(block, batch.rows)
                for view in group.views:
                    reads = partial(self.reads, group, found=found)
                    seen = seen_under(view, group, reads, batch.rows, self.known(group, view.id), answers)
                    statistics.add(view.id, block, group.kind.observe(seen))


First = Callable[[Batch, Mapping[str, Tensor], Mapping[str, tuple[tuple[Tensor, ...], ...]]], None]


def walk(
    runner: Runner,
    stream: Stream,
    blocks: Sequence[int],
    *,
    first: First,
    progress: Progress,
    seconds: dict[str, float] | None = None,
) -> Iterator[Computed]:
    """Walk over some image blocks, and give what each of them gave as soon as it is done.

    Args:
        runner: The compiled models and the groups.
        stream: The images.
        blocks: Which image blocks, in the order in which they are walked.
        first: Called with the first batch and what the models gave; the trust checks.
        progress: Told of every batch.
        seconds: Takes the seconds of each model's forward passes.

    Raises:
        EnvironmentProblem: An image is unreadable (VD402); out of memory (VD409).
    """
    wanted = [(block, batch) for block in blocks for batch in stream.batches_of(block)]
    last = {block: batch for block, batch in wanted}
    fresh = _nothing_yet(runner, 1)
    begun = False
    with memory_errors(runner.plan, runner.groups, runner.device):
        for batch in stream.read(batch for _, batch in wanted):
            with _exact(runner.gradients):
                images = runner.on_device(batch)
                found = {}
                for name in runner.models:
                    started = time.perf_counter()
                    found[name] = runner.forward(name, images[name])
                    if seconds is not None:
                        seconds[name] += time.perf_counter() - started
                if not begun:
                    first(batch, images, found)
                    begun = True
                runner.observe(batch, found, fresh, 0)
                del found
            progress.step(len(batch.rows))
            if batch.index == last[batch.block]:
                yield _computed(batch.block, fresh)
                fresh = _nothing_yet(runner, 1)


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


def at_home(device: torch.device) -> torch.device:
    """Where what a graph gave is observed: on the device, but on the host for mps, which has no float64."""
    return torch.device("cpu") if device.type == "mps" else device


@contextmanager
def _exact(gradients: bool) -> Iterator[None]:
    """Nothing is remembered for gradients, unless they are taken."""
    with torch.enable_grad() if gradients else torch.inference_mode():
        yield


@contextmanager
def computing(device: torch.device, dtype: str, *, gradients: bool = False) -> Iterator[None]:
    """No gradients unless asked for, float32 products in float32 or as asked for, autocast where asked for."""
    low = AUTOCAST[dtype]
    autocast = torch.autocast(device.type, dtype=low, enabled=low is not None)
    with _exact(gradients), products_in(dtype), autocast:
        yield


@contextmanager
def memory_errors(plan: Plan, groups: Sequence[Group[Any]], device: torch.device) -> Iterator[None]:
    """Out of memory becomes an error that says what to do."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if not _is_memory(error):
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
                    else "take fewer layers or conditions, or a larger device",
                    "`vitdsl plan` prints an estimate of the memory",
                ),
            )
        ) from error


def _is_memory(error: Exception) -> bool:
    """Whether an error is out of memory; the CPU's allocator raises a plain `RuntimeError`."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "allocate memory" in str(error)
