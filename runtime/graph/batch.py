"""The number of images, free again in a graph that was traced with a certain number of them.

A multiple of it is computed from the images at every call. Where a program did nothing with the number of images that
may not hold for others (`counts`), its one graph tells which numbers these are. Otherwise it is traced twice, with two
numbers of images. Where one graph has a number that the other has not, it is that of the images or a multiple of it.
Where anything else differs, the program does something else with other batches, and no one graph stands for it.
"""

import operator
from typing import Any

from torch import fx
from torch.fx.node import map_aggregate

from vitdsl.runtime.graph.counts import BATCH


class DependsOnBatch(Exception):
    """What a program does depends on the number of images; says where."""


def free_counts(graph: fx.Graph) -> None:
    """Make a graph hold for any number of images that was traced with `BATCH` of them, without a doubt."""
    joined = _Joined(graph, (BATCH, BATCH))

    def free(value: Any) -> Any:
        count, rest = divmod(int.__add__(value, 0), BATCH) if isinstance(value, int) else (0, 0)
        return joined.multiple(count) if count and not rest else value

    for node in list(graph.nodes):
        node.args, node.kwargs = map_aggregate(node.args, free), map_aggregate(node.kwargs, free)


def free_batch(graph: fx.Graph, other: fx.Graph, sizes: tuple[int, int]) -> None:
    """Make a graph hold for any number of images.

    Args:
        graph: Changed in place.
        other: Of the same program, traced with the other number of images.
        sizes: The two numbers of images, without a common divisor.

    Raises:
        DependsOnBatch: The graphs differ in more than multiples of the number of images.
    """
    if len(graph.nodes) != len(other.nodes):
        raise DependsOnBatch("its number of operations depends on the number of images")
    joined = _Joined(graph, sizes)
    for one, two in zip(list(graph.nodes), other.nodes, strict=True):
        if one.op != two.op or one.target != two.target:
            raise DependsOnBatch(f"{_place(one)} it does other things for other numbers of images")
        joined.same[two] = one
        try:
            one.args, one.kwargs = joined.of(one.args, two.args), joined.of(one.kwargs, two.kwargs)
        except ValueError as error:
            raise DependsOnBatch(
                f"{_place(one)} it computes with the number of images ({error} for {sizes[0]} and {sizes[1]})"
            ) from error


class _Joined:
    def __init__(self, graph: fx.Graph, sizes: tuple[int, int]) -> None:
        self.graph, self.sizes = graph, sizes
        self.same: dict[fx.Node, fx.Node] = {}
        self.multiples: dict[int, fx.Node] = {}

    def of(self, one: Any, two: Any) -> Any:
        """What stands for both of two arguments."""
        if isinstance(one, fx.Node):
            if self.same.get(two) is not one:
                raise ValueError(f"{one} and {two}")
            return one
        if isinstance(one, (tuple, list)) and type(one) is type(two) and len(one) == len(two):
            if one == two and not _holds_nodes(one):
                return one
            parts = [self.of(a, b) for a, b in zip(one, two, strict=True)]
            return parts if isinstance(one, list) else tuple(parts)
        if isinstance(one, dict) and isinstance(two, dict) and list(one) == list(two):
            return {key: self.of(one[key], two[key]) for key in one}
        if isinstance(one, slice) and isinstance(two, slice):
            return slice(
                self.of(one.start, two.start), self.of(one.stop, two.stop), self.of(one.step, two.step)
            )
        if type(one) is type(two) and (one == two or repr(one) == repr(two)):
            return one
        count, rest = divmod(one, self.sizes[0]) if type(one) is type(two) is int else (0, 1)
        if rest or two != count * self.sizes[1]:
            raise ValueError(f"{one} and {two}")
        return self.multiple(count)

    def multiple(self, count: int) -> fx.Node:
        """A node for so many times the number of images."""
        if count not in self.multiples:
            (images, *_) = self.graph.find_nodes(op="placeholder")
            with self.graph.inserting_after(images if count == 1 else self._one()):
                self.multiples[count] = (
                    self.graph.call_method("size", (images, 0))
                    if count == 1
                    else self.graph.call_function(operator.mul, (self._one(), count))
                )
        return self.multiples[count]

    def _one(self) -> fx.Node:
        return self.multiple(1)


def _holds_nodes(value: Any) -> bool:
    if isinstance(value, (tuple, list)):
        return any(map(_holds_nodes, value))
    return isinstance(value, (fx.Node, dict, slice))


def _place(node: fx.Node) -> str:
    stack = list(node.meta.get("nn_module_stack") or ())
    path = stack[-1].partition("@")[0] if stack else ""
    return f"in `{path}`" if path else "at its top level"
