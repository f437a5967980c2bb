"""A CUDA device that is not there: tensors have shapes and a device, and no numbers.

What would stop on such a device stops here as well: numbers of the host beside those of the device, and what depends on
values. Owns how a pass's batch goes through on it, and what of it makes the host wait. Does not own how fast it is.
"""

import copy
import traceback
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from vitdsl.runtime import transfer
from vitdsl.runtime.ablations._base import Ablation
from vitdsl.runtime.data.stream import Batch
from vitdsl.runtime.graph.site import Site
from vitdsl.runtime.metrics._base import Observer, Reads
from vitdsl.runtime.plan.passes import fit_of
from vitdsl.runtime.plan.plan import Group, Pass, Plan
from vitdsl.runtime.run import statistics
from vitdsl.runtime.run.compile import compile_model
from vitdsl.runtime.run.dry import Dry
from vitdsl.runtime.run.execute import Runner
from vitdsl.runtime.run.statistics import Statistics

CUDA = torch.device("cuda:0")
MOVES = ("aten._to_copy", "aten.copy_", "aten.to.")
READS = ("aten._local_scalar_dense", "aten.nonzero", "aten.masked_select")


class Waits(TorchDispatchMode):
    """Where a program waits for its device: by line, how often."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: Counter[str] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Count an operation that waits, before it may fail."""
        kwargs = kwargs or {}
        name = str(func)
        if name.startswith(READS):
            self.lines[_here()] += 1
        result = func(*args, **kwargs)
        if name.startswith(MOVES) and isinstance(result, Tensor):
            source = args[1] if name.startswith("aten.copy_") else args[0]
            waits = not (kwargs.get("non_blocking") or (name.startswith("aten.copy_") and True in args[2:]))
            if isinstance(source, Tensor) and source.device.type != result.device.type and waits:
                self.lines[_here()] += 1
        return result


def _here() -> str:
    own = [frame for frame in traceback.extract_stack() if "/runtime/" in frame.filename]
    return f"{own[-1].filename.rpartition('/runtime/')[2]}:{own[-1].lineno} {own[-1].line}" if own else "?"


@contextmanager
def pretended() -> Iterator[None]:
    """While it lasts, new tensors have no numbers, and there may be some on a CUDA device."""
    transfer.held.cache_clear()
    before = vars(statistics)["brought"]
    try:
        vars(statistics)["brought"] = lambda tensor: np.zeros(tensor.shape)
        with FakeTensorMode():
            yield
    finally:
        vars(statistics)["brought"] = before
        transfer.held.cache_clear()


def waits(plan: Plan, one: Pass, dry: Dry, *, batches: int = 2) -> Counter[str]:
    """What makes the host wait in the last of some batches of a pass.

    Args:
        plan: The plan.
        one: The pass.
        dry: Knows the constants of fits of the passes before, and learns those of this one.
        batches: What is made once is made in the first.
    """
    groups, names = one.groups, list(dict.fromkeys(name for group in one.groups for name in group.models))
    size = plan.data[one.data].batch
    models = {name: plan.models[name] for name in names}
    dry.work(
        groups, {name: compile_model(own, own.sites.model, groups) for name, own in models.items()}, size
    )
    with pretended():
        compiled = {
            name: compile_model(own, _on_cuda(own.sites.model), groups, _constants, over=True)
            for name, own in models.items()
        }

        def known(group: Group[Observer], view: str) -> Reads:
            fit = fit_of(group)
            return [_like(constants) for constants in dry.fitted[fit.path]] if fit else []

        runner = Runner(plan, compiled, groups, CUDA, "float32", known)
        into = {group.path: Statistics(group, 1) for group in groups}
        for nth in range(batches):
            rows = range(nth * size, (nth + 1) * size)
            images = {
                name: torch.empty(size, *own.sites.input_size, device=CUDA) for name, own in models.items()
            }
            labels = torch.empty(size, dtype=torch.long)
            classes = min(own.sites.site("", "output").shape[-1] for own in models.values())
            batch = Batch(nth, 0, images, labels, labels, classes, rows)
            with Waits() as found, torch.inference_mode():
                seen = {name: runner.forward(name, images[name]) for name in names}
                runner.observe(runner.turns[0], batch, seen, into, set())
        return found.lines


def _constants(kind: Ablation, site: Site) -> tuple[Tensor, ...]:
    fit = kind.fit()
    return () if fit is None else tuple(torch.empty(shape, device=CUDA) for shape in fit.shapes(site))


def _like(constants: Iterable[Tensor]) -> tuple[Tensor, ...]:
    return tuple(torch.empty(one.shape, dtype=one.dtype, device=CUDA) for one in constants)


def _on_cuda(model: nn.Module) -> nn.Module:
    memo: dict[int, Any] = {}
    held = [*model.parameters(), *model.buffers()]
    held += [
        value for module in model.modules() for value in vars(module).values() if isinstance(value, Tensor)
    ]
    for tensor in held:
        there = torch.empty(tensor.shape, dtype=tensor.dtype, device=CUDA)
        memo[id(tensor)] = nn.Parameter(there, False) if isinstance(tensor, nn.Parameter) else there
    return copy.deepcopy(model, memo)
