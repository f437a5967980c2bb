"""What an ablation is: at a place in a model's graph, another value instead of the model's own.

Does not own: how conditions share what they have in common (`merge`), which places match (`bind`).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol

from torch import Tensor, fx

from vitdsl.dsl.study import Entry
from vitdsl.runtime.graph.units import Unit
from vitdsl.runtime.kinds import Registry


@dataclass(frozen=True)
class Operation:
    """`function(*tensors, **constants)`, pure, as one node of the graph; hashable, to share equal ones."""

    function: Callable[..., Tensor]
    constants: tuple[tuple[str, Hashable], ...] = ()


class Rewriter(Protocol):
    """What an ablation may do while its condition's graph is built."""

    def value(self, node: fx.Node) -> Any:
        """The value, under this condition, of a node of the intact graph."""

    def call(self, operation: Operation, *values: Any) -> Any:
        """The value of an operation on such values."""


class Ablation(ABC):
    """A kind of ablation; one file in this folder. Its module's docstring is its page in `vitdsl explain`.

    Attributes:
        name: The kind's name, equal to the file's.
        Params: The kind's own fields in a study.
        places: What `at` selects: residual `units`.
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1
    Params: ClassVar[type[Entry]] = Entry
    places: ClassVar[Literal["units"]] = "units"

    def __init__(self, params: Entry) -> None:
        self.params = params

    def target(self, unit: Unit) -> fx.Node:
        """The node whose value it changes: the unit's residual add unless overridden."""
        return unit.add

    @abstractmethod
    def rewrite(self, unit: Unit, build: Rewriter) -> Any:
        """The target's value under this ablation."""


ABLATIONS: Registry[Ablation] = Registry("ablations", "vitdsl.runtime.ablations", Ablation)
