"""Swap the pool: the head reads the class token instead of the mean of the spatial tokens, or the other way round.

What it does:
    With `to: gap` the vector that the head is made from is the mean of the spatial tokens, without class token and
    registers; with `to: cls` it is the class token. Tokens and head are the model's own. The final norm stays where
    the model has it, as in timm where `global_pool` of a built model is set to another value: a `norm` before the pool
    is applied to every token and then averaged, a `fc_norm` behind it to the one vector.
Places:
    The pool (`role: pool`), of which there is one; see `vitdsl sites MODEL --role pool`. Not where there is no class
    token, where the model pools so already (a mean with the prefix in it is another), or where it pools by attention,
    by a maximum or with two heads.
What it does not show:
    How good the other pool could be: the head was trained with the model's own, and a class token that no head ever
    read holds nothing of use. A model built with the other pool has its norm on the other side of it, and a mean of
    normed tokens is not the norm of their mean. For that, train a model with the option `global_pool`, or fit a probe.
Reference:
    Raghu et al. 2021 (arXiv 2108.08810), Section 6 and Figure 11, on class token and mean as what probes read.

Example:
    ablations:
      by_mean: {kind: swap_pool, of: vit, to: gap}
"""

from typing import Any, Literal

from pydantic import Field
from torch import Tensor

from vitdsl.dsl.study import Entry
from vitdsl.runtime.ablations._base import Ablation
from vitdsl.runtime.graph.edit import Operation, Place, Rewriter
from vitdsl.runtime.graph.tokens import prefix_of
from vitdsl.runtime.graph.whole import pool_of

WORDS = {"cls": "the class token", "gap": "the mean of the spatial tokens"}


class Params(Entry):
    """Fields of its own."""

    to: Literal["cls", "gap"] = Field(
        description="What the head reads: `cls`, the class token; `gap`, the mean of the spatial tokens."
    )


class SwapPool(Ablation):
    """The other pool."""

    name = "swap_pool"
    cites = ("raghu2021",)
    Params = Params
    roles = ("pool",)

    def refuse_place(self, place: Place) -> str | None:
        """Where there are not both pools, or it is not known what is pooled."""
        assert isinstance(self.params, Params) and place.site is not None
        pool = pool_of(place.node)
        if pool is None or pool.takes is None:
            return "its pool is neither the class token nor the mean of spatial tokens; attention pools stay"
        as_it_is = pool.takes == "cls" or pool.first == place.site.prefix
        if pool.takes == self.params.to and as_it_is:
            return f"its head reads {WORDS[pool.takes]} already"
        if not place.site.class_token:
            return "it has no class token"
        if place.site.grid is None:
            return "the tokens that it pools are not its patch grid, so which are spatial is not known"
        return None

    def rewrite(self, place: Place, build: Rewriter, *fitted: Any) -> Any:
        """The class token or the mean of the tokens that the model pools."""
        assert isinstance(self.params, Params) and place.site is not None
        pool = pool_of(place.node)
        assert pool is not None
        tokens = build.value(pool.source)
        if self.params.to == "cls":
            return build.call(Operation(class_token), tokens)
        return build.call(Operation(spatial_mean, (("prefix", prefix_of(place.site)),)), tokens)


def class_token(tokens: Tensor) -> Tensor:
    """The first of tokens `[image, token, width]`."""
    return tokens[:, 0]


def spatial_mean(tokens: Tensor, *, prefix: int) -> Tensor:
    """The mean of tokens `[image, token, width]` behind the prefix."""
    return tokens[:, prefix:].mean(1)
