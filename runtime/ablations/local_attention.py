"""Local attention: a token sees the patches around it, and no others.

What it does:
    The softmax weights of keys farther than `radius` patches from the query become zero, and the others are divided
    by their sum: the softmax over the keys that are left. With `distance: square` a key is near where neither its row
    nor its column is farther than `radius`; with `distance: round` where the straight line is not longer. Prefix
    tokens (class, registers) are seen by all and see all. `radius: 0` leaves a patch itself and the prefix. Where all
    weights that are left have underflowed to zero, they become equal.
Places:
    Attention modules (`role: attention`) whose keys are the model's patch grid; see `vitdsl sites MODEL --role
    attention`. Not attention in windows, whose keys have no place in the image, and not where keys are pooled.
What it does not show:
    That a head needs no distant patches where little changes: prefix tokens still carry what all patches have in
    common, and several local layers together reach far. What is left gets larger weights than it had. In a model
    that was not trained so, a drop mixes what is missing with that change of scale.
Reference:
    Raghu et al. 2021 (arXiv 2108.08810), Section 4, on local and global heads. Masked self-attention of this form:
    Parmar et al. 2018 (arXiv 1802.05751).

Example:
    ablations:
      near: {kind: local_attention, of: vit, at: "blocks[0:6].attn", radius: 2}
"""

from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from vitdsl.dsl.study import Entry
from vitdsl.runtime.ablations._base import Ablation
from vitdsl.runtime.graph.edit import Operation, Place, Rewriter
from vitdsl.runtime.graph.site import Site
from vitdsl.runtime.graph.tokens import prefix_of, refuse_weights
from vitdsl.runtime.transfer import held

Distance = Literal["square", "round"]


class Params(Entry):
    """Fields of its own."""

    radius: float = Field(ge=0, description="How many patches away a token sees.")
    distance: Distance = Field(
        "square", description="`square`: the larger of rows and columns; `round`: the straight line."
    )


class LocalAttention(Ablation):
    """No weight beyond a radius."""

    name = "local_attention"
    cites = ("raghu2021", "parmar2018")
    Params = Params
    roles = ("attention",)

    def refuse(self, site: Site) -> str | None:
        """Where keys have no known place in the image."""
        if (why := refuse_weights(site)) is not None:
            return why
        if site.layout != "attention" or site.shape[-2] != site.shape[-1]:
            return f"its queries are not its keys (one image gives weights of shape {list(site.shape)})"
        if site.grid is None or site.prefix is None:
            return "its keys are not the model's patch grid, so how far they are is not known"
        return None

    def rewrite(self, place: Place, build: Rewriter, *fitted: Any) -> Any:
        """The weights inside the radius, with the sum of one."""
        assert isinstance(self.params, Params) and place.site is not None
        constants = (
            ("radius", self.params.radius),
            ("distance", self.params.distance),
            ("grid", place.site.grid),
            ("prefix", prefix_of(place.site)),
        )
        return build.call(Operation(local, constants), build.before)


def local(
    weights: Tensor, *, radius: float, distance: Distance, grid: tuple[int, int], prefix: int
) -> Tensor:
    """Weights `[..., query, key]` without those beyond a radius, divided by their sum."""
    near = held(neighbours, grid, radius, distance, prefix, device=weights.device)
    exact = weights if weights.dtype == torch.float64 else weights.float()
    left = torch.where(near, exact, 0.0)
    total = left.sum(-1, keepdim=True)
    equal = near.to(left.dtype) / near.sum(-1, keepdim=True)
    return torch.where(total > 0, left / torch.where(total > 0, total, 1.0), equal).to(weights.dtype)


def neighbours(grid: tuple[int, int], radius: float, distance: Distance, prefix: int) -> Tensor:
    """Which keys a query sees, `[query, key]`; prefix tokens see all and are seen by all."""
    rows, cols = grid
    row = torch.arange(rows).repeat_interleave(cols)
    col = torch.arange(cols).repeat(rows)
    down, across = (row[:, None] - row).abs(), (col[:, None] - col).abs()
    far = down**2 + across**2 > radius**2 if distance == "round" else torch.maximum(down, across) > radius
    near = torch.ones(prefix + rows * cols, prefix + rows * cols, dtype=torch.bool)
    near[prefix:, prefix:] = ~far
    return near
