"""One pass of a study in this process, and the plain forwards of its models under the same settings."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from vitdsl.dsl.load import load_text
from vitdsl.runtime.data.stream import open_stream
from vitdsl.runtime.models import loading as models
from vitdsl.runtime.plan.bind import bind
from vitdsl.runtime.plan.plan import Plan
from vitdsl.runtime.progress import Silent
from vitdsl.runtime.run.compile import compile_model
from vitdsl.runtime.run.execute import Runner, computing
from vitdsl.runtime.run.walk import run_pass


@dataclass
class Ready:
    """A study whose only pass can be run again and again.

    Attributes:
        plan: The plan.
        runner: What runs it.
        stream: Its images, decoded before.
        modules: The plain models that it needs.
    """

    plan: Plan
    runner: Runner
    stream: Any
    modules: dict[str, torch.nn.Module]

    @property
    def images(self) -> int:
        """How many images a pass takes."""
        return int(self.stream.n)

    def ours(self) -> None:
        """The pass."""
        run_pass(self.runner, self.stream, first=lambda *_: None, progress=Silent())

    def bare(self, times: int = 1) -> None:
        """Forwards of each plain model on the same batches, in the same memory, layout and type."""
        with computing(self.runner.device, self.runner.dtype):
            for batch in self.stream.read(()):
                for name, module in self.modules.items():
                    images = batch.images[name].to(self.runner.device)
                    if self.runner.models[name].channels_last:
                        images = images.contiguous(memory_format=torch.channels_last)
                    for _ in range(times):
                        module(images)


def ready(text: str, device: torch.device, dtype: str, *, fast: bool = False) -> Ready:
    """Bind, load and compile a study of one stream, as `--fast` does or not, and decode its images."""
    loaded = load_text(text, "bench")
    plan = bind(loaded)
    used = {name for group in plan.groups for name in group.models}
    modules = {
        name: models.load(planned.entry, seed=0, folder=loaded.folder).module.to(device)
        for name, planned in plan.models.items()
        if name in used
    }
    over = dtype == "float32" and not any(group.kind.gradients for group in plan.groups)
    compiled = {
        name: compile_model(plan.models[name], module, plan.groups, over=over, folds=fast)
        for name, module in modules.items()
    }
    runner = Runner(plan, compiled, plan.groups, device, dtype)
    (data,) = plan.data
    stream = open_stream(
        plan.data[data],
        seed=0,
        folder=loaded.folder,
        transforms={name: plan.models[name].config for name in modules},
        workers=0,
    )
    batches = list(stream)
    stream.read = lambda _: iter(batches)  # type: ignore[method-assign]
    return Ready(plan, runner, stream, modules)


def timed(work: Callable[[], object]) -> float:
    """Seconds of one call."""
    begun = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - begun


@dataclass(frozen=True)
class Ratio:
    """A pass over plain forwards: median, least and largest ratio of pairs timed in turn, and seconds of both."""

    value: float
    low: float
    high: float
    ours: float
    bare: float


def ratio(one: Ready, times: int, runs: int) -> Ratio:
    """A pass over `times` plain forwards of each model, timed in turn, after one of each that does not count."""
    one.ours(), one.bare(1)
    pairs = [(timed(one.ours), timed(lambda: one.bare(times))) for _ in range(runs)]
    ratios = sorted(a / b for a, b in pairs)
    ours, bare = (statistics.median(column) for column in zip(*pairs, strict=True))
    return Ratio(statistics.median(ratios), ratios[0], ratios[-1], ours, bare)
