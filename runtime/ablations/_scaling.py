"""What scales a part of a unit: a factor, and the value times it. Does not own which part (the kinds)."""

from typing import Any

from torch import Tensor

from vitdsl.dsl.study import Entry
from vitdsl.runtime.ablations._base import Ablation
from vitdsl.runtime.graph.edit import Operation, Place, Rewriter


class Factor(Entry):
    """How much is left."""

    by: float


class Scaling(Ablation):
    """A part of a unit times a factor."""

    Params = Factor

    def rewrite(self, place: Place, build: Rewriter, *fitted: Any) -> Any:
        """What the add takes, times the factor; nothing where that is 0."""
        assert isinstance(self.params, Factor)
        if self.params.by == 0:
            return build.nothing
        return build.call(Operation(times, (("by", self.params.by),)), build.before)


def times(tensor: Tensor, *, by: float) -> Tensor:
    """A tensor times a number."""
    return tensor * by
