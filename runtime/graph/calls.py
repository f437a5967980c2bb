"""One call of an operation: what went in, what is known of it, and the shape of what came out.

Owns what a rule of axes sees, and what is known where no rule holds. Does not own the rules (`view_rules`,
`value_rules`), or which operation has which (`axis_rules`).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from vitdsl.runtime.graph.axes import Images, unknown
from vitdsl.runtime.graph.meaning import Meaning, fixed


@dataclass(frozen=True)
class Call:
    """One call of an operation.

    Attributes:
        name: What ATen calls it, without its overload.
        given: Its arguments by name, tensors as they are.
        known: What is known of a tensor.
        shape: Of the tensor that came out.
        nth: Which of several tensors that came out it is.
        source: A number for this call.
        batch: How many images there are.
        pointwise: Whether it joins its tensors position by position.
    """

    name: str
    given: Mapping[str, Any]
    known: Callable[[Tensor], Meaning]
    shape: tuple[int, ...]
    nth: int
    source: int
    batch: int
    pointwise: bool

    @property
    def first(self) -> Meaning:
        """What is known of the first tensor."""
        return self.tensors[0]

    @property
    def tensors(self) -> list[Meaning]:
        """What is known of all tensors, in order."""
        found = []
        for value in self.given.values():
            each = value if isinstance(value, (list, tuple)) else [value]
            found += [self.known(one) for one in each if isinstance(one, Tensor)]
        return found

    def axis(self, name: str = "dim", default: int = 0) -> int:
        """An argument that names an axis of the first tensor, counted from the front."""
        return int(self.given.get(name, default)) % max(1, len(self.first.axes))


def lost(call: Call) -> Meaning:
    """What is known where no rule holds: the images alone, where they were the first axis and are."""
    axes = unknown(call.shape)
    first = next((one for one in call.tensors if one.images), None)
    if first is None:
        return fixed(call.shape)
    if call.shape and first.axes and first.axes[0][:1] == (Images(call.shape[0]),):
        axes = ((Images(call.shape[0]),), *axes[1:])
    return Meaning(axes)
