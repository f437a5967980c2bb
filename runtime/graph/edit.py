"""Edits: other values at places of a graph, in the part of it that belongs to one condition.

A place is a tensor as some of its readers see it: what a skip carries into its add is the stream, seen by that add
alone. Several edits at one place apply in order, each to what the one before it left. Does not own how lanes share
what they have in common (`merge`).
"""

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor, fx, nn

from vitdsl.runtime.graph.site import Site


class Others(Protocol):
    """The sites of the model that a place is in."""

    def names(self, role: str) -> list[str]:
        """Names that have a role, in order of execution."""

    def place(self, name: str, role: str, *, tokens: str | tuple[int, ...] = "all") -> "Place":
        """Another place of the model."""


@dataclass(frozen=True)
class Place:
    """Where an ablation acts.

    Attributes:
        node: Whose value changes.
        readers: The nodes that see the change; empty for all.
        site: The facts about its tensor; None for a place without a name.
        others: What else can be named in its model; None for a place without a name.
    """

    node: fx.Node
    readers: frozenset[fx.Node] = frozenset()
    site: Site | None = None
    others: Others | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Operation:
    """`function(*tensors, **constants)`, pure, as one node of the graph; hashable, to share equal ones."""

    function: Callable[..., Tensor]
    constants: tuple[tuple[str, Hashable], ...] = ()


class Rewriter(Protocol):
    """What an ablation may do while its condition's lane is laid."""

    @property
    def before(self) -> Any:
        """The value at the place under this condition: the model's own, or what earlier edits there left."""

    @property
    def nothing(self) -> Any:
        """Zeros in the place's shape; an add that sees them is left out."""

    def value(self, node: fx.Node) -> Any:
        """The value, under this condition, of a node of the intact graph that comes before the place."""

    def ahead(self, node: fx.Node) -> Any:
        """The value of any node, also one behind the place, under the edits before this one alone."""

    def call(self, operation: Operation, *values: Any) -> Any:
        """The value of an operation on such values."""

    def constant(self, tensor: Tensor) -> Any:
        """A tensor that is the same for every batch."""


Rewrite = Callable[[Rewriter], Any]


@dataclass(frozen=True)
class Lane:
    """A condition of one model: its name, and what replaces which values of the intact graph, in order."""

    name: str
    edits: tuple[tuple[Place, Rewrite], ...] = ()


class Apply(nn.Module):
    """An ablation's operation in the graph."""

    def __init__(self, operation: Operation) -> None:
        super().__init__()
        self.operation = operation

    def forward(self, *tensors: Tensor) -> Tensor:
        """Apply the operation."""
        return self.operation.function(*tensors, **dict(self.operation.constants))
