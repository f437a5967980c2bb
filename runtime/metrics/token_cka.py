"""Token-wise CKA: how alike two layers arrange the places of one image.

What it measures:
    Whether two layers put the same pairs of places of an image close together. Minibatch CKA (`cka`) compares how
    layers arrange images, and needs many; here the samples are the tokens of each image by itself, so that one image
    will do. Within one set of layers (`x` alone), across two sets (`x` and `y`), or each condition against the intact
    model at the same sites (`against: baseline`).
Formula:
    Of one image: X the n spatial tokens of a layer by its channels, K = X X', U(.) = zero diagonal and zero row sums.
    CKA = <U_K, U_L> / sqrt(<U_K, U_K> <U_L, U_L>): linear CKA with unbiased HSIC over the tokens. cka = its mean over
    images. Where `grid` is given, a layer's tokens are first averaged to so many rows and columns, as adaptive average
    pooling cuts them.
Shapes:
    A layer `[batch, token, width]` or `[batch, width, row, col]` on the patch grid; all layers need as many tokens,
    which `grid` gives them. Class and register tokens have no place in the image, and are not read.
Range:
    About 0 (unrelated) to 1 (equal up to rotation and scale); slightly below 0 is legitimate. An image in which a layer
    is the same at all places has no CKA there and is left out; fewer than 4 tokens are refused.
Cost:
    n^2 float32 numbers for each image and layer stay until the batch is observed.
Reference:
    Kornblith et al. 2019 (arXiv 1905.00414) for CKA, with the unbiased HSIC of Song et al. 2012. That tokens are the
    samples is a choice made here.
Limits:
    Neighbouring tokens are alike, so that n tokens say less than n images would. Position embeddings are in it: two
    layers that carry nothing but places are alike. It says nothing of how layers arrange different images.

Example:
    metrics:
      places: {kind: token_cka, x: vit_blocks, under: baseline}
      stages: {kind: token_cka, x: res_blocks, under: baseline, grid: [7, 7]}
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import prod
from typing import ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from vitdsl.dsl.diagnostics import Diagnostic, StudyError
from vitdsl.dsl.study import Entry
from vitdsl.runtime.graph.site import Site
from vitdsl.runtime.graph.tap import Reducer
from vitdsl.runtime.graph.tokens import UNKNOWN_PREFIX, as_tokens, prefix_of
from vitdsl.runtime.metrics._base import Array, Inputs, Metric, Seen, Value
from vitdsl.runtime.metrics._gram import CHUNK, SMALLEST_BATCH, accumulator, gram, u_center

Grid = tuple[int, int]


class Params(Entry):
    """Fields of its own."""

    grid: Grid | None = Field(
        None,
        strict=False,
        description="Rows and columns that each layer's tokens are averaged to; null: as they are.",
    )


class TokenCKA(Metric):
    """Linear CKA over the tokens of each image, its mean over images."""

    name = "token_cka"
    Params = Params
    inputs = Inputs("layers")
    identity = 1.0
    degrees: ClassVar[Mapping[str, int]] = {"cka": 1, "images": 1, "has_x": 1, "has_y": 1}
    VALUES: ClassVar[Mapping[str, Value]] = {
        "cka": Value(
            ("site_x", "site_y"),
            "token-wise CKA",
            direction="higher",
            range=(None, 1.0),
            correlation=True,
        )
    }
    reference = "Kornblith et al. 2019; Song et al. 2012"
    cites = ("kornblith2019", "song2012")

    def values(self, *, paired: bool) -> Mapping[str, Value]:
        """One matrix over sites, or one number for each site where `paired`."""
        value = self.VALUES["cka"]
        return {"cka": replace(value, dims=("site",))} if paired else self.VALUES

    def refuse(self, site: Site) -> str | None:
        """Needs a grid of positions over the image with enough of them, known prefix tokens, and all tokens."""
        if site.layout not in ("tokens", "map", "map_last") or site.grid is None:
            return f"one image's tensor has shape {list(site.shape)}, which is no grid over the image"
        if site.prefix is None:
            return UNKNOWN_PREFIX
        if site.tokens != "all":
            return "its samples are all spatial tokens; write `tokens: all`"
        wanted = self._grid
        if wanted is not None and (min(wanted) < 1 or any(map(_less, site.grid, wanted))):
            return f"its {site.grid[0]} x {site.grid[1]} tokens cannot be averaged to `grid: {list(wanted)}`"
        count = prod(wanted or site.grid)
        return None if count >= SMALLEST_BATCH else f"{count} tokens carry no unbiased CKA, which needs 4"

    def refuse_together(self, sites: Sequence[Site]) -> str | None:
        """Pairs of places are the same at all sites only on one grid."""
        grids = list(dict.fromkeys(site.grid for site in sites if site.grid))
        if self._grid is not None or len(grids) < 2:
            return None
        (a, b), (c, d) = grids[:2]
        smallest = [min(sizes) for sizes in zip(*grids, strict=True)]
        return f"their grids differ ({a} x {b} and {c} x {d}); write `grid: {smallest}` to average them"

    def held(self, site: Site, batch: int) -> int:
        """One matrix over tokens for each image."""
        return batch * prod(self._grid or site.grid or (0,)) ** 2

    @property
    def _grid(self) -> Grid | None:
        assert isinstance(self.params, Params)
        return self.params.grid

    def reducer(self) -> Reducer:
        """The matrix over tokens of each image, of unit norm."""
        return Reducer(token_grams, (("grid", self._grid),))

    def observe(self, seen: Seen) -> dict[str, Tensor]:
        """Sums over images of CKA, of how many have one, and of how many have a matrix at each site."""
        assert seen.y is not None
        left = torch.stack([matrix for (matrix,) in seen.x], 1)
        right = left if seen.y is seen.x else torch.stack([matrix for (matrix,) in seen.y], 1)
        if left.shape[-1] != right.shape[-1]:
            raise StudyError(_other_grid(left.shape[-1], right.shape[-1]))
        own = [_inner(one, one, paired=True) for one in (left, right)]
        x, y = own if seen.paired else (own[0][:, :, None], own[1][:, None, :])
        both = (x != 0) & (y != 0)
        cka = _inner(left, right, paired=seen.paired) / torch.where(both, (x * y).sqrt(), 1.0)
        has = [torch.where(one.isnan(), one, (one != 0).to(one.dtype)) for one in own]
        return {
            "cka": seen.by_group(cka),
            "images": seen.by_group(both.to(cka.dtype)),
            "has_x": seen.by_group(has[0]),
            "has_y": seen.by_group(has[1]),
        }

    def estimate(self, statistics: Mapping[str, Array], sites: Sequence[Site]) -> dict[str, Array]:
        """The mean over images that have one."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return {"cka": np.minimum(statistics["cka"] / statistics["images"], 1.0)}

    def undefined(self, statistics: Mapping[str, Array], x: Sequence[Site], y: Sequence[Site]) -> list[str]:
        """Name the layers that are the same at all places of every image, or not finite."""
        reasons = []
        for has, sites in ((statistics["has_x"], x), (statistics["has_y"], y)):
            for site, count in zip(sites, has, strict=True):
                if np.isnan(count):
                    reasons.append(f"`{site.name}` has tokens that are not finite: no CKA")
                elif count == 0:
                    reasons.append(f"`{site.name}` is the same at all places of every image: no CKA")
        return list(dict.fromkeys(reasons))


