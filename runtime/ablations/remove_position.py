"""Remove positions: what tells a model where its tokens stand becomes zero, or belongs to other places.

What it does:
    An absolute embedding is what is added to the tokens, the same for every image and different from token to token;
    a relative bias is what is added to the logits of an attention. `mode: zero` leaves it out, for prefix tokens too
    unless `tokens: spatial` is written. `mode: mean` gives every spatial token the mean of their embeddings, and every
    pair of spatial tokens the mean of their biases in the head, which in a softmax over these alone is the same as
    zero. `mode: shuffle` deals the embeddings out anew, in one order by chance for all images that hangs on `seed`;
    rows and columns of a bias change places together. In both, prefix tokens keep theirs.
Places:
    Position embeddings (`role: position`), absolute or relative, a ViT's `pos_embed` or the attention modules of a
    Swin; see `vitdsl sites MODEL --role position`. Where `at` is left out: all of a model. Not rotary embeddings, which
    multiply queries and keys and are refused; name the others with `at:` to change these alone.
What it does not show:
    That a model has no sense of place where little changes, or after it. Convolutions, the zeros around an image,
    windows, the merging of patches and the weights of token-mixing layers tell places too and stay, as do biases that
    are computed from the queries (as in SAM and MViTv2), an embedding that was added to the class token alone before
    the tokens met, and one inside a module that the graph keeps whole (as in NaFlex). A trained model never saw tokens
    without their embedding: a drop also shows that inputs became unlike what it knows. `mean` and `shuffle` change
    less.
Reference:
    Dosovitskiy et al. 2021 (arXiv 2010.11929), Appendix D.4, trains without; Naseer et al. 2021 (arXiv 2105.10497),
    Section 3.3, removes them in relation to shuffled patches.

Example:
    ablations:
      nowhere: {kind: remove_position, of: vit}
      elsewhere: {kind: remove_position, of: vit, mode: shuffle, vary: {seed: [0, 1, 2]}}
"""

from typing import Any, Literal

from pydantic import Field
from torch import Tensor

from vitdsl.dsl.study import Entry
from vitdsl.runtime.ablations._base import Ablation
from vitdsl.runtime.ablations._chance import order
from vitdsl.runtime.graph.edit import Operation, Place, Rewriter
from vitdsl.runtime.graph.site import Layout, Site
from vitdsl.runtime.graph.tokens import prefix_of
from vitdsl.runtime.graph.whole import is_rotary

AXES: dict[Layout, tuple[int, ...]] = {
    "tokens": (-2,),
    "map": (-2, -1),
    "map_last": (-3, -2),
    "attention": (-2, -1),
}
"""The axes of a tensor that are positions, counted from its end."""


class Params(Entry):
    """Fields of its own."""

    mode: Literal["zero", "shuffle", "mean"] = Field(
        "zero", description="What positions get: nothing, one another's embedding, or the mean of all."
    )
    seed: int = Field(0, ge=0, lt=2**63, description="What the order of `mode: shuffle` hangs on.")


class RemovePosition(Ablation):
    """No position embedding, or that of another place."""

    name = "remove_position"
    cites = ("dosovitskiy2021", "naseer2021")
    Params = Params
    roles = ("position",)

    def refuse(self, site: Site) -> str | None:
        """Where it is not known which of its entries are positions of patches."""
        assert isinstance(self.params, Params)
        if self.params.mode == "zero":
            return None
        if site.layout not in AXES or site.prefix is None:
            return "it is not known which of its tokens are patches; write `mode: zero`"
        if site.layout == "attention" and site.shape[-2] != site.shape[-1]:
            return "its queries are not its keys; write `mode: zero`"
        return None

    def refuse_place(self, place: Place) -> str | None:
        """Rotary embeddings."""
        assert place.site is not None
        if is_rotary(place.node):
            return (
                "it is a rotary embedding, which multiplies queries and keys and is not added; "
                "name the embeddings that are added with `at:`"
            )
        return self.refuse(place.site)

    def rewrite(self, place: Place, build: Rewriter, *fitted: Any) -> Any:
        """Nothing, or other embeddings, where the tokens or the logits take them."""
        assert isinstance(self.params, Params) and place.site is not None
        if self.params.mode == "zero":
            return build.nothing
        layout: tuple[tuple[str, Any], ...] = (
            ("axes", AXES[place.site.layout]),
            ("prefix", prefix_of(place.site)),
            ("together", place.site.layout == "attention"),
        )
        if self.params.mode == "mean":
            return build.call(Operation(averaged, layout), build.before)
        return build.call(Operation(dealt, (*layout, ("seed", self.params.seed))), build.before)


def averaged(embedding: Tensor, *, axes: tuple[int, ...], prefix: int, together: bool) -> Tensor:
    """The mean over spatial positions at each of them.

    Args:
        embedding: The embedding.
        axes: Its axes of positions, from its end.
        prefix: Tokens before the spatial ones, on each of these axes.
        together: Whether the axes are the same positions twice; otherwise rows and columns.
    """
    spatial = _spatial(embedding, axes, prefix)
    result = embedding.clone()
    _spatial(result, axes, prefix).copy_(spatial.mean(axes, keepdim=True).expand_as(spatial))
    return result


def dealt(embedding: Tensor, *, axes: tuple[int, ...], prefix: int, together: bool, seed: int) -> Tensor:
    """The embeddings of spatial positions in another order; see `averaged`."""
    spatial = _spatial(embedding, axes, prefix)
    result = embedding.clone()
    if together:
        chosen = order(spatial.shape[-1], seed, embedding.device)[0]
        other = spatial.index_select(axes[0], chosen).index_select(axes[1], chosen)
    else:
        first = spatial.ndim + axes[0]
        one_axis = spatial.flatten(first, first + len(axes) - 1)
        chosen = order(one_axis.shape[first], seed, embedding.device)[0]
        other = one_axis.index_select(first, chosen).reshape(spatial.shape)
    _spatial(result, axes, prefix).copy_(other)
    return result


def _spatial(embedding: Tensor, axes: tuple[int, ...], prefix: int) -> Tensor:
    """A view of the spatial positions."""
    for axis in axes:
        embedding = embedding.narrow(axis, prefix, embedding.shape[axis] - prefix)
    return embedding
