"""The work of one batch of a pass, told without the images.

That of a graph is told from its shapes, that of what reduces and sums from one batch of random numbers, which each
distinct reduction and each group goes through once. Owns what is counted. Does not own what an operation's work is
(`graph.work`), or how long it takes (`calibration`).
"""

from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx

from vitdsl.runtime.graph.edit import Apply
from vitdsl.runtime.graph.merge import Merged
from vitdsl.runtime.graph.propagate import OPS, PROBE, VALUE
from vitdsl.runtime.graph.tap import Reduce
from vitdsl.runtime.graph.work import Op, Work
from vitdsl.runtime.metrics._base import Fit, Observer, Reads, Seen
from vitdsl.runtime.plan.lanes import taps_of
from vitdsl.runtime.plan.passes import fit_of
from vitdsl.runtime.plan.plan import Group, View
from vitdsl.runtime.randomness import isolated
from vitdsl.runtime.run.compile import Compiled
from vitdsl.runtime.run.differentiated import Calls, Counted, backward
from vitdsl.runtime.run.seen import seen_under

LARGEST = 1 << 24
"""Numbers of a random tensor at most; where a batch has more, fewer images stand for it."""
ADDING = 4
"""Calls that add one observed tensor to its sums."""


@dataclass
class PassWork:
    """The calls of one batch of a pass.

    Attributes:
        models: Of each model's graph, all conditions together.
        metrics: Of what is observed, and of gradients.
        unknown: Names of kinds whose work cannot be told.
    """

    models: dict[str, Calls] = field(default_factory=dict)
    metrics: Calls = field(default_factory=Counter)
    unknown: set[str] = field(default_factory=set)


