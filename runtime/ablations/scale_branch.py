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

from pydantic import Field

from vitdsl.runtime.ablations._scaling import Factor, Scaling


class Params(Factor):
    """How much is left."""

    by: float = Field(allow_inf_nan=False, description="What the branch is multiplied by; 1 changes nothing.")


class ScaleBranch(Scaling):
    """The branch times a factor."""

    name = "scale_branch"
    cites = ("veit2016",)
    Params = Params
    roles = ("branch",)
