"""Scale a unit's skip: what it carries past its branch is multiplied by a factor.

What it does:
    The stream after the unit is by * z + f(z) instead of z + f(z), f(z) being the model's own. `by: 0` is
    `remove_skip`, bit for bit; 1 changes nothing, and is a control in a sweep; a negative factor turns what is
    carried round. A projected shortcut (a ResNet's downsampling) is scaled as it is added.
Places:
    Residual units, such as `blocks.3.attn`, `blocks.3.mlp` or `layer2.1`; see `vitdsl sites MODEL --role
    branch`. `tokens:` narrows it to some of them.
What it does not show:
    What a model trained with such a skip would do: the later layers never saw such streams. All that earlier units
    wrote is scaled with it, not what one of them wrote: over several units at once the factor acts again and again,
    so that the first unit's share falls with its power. A norm behind the add sees the ratio of skip and branch alone:
    a skip times 1/2 is there as a branch times 2 (`scale_branch`).
Reference:
    Raghu et al. 2021 (arXiv 2108.08810), Section 5, remove whole skips; He et al. 2016 (arXiv 1603.05027), Section 3,
    train with scaled ones.

Example:
    ablations:
      thinner: {kind: scale_skip, of: vit, at: "blocks.*.attn", each: true, by: 1, vary: {by: [0, 0.5, 0.9, 1]}}
"""

from pydantic import Field

from vitdsl.runtime.ablations._scaling import Factor, Scaling


class Params(Factor):
    """How much is left."""

    by: float = Field(allow_inf_nan=False, description="What the skip is multiplied by; 1 changes nothing.")


class ScaleSkip(Scaling):
    """The skip times a factor."""

    name = "scale_skip"
    cites = ("raghu2021", "he2016identity")
    Params = Params
    roles = ("skip",)
