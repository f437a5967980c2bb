"""Drop tokens: a share of the patches of every image becomes zero, by chance or by salience.

What it does:
    Of N patches, `share` x N (rounded) become zero; tokens stay in the sequence and are still attended to.
    `space: tokens` (the default) zeroes them as the first block takes them: behind the patch embedding, the position
    embedding and a norm before the blocks, so that nothing tells where they were. `space: pixels` zeroes the patch in
    the preprocessed image, where zero is the mean colour of the preprocessing and not black; embedding and position
    stay. Prefix tokens are never dropped.
    `which: random` draws the patches from `seed` and, with `per: image`, from the pixels of the image as the model is
    given them: not from where it stands in the stream or in a batch. Equal images lose the same patches; models with
    other preprocessing lose others. `per: all` drops the same patches of all images. `which: salient` drops the most
    salient, `least_salient` the least: by `salience: norm` those whose embedded tokens have the largest Euclidean
    norm, by `salience: attention` those to which the class token attends most, mean over heads, in the attention
    `block`. Both are read in the model as the edits before this one leave it, with all tokens there.
Places:
    The embedded tokens (`role: embedding`), or with `space: pixels` the model's input (`role: image`), cut into `grid`
    x `grid` patches (null: the model's own); see `vitdsl sites MODEL --role embedding`. `space: tokens` not where a
    model has no patch embedding, such as a ResNet. Salience by attention needs a class token.
What it does not show:
    How a model would do with fewer tokens: zeros are still keys, and a zero token is not a missing one. Nor that
    dropped patches hold nothing where little changes: neighbours tell much of them. Salience by the model's own
    attention is the model's word about itself, not where the object is. Zeros in one space are not zeros in another:
    compare within one. One seed is one draw: sweep `seed` with `vary`.
Reference:
    Naseer et al. 2021 (arXiv 2105.10497), Section 3.1 (PatchDrop): random, salient and non-salient drops.

Example:
    ablations:
      occluded: {kind: drop_tokens, of: vit, vary: {share: [0.25, 0.5, 0.75], seed: [0, 1, 2, 3, 4]}}
      no_salient: {kind: drop_tokens, of: vit, share: 0.5, which: salient, salience: attention, block: blocks.11.attn}
"""

from collections.abc import Mapping
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from vitdsl.dsl.study import Entry
from vitdsl.runtime.ablations._base import Ablation
from vitdsl.runtime.ablations._chance import fingerprint, order, orders
from vitdsl.runtime.graph.edit import Operation, Place, Rewriter
from vitdsl.runtime.graph.site import Site
from vitdsl.runtime.graph.tokens import as_tokens, prefix_of
from vitdsl.runtime.graph.whole import EMBEDDING, IMAGES


class Params(Entry):
    """Fields of its own."""

    share: float = Field(0.5, ge=0, le=1, description="Share of the patches that are dropped.")
    which: Literal["random", "salient", "least_salient"] = Field("random", description="Which patches.")
    space: Literal["tokens", "pixels"] = Field(
        "tokens", description="Where they become zero: as embedded tokens, or in the image."
    )
    seed: int = Field(0, ge=0, lt=2**63, description="What `which: random` hangs on.")
    per: Literal["image", "all"] = Field(
        "image", description="`which: random` for each image from its pixels, or the same patches of all."
    )
    salience: Literal["norm", "attention"] = Field(
        "norm", description="What is salient: tokens of a large norm, or what the class token attends to."
    )
    block: str | None = Field(
        None, description="The attention module of `salience: attention`, such as `blocks.11.attn`."
    )
    grid: int | None = Field(
        None, ge=1, description="With `space: pixels`, patches in a row and a column; null: the model's own."
    )