class Dry:
    """Passes of a plan, one after the other: what fits gave stands for what they will give."""

    def __init__(self) -> None:
        self.fitted: dict[str, list[tuple[Tensor, ...]]] = {}

    def work(
        self, groups: Sequence[Group[Observer]], compiled: Mapping[str, Compiled], batch: int
    ) -> PassWork:
        """The work of one batch.

        Args:
            groups: What is measured.
            compiled: The models' graphs, with weights or without.
            batch: Images.
        """
        with isolated(0):
            return self._work(groups, compiled, batch)

    def _work(
        self, groups: Sequence[Group[Observer]], compiled: Mapping[str, Compiled], batch: int
    ) -> PassWork:
        found = PassWork()
        images = _images(compiled, batch)
        reduced: dict[str, dict[int, Any]] = {}
        known: dict[Hashable, Any] = {}
        for name, one in compiled.items():
            if id(one) in known:
                found.models[name], back, reduced[name] = known[id(one)]
            else:
                found.models[name], back, reduced[name] = known[id(one)] = _graphs(
                    one, batch, images, found, known
                )
            found.metrics += back
        for group in groups:
            with torch.no_grad():
                self._group(group, compiled, reduced, batch / images, images, found)
        return found

    def _group(
        self,
        group: Group[Observer],
        compiled: Mapping[str, Compiled],
        reduced: Mapping[str, Mapping[int, Any]],
        factor: float,
        images: int,
        found: PassWork,
    ) -> None:
        view = group.views[-1]
        try:
            seen = self._seen(group, view, compiled, reduced, images)
            with Work() as work:
                observed = group.kind.observe(seen)
            if isinstance(group.kind, Fit):
                sums = {name: value.double().numpy() for name, value in observed.items()}
                constants = group.kind.finish(sums, group.x.sites)
                before = seen.fitted or [()] * len(constants)
                self.fitted[group.path] = [
                    (*known, *map(_tensor, own)) for known, own in zip(before, constants, strict=True)
                ]
        except Exception:  # what a kind makes of random numbers is not told
            found.unknown.add(group.kind.name)
            return
        views = len(group.views)
        for op in work.ops:
            found.metrics[op.times(factor)] += views
        for value in observed.values():
            found.metrics[Op("plain", 0.0, 3.0 * value.numel() * 8)] += ADDING * views

    def _seen(
        self,
        group: Group[Observer],
        view: View,
        compiled: Mapping[str, Compiled],
        reduced: Mapping[str, Mapping[int, Any]],
        images: int,
    ) -> Seen:
        """What a group would see of a batch under one view."""

        def reads(side: str, lane: str) -> Reads:
            reading = group.x if side == "x" else group.y
            one = compiled[reading.model]
            taps = taps_of(one.sites, reading, group)
            return [reduced[reading.model][one.slots[lane, tap]] for tap in taps]

        fit = fit_of(group)
        fitted: Sequence[tuple[Tensor, ...]] = self.fitted[fit.path] if fit else ()
        numbers = torch.arange(images)
        classes = compiled[group.x.model].sites.site("", "output").shape[-1] if group.kind.labels else 1
        answers = {"labels": numbers % classes, "nth": numbers // classes, "classes": classes}
        return seen_under(view, group, reads, range(images), fitted, answers)


def _tensor(array: Any) -> Tensor:
    return torch.from_numpy(np.asarray(array, np.float64))


def _images(compiled: Mapping[str, Compiled], batch: int) -> int:
    """How many random images stand for a batch: as many, but for tensors that are too large."""
    graphs = (part.merged for one in compiled.values() for part in one.parts.values())
    largest = max((_size(node, 1) for graph in graphs for node, _ in _own(graph)), default=1)
    return max(4, min(batch, LARGEST // max(1, largest)))


def _own(one: Merged) -> Iterator[tuple[fx.Node, Reduce | Apply]]:
    """The nodes that taps and edits added to a model's graph, with what they call."""
    modules = dict(one.module.named_modules())
    for node in one.module.graph.nodes:
        module = modules.get(str(node.target)) if node.op == "call_module" else None
        if OPS not in node.meta and isinstance(module, (Reduce, Apply)):
            yield node, module


def _size(node: fx.Node, images: int) -> int:
    return max((int(np.prod(_shape(one.meta[VALUE], images))) for one in _given(node)), default=0)


def _given(node: fx.Node) -> list[fx.Node]:
    return [one for one in node.all_input_nodes if isinstance(one.meta.get(VALUE), Tensor)]


def _shape(value: Tensor, images: int) -> tuple[int, ...]:
    first, *rest = value.shape or (1,)
    return (first * images // PROBE if first % PROBE == 0 else first, *rest)


def _graphs(
    one: Compiled, batch: int, images: int, found: PassWork, known: dict[Hashable, Any]
) -> tuple[Calls, Calls, dict[int, Any]]:
    """The calls of a model's graphs, those of gradients, and what each tap gives for random numbers, by position."""
    calls: Calls = Counter()
    back: Calls = Counter()
    gave: dict[int, Any] = {}
    for part in one.parts.values():
        own, gradients, results = _graph(part.merged, batch, images, found, known)
        calls += own
        back += gradients
        gave |= zip(part.at, results, strict=True)
    return calls, back, gave


def _graph(
    one: Merged, batch: int, images: int, found: PassWork, known: dict[Hashable, Any]
) -> tuple[Calls, Calls, list[Any]]:
    """The calls of a graph, those of gradients, and what each of its taps gives; None where it gives nothing."""
    calls: Calls = Counter()
    back: Calls = Counter()
    gave: dict[fx.Node, Any] = {}
    for node in one.module.graph.nodes:
        for op in node.meta.get(OPS, ()):
            calls[op.times(batch)] += 1
    for node, module in _own(one):
        identity = (module.reducer, module.site) if isinstance(module, Reduce) else module.operation
        sources = [source for source in node.args if isinstance(source, fx.Node)]
        key = (identity, tuple(_shape_of(one, source, images, gave) for source in sources))
        if key not in known:
            drawn = [
                gave[source] if source in gave else _drawn(one, source, images, module) for source in sources
            ]
            pixels = next((i for i, one in enumerate(sources) if i and one.op == "placeholder"), None)
            known[key] = _called(module, drawn, found, pixels)
        ops, gave[node], times = known[key]
        if times:
            for op, count in backward(sources[0]).items():
                back[op.times(batch)] += times * count
        for op in ops:
            calls[op.times(batch / images)] += 1
    (output,) = one.module.graph.find_nodes(op="output")
    return calls, back, [gave.get(node) for node in output.args[0]]


def _shape_of(one: Merged, node: fx.Node, images: int, gave: Mapping[fx.Node, Any]) -> tuple[int, ...]:
    if isinstance(given := gave.get(node), Tensor):
        return tuple(given.shape)
    value = node.meta.get(VALUE)
    if isinstance(value, Tensor):
        return _shape(value, images)
    constant = getattr(one.module, str(node.target), None)
    return tuple(constant.shape) if isinstance(constant, Tensor) else ()


def _called(
    module: Reduce | Apply, given: Sequence[Any], found: PassWork, pixels: int | None
) -> tuple[list[Op], Any, int]:
    """What one call makes of random numbers, its work, and how often it differentiates by the images among them."""
    passes: list[None] = []
    try:
        with torch.set_grad_enabled(pixels is not None), Work() as work:
            if pixels is not None:
                images = given[pixels].requires_grad_()
                given = [Counted.apply(images, given[0], passes), *given[1:]]
            result = module(*given)
    except Exception:  # it may refuse random numbers
        function = module.reducer.function if isinstance(module, Reduce) else module.operation.function
        found.unknown.add(getattr(function, "__name__", str(function)))
        return [], None, 0
    if isinstance(result, tuple):
        result = tuple(one.detach() for one in result)
    return work.ops, result, len(passes)


def _drawn(one: Merged, node: fx.Node, images: int, reader: Reduce | Apply) -> Tensor:
    """Random numbers in place of what a node gives; for who reads attention, weights that sum to 1."""
    value = node.meta.get(VALUE)
    if not isinstance(value, Tensor):
        constant = getattr(one.module, str(node.target))
        return torch.zeros(constant.shape, dtype=constant.dtype)
    drawn = torch.randn(_shape(value, images))
    weights = isinstance(reader, Reduce) and reader.site.layout == "attention"
    return drawn.softmax(-1) if weights else drawn
