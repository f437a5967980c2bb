"""The values of a graph under one lane: the model's own, but where edits put others.

Owns how edits compose: at one node they apply in order, and what a reader sees may differ from what others see. Zeros
that meet an add are left out of it, so that a removed skip costs nothing. Does not own what is shared (`merge`).
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Protocol

import torch
from torch import Tensor, fx, nn

from vitdsl.runtime.graph.edit import Apply, Lane, Operation, Place
from vitdsl.runtime.graph.propagate import VALUE
from vitdsl.runtime.graph.units import ADDS

ZERO = Operation(torch.zeros_like)


class Builder(Protocol):
    """The graph under construction."""

    def copy(self, node: fx.Node, args: Any, kwargs: Any) -> fx.Node:
        """A node of the intact graph with other inputs."""

    def call(self, what: str, identity: Hashable, module: nn.Module, args: tuple[Any, ...]) -> fx.Node:
        """A call of a module of ours."""

    def constant(self, tensor: Tensor) -> fx.Node:
        """A tensor that is the same for every batch."""


@dataclass(frozen=True)
class _Nothing:
    """Zeros that are not computed unless something other than an add needs them."""

    like: Any


class Values:
    """The values of the intact graph's nodes under one lane, laid when asked for."""

    def __init__(self, builder: Builder, lane: Lane) -> None:
        self.builder = builder
        self.lane = lane
        self.laid: dict[fx.Node, Any] = {}
        self.at: dict[fx.Node, list[int]] = {}
        self.seen: dict[tuple[fx.Node, fx.Node], list[int]] = {}
        for index, (place, _) in enumerate(lane.edits):
            for reader in place.readers:
                self.seen.setdefault((place.node, reader), []).append(index)
            if not place.readers:
                self.at.setdefault(place.node, []).append(index)

    def of(self, node: fx.Node) -> Any:
        """The value of a node, after all edits that every reader sees."""
        if node not in self.laid:
            value = self._edited(self.at.get(node, ()), lambda: self._copied(node))
            self.laid[node] = self.whole(value)
        return self.laid[node]

    def before(self, index: int, node: fx.Node) -> Any:
        """The value of a node under the edits before one alone; laid in order, for it may lie far ahead."""
        needed = {node}
        nodes = list(node.graph.nodes)
        for one in reversed(nodes):
            if one in needed:
                needed.update(one.all_input_nodes)
        earlier = Values(self.builder, Lane(self.lane.name, self.lane.edits[:index]))
        for one in nodes:
            if one in needed:
                earlier.of(one)
        return earlier.of(node)

    def whole(self, value: Any) -> Any:
        """The value, with zeros computed."""
        if not isinstance(value, _Nothing):
            return value
        return self.builder.call("edit", ZERO, Apply(ZERO), (value.like,))

    def _edited(self, edits: Sequence[int], value: Callable[[], Any]) -> Any:
        """A value after some edits, each of which sees what the one before it left."""
        for index in edits:
            place, rewrite = self.lane.edits[index]
            rewriter = _Rewriter(self, index, place, value)
            value = partial(_same, rewriter.back(rewrite(rewriter)))
        return value()

    def _copied(self, node: fx.Node) -> Any:
        """The node's own operation on what it sees."""
        seen = {
            n: self._edited(self.seen.get((n, node), ()), partial(self.of, n)) for n in node.all_input_nodes
        }
        if any(isinstance(value, _Nothing) for value in seen.values()):
            if node.target in ADDS and len(node.args) == 2 and not node.kwargs:
                operands: list[Any] = [seen[n] if isinstance(n, fx.Node) else n for n in node.args]
                left = [value for value in operands if not isinstance(value, _Nothing)]
                if len(left) < 2:
                    return left[0] if left else _Nothing(operands[0].like)
            seen = {n: self.whole(value) for n, value in seen.items()}
        return self.builder.copy(node, *fx.map_arg((node.args, node.kwargs), lambda n: seen[n]))


def _same(value: Any) -> Any:
    return value


def _seen_as(shape: tuple[int, ...]) -> Operation:
    return Operation(_in_shape, (("shape", shape),))


def _in_shape(tensor: Tensor, *, shape: tuple[int, ...]) -> Tensor:
    return tensor.reshape(-1, *shape)


class _Rewriter:
    """What an ablation sees while a lane is laid."""

    def __init__(self, values: Values, index: int, place: Place, before: Callable[[], Any]) -> None:
        self._values, self._index, self._place, self._before = values, index, place, before

    @cached_property
    def before(self) -> Any:
        value = self._values.whole(self._before())
        return value if self._seen is None else self.call(_seen_as(self._seen), value)

    @cached_property
    def _seen(self) -> tuple[int, ...] | None:
        """`[head, query, key]` where the graph has weights in another shape."""
        site = self._place.site
        if site is None or (site.layout, site.role) != ("attention", "attention"):
            return None
        return None if site.shape == self._shape else site.shape

    @property
    def _shape(self) -> tuple[int, ...]:
        return tuple(self._place.node.meta[VALUE].shape[1:])

    def back(self, result: Any) -> Any:
        """What an ablation gave, in the shape that the graph has there."""
        if self._seen is None:
            return result
        return self.call(_seen_as(self._shape), result)

    @property
    def nothing(self) -> Any:
        return _Nothing(self.before)

    def value(self, node: fx.Node) -> Any:
        return self.before if node is self._place.node else self._values.of(node)

    def ahead(self, node: fx.Node) -> Any:
        return self._values.before(self._index, node)

    def call(self, operation: Operation, *values: Any) -> Any:
        whole = tuple(self._values.whole(value) for value in values)
        result = self._values.builder.call("edit", operation, Apply(operation), whole)
        result.meta.setdefault(VALUE, self._place.node.meta.get(VALUE))
        return result

    def constant(self, tensor: Tensor) -> Any:
        return self._values.builder.constant(tensor)
