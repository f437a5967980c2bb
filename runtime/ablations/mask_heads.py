"""Mask attention heads: some heads' outputs become zero, or their mean over images, before the projection.

What it does:
    The output of head h at every token, A_h V_h, becomes 0 (`to: zero`) or its mean over images at that token
    (`to: mean`, of the intact model, over the measured images or those of `over`). `heads` names those that are
    masked, `keep` those that are not; both count from 0, and -1 is the last. The other heads, and the bias of the
    projection, stay as they are.
    `vary: {heads: [0, 1, 2]}` with `each: true` is one condition for each of three heads of each block, with `heads`
    as its coordinate.
Places:
    Attention with softmax weights, whether fused or not; see `vitdsl sites MODEL --role heads`. Windowed attention
    (Swin) takes `to: zero`, in all windows at once; `to: mean` only where the window is the whole image, since the
    mean over images of a window is not made. A model without attention by heads (ResNet, ConvNeXt, Mixer) has no such
    place.
What it does not show:
    What a head attends to. That a head is useless where little changes: heads stand in for one another, and heads
    masked together can cost more than the sum. Zero is no neutral value where a head's output has a mean of its own:
    a drop under `to: zero` that is gone under `to: mean` was the mean's.
Reference:
    Michel et al. 2019 (arXiv 1905.10650) mask heads by a gate of zero; Voita et al. 2019 (arXiv 1905.09418).

Example:
    ablations:
      one_head: {kind: mask_heads, of: vit, at: "blocks.*.attn", each: true, vary: {heads: [0, 1, 2]}}
"""

from typing import Annotated, Any, Literal

import torch
from pydantic import BeforeValidator, Field
from torch import Tensor

from vitdsl.dsl.known import DataName
from vitdsl.dsl.study import Entry
from vitdsl.runtime.ablations._base import Ablation
from vitdsl.runtime.graph.edit import Operation, Place, Rewriter
from vitdsl.runtime.graph.site import Site
from vitdsl.runtime.metrics._base import Fit
from vitdsl.runtime.metrics._fit import MeanOfImages
from vitdsl.runtime.transfer import held, members


def _one_as_list(value: Any) -> Any:
    return [value] if isinstance(value, int) else value


Heads = Annotated[
    tuple[int, ...],
    Field(strict=False),
    BeforeValidator(_one_as_list, json_schema_input_type=int | list[int]),
]
"""The number of one head, or a list of them."""


class Params(Entry):
    """Which heads become what."""

    heads: Heads | None = Field(None, description="The heads that are masked: a number, or a list of them.")
    keep: Heads | None = Field(
        None, description="Instead of `heads`: those that stay; all others are masked."
    )
    to: Literal["zero", "mean"] = Field("zero", description="What a masked head gives: zeros, or its mean.")
    over: DataName | None = Field(
        None,
        description="With `to: mean`, the data entry whose images it is of; null: those that are measured.",
    )


class MaskHeads(Ablation):
    """Some heads give nothing of the image."""

    name = "mask_heads"
    cites = ("michel2019", "voita2019")
    Params = Params
    roles = ("heads",)
    windows = True

    def refuse(self, site: Site) -> str | None:
        """Where a named head is not there, nothing would be masked, or a mean cannot be made."""
        assert isinstance(self.params, Params)
        given = self.params.heads if self.params.keep is None else self.params.keep
        if given is None or self.params.heads is not None and self.params.keep is not None:
            return "it takes either `heads` or `keep`; write one of the two, such as `heads: [0]`"
        if self.params.over is not None and self.params.to == "zero":
            return (
                "`over` names images for a mean, and zeros need none; write `to: mean`, or leave `over` out"
            )
        if len(site.shape) != 3:
            return f"its tensor (shape {list(site.shape)} for one image) is not that of heads `[head, token, width]`"
        count = site.shape[0]
        wrong = [head for head in given if not -count <= head < count]
        if wrong:
            return f"it has {count} heads, so there is no head {wrong[0]}; heads count from 0"
        if not self._masked(site):
            return "no head is left to mask; name one in `heads`, or fewer in `keep`"
        if self.params.to == "mean" and site.layout == "windows":
            return "its tensor holds windows of images, whose means are not made; write `to: zero`"
        return None

    def _masked(self, site: Site) -> tuple[int, ...]:
        """The heads that are masked at a site, from 0."""
        assert isinstance(self.params, Params)
        count = site.shape[0]
        named = {head % count for head in self.params.heads or self.params.keep or ()}
        return tuple(head for head in range(count) if (head in named) == (self.params.keep is None))

    def fit(self) -> Fit | None:
        """The mean of every head's output over images, where that is what a masked one gives."""
        assert isinstance(self.params, Params)
        return MeanOfImages() if self.params.to == "mean" else None

    def over(self) -> str | None:
        """The data entry that the mean is taken over."""
        assert isinstance(self.params, Params)
        return self.params.over

    def rewrite(self, place: Place, build: Rewriter, *fitted: Any) -> Any:
        """The heads' outputs, some of them masked."""
        assert place.site is not None
        operation = Operation(masked, (("heads", self._masked(place.site)),))
        return build.call(operation, build.before, *fitted)


def masked(tensor: Tensor, mean: Tensor | None = None, *, heads: tuple[int, ...]) -> Tensor:
    """Some heads of `[batch, head, token, width]` at zero, or at a mean `[head, token, width]`."""
    chosen = held(members, tensor.shape[1], heads, device=tensor.device)
    other = torch.zeros_like(tensor) if mean is None else mean.to(tensor.dtype)
    return torch.where(chosen[:, None, None], other, tensor)
