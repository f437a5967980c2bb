"""Freeze the class token: at later places it is put back to what it was at an earlier one.

What it does:
    At each place, the class token becomes what it is at the site `from`, under the same condition: what an ablation
    before that site did to it is part of it. All other tokens stay as they are. So from there on other tokens read
    (through attention) the class token of that earlier site, and what blocks wrote to it since is gone. With several
    places it is put back at each; with `each: true` there is one condition for each place, which freezes it there
    alone: behind it, it moves on.
    `from` names a residual unit (then the stream after it) or else a module (its output), such as `blocks.3`.
Places:
    `role: stream` (the default) after residual units, or `role: output` of modules such as blocks, behind `from`,
    where the tokens hold a class token of the same width. At `blocks.5`, whose stream goes into block 6, block 6 is
    the first to read the frozen token. Registers stay. Models without a class token (ResNet, ConvNeXt, Swin, Mixer,
    ViTs that pool) have no such place.
What it does not show:
    Where the class token's information comes from, or that what the later blocks would have written to it is useless:
    they wrote it for a token that moves on, and blocks behind read an old token in a scale and at a depth that they
    never saw. Where the last place is the end of the model and its head reads the class token, accuracy falls to what
    the head makes of a token of an early depth: that says nothing of the other tokens.
Reference:
    Raghu et al. 2021 (arXiv 2108.08810), Section 4: in the first half of a ViT the class token is mostly carried by
    skips, in the second half it is what changes. This asks what of that change the other tokens need.

Example:
    ablations:
      frozen: {kind: freeze_cls, of: vit, from: "blocks.3", at: "blocks[4:]"}
"""

from typing import Any

import torch
from pydantic import Field
from torch import Tensor, fx

from vitdsl.dsl.study import Entry
from vitdsl.dsl.text import did_you_mean, shown
from vitdsl.runtime.ablations._base import Ablation
from vitdsl.runtime.graph.edit import Operation, Place, Rewriter
from vitdsl.runtime.graph.site import Site


class Params(Entry):
    """Where the class token comes from."""

    from_: str = Field(
        validation_alias="from",
        serialization_alias="from",
        description="The site, before all places, whose class token is put back: a residual unit or a module.",
    )


class FreezeCls(Ablation):
    """An earlier class token instead of each place's own."""

    name = "freeze_cls"
    cites = ("raghu2021",)
    Params = Params
    roles = ("stream", "output")

    def refuse(self, site: Site) -> str | None:
        """Where there is no class token, or others are named."""
        if site.layout != "tokens" or not site.class_token:
            return f"its tensor (shape {list(site.shape)} for one image) has no class token"
        if site.tokens not in ("all", "cls"):
            return "it changes the class token alone; leave `tokens:` out"
        return None

    def refuse_place(self, place: Place) -> str | None:
        """Where `from` is no site with such a class token, or does not come before."""
        assert isinstance(self.params, Params) and place.site is not None and place.others is not None
        why = self.refuse(place.site)
        if why:
            return why
        name, origin = self.params.from_, self._origin(place)
        if origin is None or origin.site is None:
            known = [*place.others.names("stream"), *place.others.names("output")]
            hint = did_you_mean(name, known) or "`vitdsl sites MODEL` shows what the model has"
            return f"there is no site `{shown(name)}` to take the class token from; {hint}"
        why = self.refuse(origin.site)
        if why:
            return f"at `{name}`, where the class token would come from, {why}"
        here, there = place.site.shape[1], origin.site.shape[1]
        if here != there:
            return f"its tokens have width {here}, and those at `{name}` {there}"
        order: list[fx.Node] = list(place.node.graph.nodes)
        if order.index(origin.node) >= order.index(place.node):
            return (
                f"it does not come after `{name}`; narrow `at:` to later places, or name an earlier `from:`"
            )
        return None

    def _origin(self, place: Place) -> Place | None:
        """Where the class token comes from, a unit's stream before a module's output; None where there is neither."""
        assert isinstance(self.params, Params) and place.others is not None
        name = self.params.from_
        role = next((one for one in ("stream", "output") if name in place.others.names(one)), None)
        return None if role is None else place.others.place(name, role)

    def rewrite(self, place: Place, build: Rewriter, *fitted: Any) -> Any:
        """The earlier class token before the place's own other tokens."""
        origin = self._origin(place)
        assert origin is not None
        return build.call(Operation(with_class_token_of), build.before, build.value(origin.node))


def with_class_token_of(tensor: Tensor, origin: Tensor) -> Tensor:
    """Tokens `[batch, token, width]`, the first of which is another tensor's."""
    return torch.cat([origin[:, :1].to(tensor.dtype), tensor[:, 1:]], 1)
