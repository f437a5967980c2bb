"""Uniform attention: every query takes the plain mean of the values that it can see.

What it does:
    The softmax weights of a query become 1 / keys, whatever the query and the image. Keys that a mask hides from it,
    as between the parts of Swin's shifted windows, stay at zero, and the others share the weight. Values, heads and
    projections stay the model's own.
Places:
    Attention modules (`role: attention`), whole or in windows; see `vitdsl sites MODEL --role attention`. A mask is
    known where the graph adds it to the logits and no parameter is in it: a value of -50 or less hides. Where keys are
    hidden in another way the place is refused. Class and register tokens are keys like the others.
What it does not show:
    That where a head looks does not matter where little changes: later parts may make up for it. It changes the
    size of what the attention adds as well as its place, and a uniform mean still tells every token of all others.
    Another edit at the same attention before it is overwritten.
Reference:
    The uniform line of Raghu et al. 2021 (arXiv 2108.08810), Figures 3 and 4, as a model that is run.

Example:
    ablations:
      uniform: {kind: uniform_attention, of: vit, at: "blocks.*.attn", each: true}
"""

from math import prod
from typing import Any

import torch
from torch import Tensor

from vitdsl.runtime.ablations._base import Ablation
from vitdsl.runtime.graph.edit import Operation, Place, Rewriter
from vitdsl.runtime.graph.fixed import logits_of
from vitdsl.runtime.graph.propagate import VALUE
from vitdsl.runtime.graph.tokens import refuse_weights

HIDDEN = -50.0
"""A mask's value of this or less hides a key: its weight is below 1e-21 of that of an equal key."""


class UniformAttention(Ablation):
    """Every visible key the same weight."""

    name = "uniform_attention"
    cites = ("raghu2021",)
    roles = ("attention",)
    windows = True

    def refuse_place(self, place: Place) -> str | None:
        """Where it cannot be known which keys are hidden."""
        if place.site is not None and not place.site.shares:
            return refuse_weights(place.site)
        logits = logits_of(place.node)
        masked = any(one.kind == "given" for one in logits.added)
        if logits.hidden or masked and not logits.viewed:
            return (
                "which keys a query sees is not known: its graph hides some, and not by a mask that is added"
            )
        return None

    def rewrite(self, place: Place, build: Rewriter, *fitted: Any) -> Any:
        """The same weight for all keys that no mask hides."""
        masks = [one for one in logits_of(place.node).added if one.kind == "given"]
        shapes = tuple(tuple(one.add.meta[VALUE].shape[1:]) for one in masks)
        operation = Operation(uniform, (("shapes", shapes),))
        return build.call(operation, build.before, *(build.value(one.operand) for one in masks))


def uniform(weights: Tensor, *masks: Tensor, shapes: tuple[tuple[int, ...], ...]) -> Tensor:
    """Weights `[..., query, key]` that are the same for all visible keys.

    Args:
        weights: The weights in whose place they are.
        masks: What was added to the logits to hide keys.
        shapes: For each, the shape of the logits that it was added to, without the first axis.
    """
    visible = torch.ones_like(weights, dtype=torch.bool)
    for mask, shape in zip(masks, shapes, strict=True):
        seen = torch.broadcast_to(mask > HIDDEN, (weights.numel() // prod(shape), *shape))
        visible = visible & seen.reshape(weights.shape)
    visible = visible | ~visible.any(-1, keepdim=True)
    return visible.to(weights.dtype) / visible.sum(-1, keepdim=True)
