"""Scale a unit's branch: what it adds to the stream is multiplied by a factor.

What it does:
    The stream after the unit is z + by * f(z) instead of z + f(z). `by: 0` is `remove_branch`, bit for bit; 1
    changes nothing, and is a control in a sweep; a negative factor turns what is added round. A scale that the model
    has itself (LayerScale, gamma) is part of f(z), and stays.
Places:
    Residual units, such as `blocks.3.attn`, `blocks.3.mlp` or `layer2.1`; see `vitdsl sites MODEL --role
    branch`. `tokens:` narrows it to some of them.
What it does not show:
    What the unit computes: a factor says only how much of it the rest of the model needs. A norm behind the add may
    undo a part: where the branch is most of the stream, half of it is nearly all of it after a LayerNorm. Factors
    other than 0 and 1 give streams that the model was never trained on.
Reference:
    Veit et al. 2016 (arXiv 1605.06431) remove whole branches; this goes part of the way.

Example:
    ablations:
      fading: {kind: scale_branch, of: vit, at: "blocks.*.mlp", each: true, by: 1, vary: {by: [0, 0.5, 1, 2]}}
"""

from typing import Any

from pydantic import Field
from torch import Tensor

from vitdsl.dsl.study import Entry
from vitdsl.runtime.ablations._base import Ablation
from vitdsl.runtime.graph.edit import Operation, Place, Rewriter


class Params(Entry):
    """How much is left."""

    by: float = Field(allow_inf_nan=False, description="What the branch is multiplied by; 1 changes nothing.")


class ScaleBranch(Ablation):
    """The branch times a factor."""

    name = "scale_branch"
    Params = Params
    roles = ("branch",)

    def rewrite(self, place: Place, build: Rewriter, *fitted: Any) -> Any:
        """What the add takes, times the factor; nothing where that is 0."""
        assert isinstance(self.params, Params)
        if self.params.by == 0:
            return build.nothing
        return build.call(Operation(times, (("by", self.params.by),)), build.before)


def times(tensor: Tensor, *, by: float) -> Tensor:
    """A tensor times a number."""
    return tensor * by
