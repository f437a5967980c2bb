"""What one query attends to, as maps over the image: the mean over images, and some images one by one.

What it measures:
    Where the class token, or one patch, looks: each head's weights on the patches. The mean map shows what a head does
    whatever the image, such as looking at the middle; the examples show what hangs on the image.
Formula:
    a = row of the softmax weights of the query, its columns of patches; columns of prefix tokens (class token,
    registers) are dropped, and the rest is not scaled up. map = mean of a over images. example = a of each of the first
    `images` images of the stream. peak = mean over images of max(a) / sum(a), of those whose a is not all zero. pixels
    = the same first images as the model gets them, after preprocessing, averaged over square cells of pixels.
Shapes:
    Softmax weights `[batch, head, token, token]` over one patch grid, and the images `[batch, 3, row, col]`. map
    `[site, head, row, col]`, example `[site, head, image, row, col]`, rows and columns labelled with their first pixel,
    images with their position in the stream (`images.csv` has their ids). pixels `[image, pixel_row, pixel_col, rgb]`,
    at most 64 pixels high and wide. The query stands in the coordinate `query`.
Range:
    All from 0 to 1. Even attention gives every patch 1 / (number of tokens), and has the peak 1 / (number of patches).
Cost:
    One row of the weights. Examples are few, are kept once and have no intervals; mean maps have them. The attention
    that is read is computed un-fused; other blocks stay fused.
Reference:
    Vaswani et al. 2017 (arXiv 1706.03762) for the weights; Caron et al. 2021 (arXiv 2104.14294) for maps of the class
    token's heads.
Limits:
    Attention is where a head reads, not what it makes of it. Normalisation is not undone: an image is its normalised
    values, scaled so that the smallest of its pixels and colours is 0 and the largest 1, so that its colours are near
    to the file's and not the same. Of inputs with more than three channels the first three are kept, and one channel
    stands for three. Windowed attention (Swin) and pooled keys (PVT, MViT) are refused.

Example:
    metrics:
      looks: {kind: attention_map, of: vit, under: baseline}
      corner: {kind: attention_map, of: vit, under: baseline, query: [0, 0], images: 2}
"""

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from vitdsl.dsl.study import Entry
from vitdsl.runtime.graph.site import Site
from vitdsl.runtime.graph.tap import Reducer
from vitdsl.runtime.graph.tokens import prefix_of, refuse_weights
from vitdsl.runtime.metrics._base import Array, Inputs, Metric, Seen, Value
from vitdsl.runtime.metrics._gram import accumulator

PIXELS = 64
"""At most so many rows and columns of an image are kept."""
COLOURS = ("red", "green", "blue")


class Params(Entry):
    """Fields of its own."""

    query: Literal["cls", "centre"] | list[int] | None = Field(
        None,
        description="Whose attention is shown: `cls`, `centre` (the patch at row H // 2, column W // 2), or a patch's "
        "`[row, col]`; null: the class token where there is one, else the centre.",
    )
    images: int = Field(
        4, ge=1, le=16, description="How many images are kept one by one, the first of the stream."
    )

    @property
    def token(self) -> str | tuple[int, ...] | None:
        """The query; a patch as a tuple, for it has to be hashable."""
        return tuple(self.query) if isinstance(self.query, list) else self.query


