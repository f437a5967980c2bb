"""Which tokens of a tensor a layer reads or an ablation changes, whatever the tensor's axes are."""

import torch
from torch import Tensor

from vitdsl.runtime.graph.site import Site
from vitdsl.runtime.transfer import held, members, places

UNKNOWN_PREFIX = "it is not known which of its tokens are class or register tokens"
KINDS = {
    "attention inside windows": "its attention stays inside windows, so that its weights are not those of one image",
    "attention between the images of a batch": "its attention is between the images of a batch, not inside an image",
    "attention whose first axis is not the image": "its weights are not laid out image by image",
    "talking heads": "it has talking heads: what multiplies the values is mixed of all heads, and no head's shares",
    "differential attention": "it is differential attention: its weights are differences of shares, and no shares",
    "changed weights": "its weights are changed after their softmax, so that they are no shares",
    "channel attention": "it is channel attention: its queries and keys are channels, not tokens",
    "attention without queries": "it weighs all tokens for one sum and not for each token: it has keys and no queries",
    "attention over features": "its keys are features, not tokens",
    "attention of features": "its queries are features, not tokens",
}
"""What kinds of attention there are beside that of an image's tokens, and what is to be said of them."""


def prefix_of(site: Site) -> int:
    """Number of prefix tokens of a site where that is known; kinds refuse sites where it is not."""
    assert site.prefix is not None, site
    return site.prefix


def refuse_weights(site: Site, *, of_tokens: bool = True) -> str | None:
    """Why attention weights are not each query's shares of one image's tokens, or None.

    Args:
        site: Attention.
        of_tokens: Whether queries and keys must be tokens; otherwise shares of anything will do.
    """
    if site.layout == "windows":
        return KINDS[site.kind or "attention inside windows"]
    if site.kind and (of_tokens or not site.shares):
        return KINDS[site.kind]
    return None


def refuse_tokens(site: Site) -> str | None:
    """Why a site does not have the tokens that a layer selects, or None."""
    if site.layout == "windows":
        return "its tensor holds windows of images, not images; choose a site outside the window bookkeeping"
    if site.tokens == "all":
        return None
    if site.layout not in ("tokens", "map", "map_last"):
        return f"its tensor has no tokens (one image gives shape {list(site.shape)}); use `tokens: all`"
    if site.tokens == "cls" and not (site.layout == "tokens" and site.class_token):
        return "it has no class token; use `tokens: spatial` or `tokens: mean`"
    if site.layout == "tokens" and site.grid is None and site.tokens in ("spatial", "mean"):
        return "its token axis is not the model's patch grid; use `tokens: all`"
    if isinstance(site.tokens, tuple):
        count = token_count(site)
        wrong = [index for index in site.tokens if not -count <= index < count]
        if wrong:
            return f"it has {count} tokens, so there is no token {wrong[0]}"
    return None


def token_count(site: Site) -> int:
    """Number of tokens (positions) of a site."""
    if site.layout == "tokens":
        return site.shape[0]
    rows, cols = site.grid or (1, 1)
    return rows * cols


def chosen_tokens(site: Site) -> tuple[int, ...]:
    """Places of a layer's selected tokens on its token axis."""
    count = token_count(site)
    if isinstance(site.tokens, tuple):
        return tuple(token % count for token in site.tokens)
    if site.tokens == "cls":
        return (0,)
    return tuple(range(0 if site.tokens == "all" else prefix_of(site), count))


def as_tokens(tensor: Tensor, site: Site) -> Tensor:
    """A site's tensor as `[batch, token, width]`, tokens row by row; a view where possible."""
    if site.layout == "map":
        return tensor.flatten(2).transpose(1, 2)
    if site.layout == "map_last":
        return tensor.flatten(1, 2)
    return tensor


def select(tensor: Tensor, site: Site) -> Tensor:
    """The selected tokens of a site's tensor, flattened to `[batch, feature]`.

    The order of features depends on the layout; what is computed from them must not.
    """
    if site.tokens == "all":
        return tensor.flatten(1)
    tokens = as_tokens(tensor, site)
    chosen = places(tokens, 1, chosen_tokens(site))
    return (chosen.mean(1, dtype=torch.float32) if site.tokens == "mean" else chosen).flatten(1)


def only_tokens(before: Tensor, after: Tensor, *, site: Site) -> Tensor:
    """`after` at the selected tokens, `before` at all others; both `[batch, ...]` of the site's layout."""
    chosen = held(members, token_count(site), chosen_tokens(site), device=before.device)
    if site.layout == "tokens":
        mask = chosen[:, None]
    else:
        rows, cols = site.grid or (1, 1)
        mask = chosen.view(rows, cols) if site.layout == "map" else chosen.view(rows, cols, 1)
    return torch.where(mask, after, before)
