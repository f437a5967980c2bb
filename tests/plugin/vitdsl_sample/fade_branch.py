"""Fade a unit's branch: what it adds to the stream is multiplied by a factor.

What it does:
    The stream after the unit is z + factor * f(z) instead of z + f(z). A factor of 0 gives the numbers of
    `remove_branch`.
Places:
    Residual units, such as `blocks.3.attn`, `blocks.3.mlp` or `layer2.1`; see `vitdsl sites MODEL --role
    branch`.
What it does not show:
    What the unit computes: a small factor says only how much of it the rest of the model needs.
Reference:
    Veit et al. 2016 (arXiv 1605.06431) remove whole branches; this goes part of the way.

Example:
    ablations:
      half: {kind: fade_branch, of: vit, at: "blocks.*.attn", each: true, factor: 0.5}
"""

from typing import Any

from pydantic import Field
from torch import Tensor

from vitdsl.dsl.study import Entry
from vitdsl.runtime.ablations._base import Ablation
from vitdsl.runtime.graph.edit import Operation, Place, Rewriter


class Params(Entry):
    """How much is left."""

    factor: float = Field(ge=0, description="What the branch is multiplied by; 1 would change nothing.")


def scaled(branch: Tensor, *, factor: float) -> Tensor:
    """The branch times the factor."""
    return branch * factor


class FadeBranch(Ablation):
    """The branch times a factor."""

    name = "fade_branch"
    Params = Params
    roles = ("branch",)

    def rewrite(self, place: Place, build: Rewriter) -> Any:
        """One operation on what the add would take."""
        assert isinstance(self.params, Params)
        return build.call(Operation(scaled, (("factor", self.params.factor),)), build.before)