class AttentionMap(Metric):
    """One query's attention on the patches, head by head."""

    name = "attention_map"
    Params = Params
    inputs = Inputs(roles=("attention",), image=True)
    degrees: ClassVar[Mapping[str, int]] = {"maps": 1, "peaks": 1, "images": 1}
    examples = ("some", "pixels", "kept")
    VALUES: ClassVar[Mapping[str, Value]] = {
        "map": Value(("site", "head", "row", "col"), "mean attention to each patch", "1", "none", (0.0, 1.0)),
        "example": Value(
            ("site", "head", "image", "row", "col"),
            "attention to each patch of single images",
            "1",
            "none",
            (0.0, 1.0),
            example=True,
        ),
        "peak": Value(
            ("site", "head"), "largest patch's share of the attention to patches", "1", "none", (0.0, 1.0)
        ),
        "pixels": Value(
            ("image", "pixel_row", "pixel_col", "rgb"),
            "images as the model gets them, scaled",
            "1",
            "none",
            (0.0, 1.0),
            example=True,
        ),
    }
    reference = "Vaswani et al. 2017; Caron et al. 2021"
    cites = ("vaswani2017", "caron2021")

    def refuse(self, site: Site) -> str | None:
        """Needs global attention over the patch grid, and the query in it."""
        if (why := refuse_weights(site)) is not None:
            return why
        if site.shape[-1] != site.shape[-2]:
            return f"its queries and keys have different grids ({site.shape[-2]} and {site.shape[-1]} tokens)"
        if site.grid is None or site.prefix is None:
            return f"its {site.shape[-1]} tokens are not the model's patch grid"
        query = _fields(self).token
        if query == "cls" and not site.class_token:
            return "it has no class token: write `query: centre`, or a patch's `[row, col]`"
        if isinstance(query, tuple) and not _is_in(query, site.grid):
            rows, cols = site.grid
            return (
                f"its grid has {rows} rows and {cols} columns of patches, and no `[row, col]` {list(query)}"
            )
        return None

    def held(self, site: Site, batch: int) -> int:
        """Of each image one row of the weights for each head, and its pixels."""
        height, width = (math.ceil(n / _cell(site)) for n in _pixels(site))
        return batch * (site.shape[0] * site.shape[-1] + len(COLOURS) * height * width)

    def coordinates(self, sites: Sequence[Site]) -> dict[str, Sequence[str | int]]:
        """Heads and images by number, rows and columns by their first pixel, and the query in words."""
        site = sites[0]
        assert site.grid is not None and site.patch is not None
        place, (rows, cols) = _query(site, _fields(self).token), _pixels(site)
        return {
            "head": list(range(max(site.shape[0] for site in sites))),
            "row": [round(i * site.patch[0]) for i in range(site.grid[0])],
            "col": [round(i * site.patch[1]) for i in range(site.grid[1])],
            "image": list(range(_fields(self).images)),
            "pixel_row": list(range(0, rows, _cell(site))),
            "pixel_col": list(range(0, cols, _cell(site))),
            "rgb": COLOURS,
            "query": ["class token" if place is None else f"patch at row {place[0]}, column {place[1]}"],
        }

    def line(self, value: str, sites: Sequence[Site]) -> tuple[float, str] | None:
        """The peak of even attention."""
        if value != "peak":
            return None
        return 1 / (sites[0].shape[-1] - prefix_of(sites[0])), "uniform attention"

    def reducer(self) -> Reducer:
        """Each image's and head's row of the query, and the batch's first images, small."""
        constants = (("query", _fields(self).token), ("images_kept", _fields(self).images))
        return Reducer(rows_and_images, constants)

    def observe(self, seen: Seen) -> dict[str, Tensor]:
        """Sums over images, and the first images of the stream; sites with fewer heads are padded with NaN."""
        heads = max(read.shape[1] for read, _ in seen.x)
        exact = accumulator(seen.x[0][0].device)
        padded = [F.pad(read, (0, 0, 0, heads - read.shape[1]), value=float("nan")) for read, _ in seen.x]
        rows = torch.stack(padded, 1).to(exact)
        total = rows.sum(-1)
        peak = torch.where(total == 0, 0.0, rows.amax(-1) / total)
        first, pixels = seen.rows.start, seen.x[0][1].to(exact)
        few = range(first, min(seen.rows.stop, _fields(self).images))
        return {
            "maps": seen.by_group(rows),
            "peaks": seen.by_group(torch.stack([peak, (total != 0).to(exact)], -1)),
            "images": seen.by_group(torch.ones_like(total[:, 0, 0])),
            "some": self._placed(rows, few),
            "pixels": self._placed(pixels, few),
            "kept": self._placed(torch.ones_like(total[:, 0, 0]), few),
        }

    def estimate(self, statistics: Mapping[str, Array], sites: Sequence[Site]) -> dict[str, Array]:
        """Means over images, and the examples as they are; NaN for images that a stream does not have."""
        assert sites[0].grid is not None
        peaks, kept = statistics["peaks"], statistics["kept"]
        with np.errstate(invalid="ignore", divide="ignore"):
            maps = statistics["maps"] / statistics["images"][..., None, None, None]
            some = statistics["some"] / kept[..., None, None, None]
            pixels = statistics["pixels"] / kept[..., None, None, None]
            peak = peaks[..., 0] / peaks[..., 1]
        some = np.moveaxis(some, -4, -2)
        return {
            "map": maps.reshape(*maps.shape[:-1], *sites[0].grid),
            "example": some.reshape(*some.shape[:-1], *sites[0].grid),
            "peak": peak,
            "pixels": np.moveaxis(pixels, -3, -1),
        }

    def undefined(self, statistics: Mapping[str, Array], x: Sequence[Site], y: Sequence[Site]) -> list[str]:
        """Name the places whose weights are not finite or always zero, and the images that are not there."""
        reasons = []
        for site, maps, peaks in zip(x, statistics["maps"], statistics["peaks"], strict=True):
            heads = site.shape[0]
            if not np.isfinite(maps[:heads]).all():
                reasons.append(f"attention weights of `{site.name}` are not finite")
            elif not peaks[:heads, 1].all():
                reasons.append(f"a head of `{site.name}` gives patches nothing, in any image: no peak")
        lacking = int((statistics["kept"] == 0).sum())
        if lacking:
            reasons.append(f"the stream has {len(statistics['kept']) - lacking} images: fewer than `images`")
        return reasons

    def _placed(self, each: Tensor, few: range) -> Tensor:
        """What belongs to a batch's images, `[batch, ...]`, at the places of those that are kept: `[image, ...]`."""
        found = each.new_zeros(_fields(self).images, *each.shape[1:])
        found[few.start : few.stop] = each[: len(few)]
        return found