def token_grams(tensor: Tensor, *, site: Site, grid: Grid | None) -> Tensor:
    """The U-centred matrix of inner products of each image's tokens, `[batch, token, token]`, of unit norm; float32.

    Zero where the tokens are all the same, NaN where one is not finite.

    Args:
        tensor: The layer, `[batch, token, width]` or a map.
        site: Its grid and prefix.
        grid: Rows and columns that the tokens are averaged to; None leaves them.
    """
    tokens = as_tokens(tensor, site)[:, prefix_of(site) :].float()
    if grid is not None and grid != site.grid:
        assert site.grid is not None
        maps = tokens.mT.reshape(len(tokens), -1, *site.grid)
        tokens = F.adaptive_avg_pool2d(maps, grid).flatten(2).mT
    return torch.stack([_unit(u_center(gram(image))) for image in tokens])


def _unit(matrix: Tensor) -> Tensor:
    """A matrix over its norm; a zero matrix stays."""
    exact = matrix.to(accumulator(matrix.device))
    largest = exact.abs().max()
    scaled = exact / torch.where(largest > 0, largest, 1.0)
    norm = scaled.square().sum().sqrt()
    return (scaled / torch.where(norm > 0, norm, 1.0)).float()


def _inner(left: Tensor, right: Tensor, *, paired: bool) -> Tensor:
    """Inner products of matrices `[batch, site, token, token]`, float64: of each with each, or in pairs."""
    x, y = left.flatten(2), right.flatten(2)
    exact = accumulator(x.device)
    total = torch.zeros((), dtype=exact, device=x.device)
    for start in range(0, x.shape[2], CHUNK):
        a, b = (one[..., start : start + CHUNK].to(exact) for one in (x, y))
        total = total + ((a * b).sum(-1) if paired else a @ b.mT)
    return total


def _other_grid(x: int, y: int) -> Diagnostic:
    return Diagnostic(
        "VD302",
        f"`token_cka` compares the same places, and the layers of x have {x} tokens, those of y {y}",
        label="not defined",
        help=("write `grid: [rows, cols]` at the metric to average both to one grid",),
    )


def _less(size: int, wanted: int) -> bool:
    return size < wanted