class DropTokens(Ablation):
    """Zeros in place of some patches."""

    name = "drop_tokens"
    cites = ("naseer2021",)
    Params = Params
    roles = ("embedding", "image")

    @property
    def role(self) -> str:
        """The role of the space in which patches become zero."""
        return "embedding" if own(self).space == "tokens" else "image"

    def reads(self) -> Mapping[str, tuple[str, str]]:
        """The attention that says what is salient."""
        block = own(self).block
        if block is None or own(self).which == "random" or own(self).salience != "attention":
            return {}
        return {"block": (block, "attention")}

    def refuse_training(self) -> str | None:
        """Salience that is read behind the place: the model would run twice, each time with draws of its own."""
        if own(self).which == "random" or self.role == "embedding" and not self.reads():
            return None
        return "its salience is read from a run of the model before the one that is changed"

    def refuse_place(self, place: Place) -> str | None:
        """Another space than the role's, patches that are not known, and salience that is not there."""
        assert place.site is not None and place.others is not None
        if place.site.role != self.role:
            return f"`space: {own(self).space}` is the role `{self.role}`; leave `role:` out"
        if own(self).space == "tokens" and own(self).grid is not None:
            return "the grid of tokens is the model's own; leave `grid:` out, or write `space: pixels`"
        grid, model = self._grid(place), self._model_grid(place)
        if grid is None:
            return "its patches are not known; write `space: pixels` and how many with `grid:`"
        _, height, width = _image(place).shape
        if own(self).space == "pixels" and (height % grid[0] or width % grid[1]):
            return f"images of {height} x {width} pixels cannot be cut into {grid[0]} x {grid[1]} patches"
        if own(self).which == "random":
            return None
        if model != grid:
            return "salience is that of the model's own patches; leave `grid:` out"
        return self._refuse_salience(place)

    def _refuse_salience(self, place: Place) -> str | None:
        assert place.others is not None
        if (own(self).salience == "attention") != (own(self).block is not None):
            return "`block:` names the attention of `salience: attention`; write both or neither"
        for name, role in self.reads().values():
            site = place.others.place(name, role).site
            assert site is not None
            if site.layout != "attention" or not site.class_token or site.grid != self._model_grid(place):
                return f"`{name}` has no class token that attends to all patches; write `salience: norm`"
        return None

    def rewrite(self, place: Place, build: Rewriter, *fitted: Any) -> Any:
        """Zeros at the chosen patches."""
        assert place.site is not None
        grid = self._grid(place)
        assert grid is not None
        chosen = self._chosen(place, build, grid)
        if own(self).space == "pixels":
            return build.call(Operation(without_pixels, (("grid", grid),)), build.before, chosen)
        return build.call(Operation(without_tokens, (("site", place.site.nameless()),)), build.before, chosen)

    def _chosen(self, place: Place, build: Rewriter, grid: tuple[int, int]) -> Any:
        """Which patches are dropped, `[image or 1, patch]`."""
        assert place.others is not None
        total = grid[0] * grid[1]
        size = (("count", round(own(self).share * total)), ("total", total))
        images = build.value(place.others.place(IMAGES, "image").node)
        if own(self).which == "random":
            constants = (*size, ("seed", own(self).seed))
            if own(self).per == "all":
                return build.call(Operation(drawn_once, constants), images)
            return build.call(Operation(drawn, constants), build.call(Operation(fingerprint), images))
        name, role = next(iter(self.reads().values()), (EMBEDDING, "embedding"))
        read = place.others.place(name, role)
        assert read.site is not None
        tensor = build.before if read.node is place.node else build.ahead(read.node)
        which = (("site", read.site.nameless()), *size, ("largest", own(self).which == "salient"))
        return build.call(Operation(by_attention if role == "attention" else by_norm, which), tensor)

    def _grid(self, place: Place) -> tuple[int, int] | None:
        side = own(self).grid
        return self._model_grid(place) if side is None else (side, side)

    def _model_grid(self, place: Place) -> tuple[int, int] | None:
        assert place.others is not None
        if EMBEDDING not in place.others.names("embedding"):
            return None
        site = place.others.place(EMBEDDING, "embedding").site
        return None if site is None else site.grid


def own(kind: Ablation) -> Params:
    """The parameters of an ablation of this kind."""
    assert isinstance(kind.params, Params)
    return kind.params


def _image(place: Place) -> Site:
    assert place.others is not None
    site = place.others.place(IMAGES, "image").site
    assert site is not None
    return site


def drawn(prints: Tensor, *, count: int, total: int, seed: int) -> Tensor:
    """Patches by chance for each image, from the fingerprints of images `[image]`."""
    return _first(orders(prints, total, seed), count)


def drawn_once(images: Tensor, *, count: int, total: int, seed: int) -> Tensor:
    """Patches by chance, the same for all images."""
    return _first(order(total, seed, images.device), count)


def by_norm(tokens: Tensor, *, site: Site, count: int, total: int, largest: bool) -> Tensor:
    """The patches whose tokens have the largest or the smallest norm; of equals the first."""
    spatial = as_tokens(tokens, site)[:, prefix_of(site) :]
    return _ranked(spatial.double().norm(dim=-1), count, largest)


def by_attention(weights: Tensor, *, site: Site, count: int, total: int, largest: bool) -> Tensor:
    """The patches to which the class token attends most or least, by weights `[image, head, query, key]`."""
    return _ranked(weights[:, :, 0, prefix_of(site) :].double().mean(1), count, largest)


def _ranked(salience: Tensor, count: int, largest: bool) -> Tensor:
    return _first(salience.detach().argsort(dim=1, descending=largest, stable=True), count)


def _first(ranked: Tensor, count: int) -> Tensor:
    """Whether each patch is among the first of a ranking `[image, patch]`."""
    return ranked.argsort(dim=1) < count


def without_tokens(tensor: Tensor, chosen: Tensor, *, site: Site) -> Tensor:
    """A site's tensor with zeros at the chosen spatial tokens `[image or 1, patch]`."""
    if site.layout == "tokens":
        chosen = torch.nn.functional.pad(chosen, (prefix_of(site), 0))[:, :, None]
    else:
        assert site.grid is not None
        chosen = chosen.reshape(-1, *site.grid)
        chosen = chosen[:, None] if site.layout == "map" else chosen[..., None]
    return tensor.masked_fill(chosen, 0.0)


def without_pixels(images: Tensor, chosen: Tensor, *, grid: tuple[int, int]) -> Tensor:
    """Images `[image, channel, row, col]` with zeros at the chosen patches `[image or 1, patch]`."""
    rows, cols = images.shape[2] // grid[0], images.shape[3] // grid[1]
    mask = chosen.reshape(-1, *grid).repeat_interleave(rows, 1).repeat_interleave(cols, 2)
    return images.masked_fill(mask[:, None], 0.0)
