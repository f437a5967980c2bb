"""One pass over one image stream: every model's merged graph on every batch, every metric's sums.

Each batch is decoded once and put through each model once; what the taps reduce is observed at once and added, so that
memory does not grow with the number of images. Does not own trust checks (`trust`) or labels (`plan`).
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from vitdsl.dsl.diagnostics import Diagnostic, EnvironmentProblem
from vitdsl.dsl.study import BASELINE
from vitdsl.runtime.data.stream import Batch, Stream
from vitdsl.runtime.graph.merge import Lane, Merged, Rewrite, Tap, merge
from vitdsl.runtime.graph.sites import Sites, same_sites, sites_of
from vitdsl.runtime.metrics._base import Reads
from vitdsl.runtime.metrics._output import OUTPUT
from vitdsl.runtime.plan.plan import Condition, Edit, Group, Plan, PlannedModel, Reading, lanes_of
from vitdsl.runtime.progress import Progress
from vitdsl.runtime.run.statistics import Statistics

DTYPES = {"float32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass
class Compiled:
    """One model, ready to run on one stream.

    Attributes:
        planned: What the plan says of it.
        module: The model with its weights, on the device.
        sites: Its graph's nodes.
        merged: All its conditions in one graph.
        output: The tap of the intact model's output.
    """

    planned: PlannedModel
    module: nn.Module
    sites: Sites
    merged: Merged
    output: Tap


@dataclass
class Pass:
    """What a pass over one stream has seen and summed."""

    stream: Stream
    statistics: dict[str, Statistics]
    seconds: float = 0.0
    forward_seconds: dict[str, float] = field(default_factory=dict)


def compile_model(planned: PlannedModel, module: nn.Module, groups: Sequence[Group]) -> Compiled:
    """Merge a model's conditions into one graph with the taps of some groups.

    Args:
        planned: The model's plan.
        module: The model with its weights; stays as it is.
        groups: The groups of one stream.
    """
    skeleton = sites_of(planned.sites.model, planned.config.input_size, unfuse=planned.unfuse)
    on_meta = next(module.parameters()).is_meta
    sites = skeleton if on_meta else same_sites(module, skeleton, unfuse=planned.unfuse)
    taps: dict[str, list[Tap]] = {}
    for group in groups:
        for reading in (group.x, group.y):
            if reading.model == planned.name:
                for lane in lanes_of(group, planned.name):
                    taps.setdefault(lane, []).extend(taps_of(sites, reading, group))
    output = output_tap(planned, sites)
    taps.setdefault(BASELINE, []).append(output)
    conditions = [c for c in planned.conditions if c.id in taps]
    lanes = [Lane(c.id, edits_of(planned, c, sites)) for c in conditions]
    merged = merge(
        sites.model, sites.traced.graph, lanes, {k: list(dict.fromkeys(v)) for k, v in taps.items()}
    )
    return Compiled(planned, module, sites, merged, output)


def edits_of(planned: PlannedModel, condition: Condition, sites: Sites) -> dict[torch.fx.Node, Rewrite]:
    """What a condition replaces in a model's graph; what the model was trained without comes first."""
    edits: dict[torch.fx.Node, Rewrite] = {}
    for edit in (*planned.always, *condition.edits):
        for name in edit.units:
            unit = sites.units[name]
            edits[edit.kind.target(unit)] = _rewrite(edit, sites, name)
    return edits


def _rewrite(edit: Edit, sites: Sites, name: str) -> Rewrite:
    return lambda build: edit.kind.rewrite(sites.units[name], build)


def taps_of(sites: Sites, reading: Reading, group: Group) -> list[Tap]:
    """The taps of a reading, one for each site."""
    reducer = group.kind.reducer()
    return [
        Tap(
            tuple(
                sites.nodes[role][site.name] if site.name else sites.traced.output for role in reading.roles
            ),
            reducer,
            site,
        )
        for site in reading.sites
    ]


def output_tap(planned: PlannedModel, sites: Sites) -> Tap:
    """The tap of the model's own output."""
    site = sites.site("", "output", input_size=planned.config.input_size)
    return Tap((sites.traced.output,), OUTPUT, site)


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
                x = self.reads(group, "x", view.x, found)
                same = group.y is group.x and view.y == view.x and group.kind.takes == "layers"
                y = x if same and not group.paired else self.reads(group, "y", view.y, found)
                observed = group.kind.observe(
                    x, y, labels=labels if group.kind.labels else None, paired=group.paired
                )
                statistics.add(view.id, batch.block, observed)


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
