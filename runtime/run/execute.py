"""One pass over one image stream: every model's merged graph on every batch, every metric's sums.

Each batch is decoded once and put through each model once; what the taps reduce is observed at once and added, so that
memory does not grow with the number of images. Does not own trust checks (`trust`) or labels (`plan`).
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from vitdsl.dsl.diagnostics import Diagnostic, EnvironmentProblem
from vitdsl.runtime.data.stream import Batch, Stream
from vitdsl.runtime.metrics._base import Reads, Seen
from vitdsl.runtime.plan.lanes import taps_of
from vitdsl.runtime.plan.plan import Group, Plan, View
from vitdsl.runtime.progress import Progress
from vitdsl.runtime.run.compile import Compiled
from vitdsl.runtime.run.statistics import Statistics

DTYPES = {"float32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass
class Pass:
    """What a pass over one stream has seen and summed."""

    stream: Stream
    statistics: dict[str, Statistics]
    seconds: float = 0.0
    forward_seconds: dict[str, float] = field(default_factory=dict)


class Runner:
    """Runs the compiled models of one stream batch by batch."""

    def __init__(
        self,
        plan: Plan,
        models: Mapping[str, Compiled],
        groups: Sequence[Group],
        device: torch.device,
        dtype: str,
    ) -> None:
        self.plan, self.models, self.groups = plan, models, groups
        self.device, self.dtype = device, dtype
        self.taps = {
            (group.path, side): taps_of(models[reading.model].sites, reading, group)
            for group in groups
            for side, reading in (("x", group.x), ("y", group.y))
        }

    def forward(self, model: str, images: Tensor) -> tuple[tuple[Tensor, ...], ...]:
        """All taps of a model on a batch `[batch, channel, row, col]`."""
        with computing(self.device, self.dtype):
            found: tuple[tuple[Tensor, ...], ...] = self.models[model].merged.module(images)
        if self.device.type == "mps":
            found = tuple(tuple(tensor.cpu() for tensor in one) for one in found)
        return found

    def on_device(self, batch: Batch) -> dict[str, Tensor]:
        """The batch's images for each model, on the device; shared where preprocessings are equal."""
        moved: dict[int, Tensor] = {}
        for image in batch.images.values():
            if id(image) not in moved:
                moved[id(image)] = image.to(self.device, non_blocking=True)
        return {name: moved[id(image)] for name, image in batch.images.items()}

    def reads(
        self, group: Group, side: str, lane: str, found: Mapping[str, tuple[tuple[Tensor, ...], ...]]
    ) -> Reads:
        """What a group reads on one side under one condition."""
        reading = group.x if side == "x" else group.y
        slots = self.models[reading.model].merged.slots
        return [found[reading.model][slots[lane, tap]] for tap in self.taps[group.path, side]]

    def observe(
        self,
        batch: Batch,
        found: Mapping[str, tuple[tuple[Tensor, ...], ...]],
        into: Mapping[str, Statistics],
    ) -> None:
        """Add one batch to the sums of every group."""
        labels = None if batch.labels is None else batch.labels.to(self.device)
        if labels is not None and self.device.type == "mps":
            labels = batch.labels
        for group in self.groups:
            statistics = into[group.path]
            statistics.images[batch.block] += len(batch.rows)
            for view in group.views:
                observed = group.kind.observe(self._seen(group, view, batch, labels, found))
                statistics.add(view.id, batch.block, observed)

    def _seen(
        self,
        group: Group,
        view: View,
        batch: Batch,
        labels: Tensor | None,
        found: Mapping[str, tuple[tuple[Tensor, ...], ...]],
    ) -> Seen:
        """What a group sees of a batch under one view."""
        x = self.reads(group, "x", view.x, found)
        labels = labels if group.kind.labels else None
        if group.kind.inputs.of == "models":
            return Seen(x, intact=self.reads(group, "y", view.y, found), labels=labels, rows=batch.rows)
        same = group.y is group.x and view.y == view.x and not group.paired
        y = x if same else self.reads(group, "y", view.y, found)
        return Seen(x, y, labels=labels, rows=batch.rows, paired=group.paired)


def run_pass(
    runner: Runner,
    stream: Stream,
    *,
    first: Callable[[Batch, Mapping[str, Tensor], Mapping[str, tuple[tuple[Tensor, ...], ...]]], None],
    progress: Progress,
) -> Pass:
    """Walk a stream once.

    Args:
        runner: The compiled models and the groups.
        stream: The images.
        first: Called with the first batch and what the models gave; the trust checks.
        progress: Told of every batch.

    Raises:
        EnvironmentProblem: An image is unreadable (VD402); out of memory (VD409).
    """
    result = Pass(stream, {group.path: Statistics(group, stream.image_blocks) for group in runner.groups})
    result.forward_seconds = dict.fromkeys(runner.models, 0.0)
    started = time.perf_counter()
    with memory_errors(runner.plan, runner.groups, runner.device), torch.inference_mode():
        for batch in _told(stream, progress):
            images = runner.on_device(batch)
            found = {}
            for name in runner.models:
                begun = time.perf_counter()
                found[name] = runner.forward(name, images[name])
                result.forward_seconds[name] += time.perf_counter() - begun
            if batch.index == 0:
                first(batch, images, found)
            runner.observe(batch, found, result.statistics)
    result.seconds = time.perf_counter() - started
    return result


def _told(stream: Stream, progress: Progress) -> Iterator[Batch]:
    for batch in stream:
        yield batch
        progress.step(len(batch.rows))


@contextmanager
def computing(device: torch.device, dtype: str) -> Iterator[None]:
    """No gradients, float32 products exact, autocast where asked for."""
    low = DTYPES[dtype]
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.inference_mode(), torch.autocast(device.type, dtype=low, enabled=low is not None):
            yield
    finally:
        torch.set_float32_matmul_precision(before)


@contextmanager
def memory_errors(plan: Plan, groups: Sequence[Group], device: torch.device) -> Iterator[None]:
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