def _fields(kind: AttentionMap) -> Params:
    assert isinstance(kind.params, Params)
    return kind.params


def rows_and_images(
    attention: Tensor, images: Tensor, *, site: Site, query: str | tuple[int, ...] | None, images_kept: int
) -> tuple[Tensor, Tensor]:
    """The query's weights on the patches, `[batch, head, patch]`; the first images `[image, rgb, row, col]`, in 0..1.

    Both float32. An image that is kept stands among the first so many of its batch.

    Args:
        attention: `[batch, head, token, token]`, softmax over the last axis, prefix tokens first.
        images: `[batch, channel, row, col]`, that the attention was computed from.
        site: Its grid, number of prefix tokens and size of the images.
        query: As in a study.
        images_kept: How many images of a stream are kept.
    """
    prefix, place = prefix_of(site), _query(site, query)
    assert site.grid is not None
    row = 0 if place is None else prefix + place[0] * site.grid[1] + place[1]
    return attention[:, :, row, prefix:].float(), _small(images[:images_kept].float(), _cell(site))


def _query(site: Site, query: str | tuple[int, ...] | None) -> tuple[int, int] | None:
    """Row and column of the query's patch; None for the class token."""
    assert site.grid is not None
    if isinstance(query, tuple):
        return query[0], query[1]
    if query == "cls" or (query is None and site.class_token):
        return None
    return site.grid[0] // 2, site.grid[1] // 2


def _is_in(query: tuple[int, ...], grid: tuple[int, int]) -> bool:
    """Whether a query is a row and a column of a grid."""
    return len(query) == 2 and all(0 <= place < count for place, count in zip(query, grid, strict=True))


def _small(images: Tensor, cell: int) -> Tensor:
    """Images averaged over cells, three channels, each image from its smallest value to its largest."""
    colours = (
        images[:, : len(COLOURS)] if images.shape[1] >= len(COLOURS) else images[:, :1].expand(-1, 3, -1, -1)
    )
    means = F.avg_pool2d(colours, cell, ceil_mode=True)
    low, high = means.amin((1, 2, 3), keepdim=True), means.amax((1, 2, 3), keepdim=True)
    return torch.where(high > low, (means - low) / (high - low), torch.zeros_like(means))


def _cell(site: Site) -> int:
    """Side of the cells of pixels that are averaged: the smallest that fits."""
    return math.ceil(max(_pixels(site)) / PIXELS)


def _pixels(site: Site) -> tuple[int, int]:
    assert site.pixels is not None
    return site.pixels
