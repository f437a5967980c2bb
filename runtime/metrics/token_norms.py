"""Norms of a layer's tokens, and how many spatial tokens stand out: artifact tokens.

What it measures:
    How large the tokens of a layer are, by group (class token, registers, spatial tokens) and by place on the grid,
    and the share of spatial tokens whose norm is far above that of the others, with how much they resemble their
    neighbours. Large models park global information in a few such tokens on dull patches.
Formula:
    n = the norm of one token over its channels. mean and std of n over images and tokens of a group (std divided by
    the number of tokens); quantile = the norm that a share `quantile` of them does not exceed (1: the largest).
    An outlier is a spatial token of which log n > median + k MAD, both of log n over all spatial tokens and images of
    the layer, MAD = the median of |log n - median|, not rescaled; or n > `cutoff`, where that is given. threshold =
    that limit as a norm; outlier_share = outliers over spatial tokens. A token's neighbour cosine is the mean of its
    cosines with the tokens above, below, left and right of it; outlier_cosine and other_cosine are its means over the
    outliers and over all other spatial tokens. map = mean n at each place of the grid.
Shapes:
    Tokens `[batch, token, width]` on the patch grid or maps `[batch, width, row, col]`. map `[site, row, col]` has the
    finest grid of the layers, each place labelled with its first pixel; a coarser layer's places cover several.
Range:
    Norms from 0; outlier_share 0 to 1; cosines -1 to 1. A token of norm zero has no cosine and is left out of it. With
    normal log n, k = 5 marks the 0.04 % beyond 3.4 standard deviations.
Cost:
    Norms and two products of neighbours. Kept are three group histograms and two of cosines for each layer and image
    group: about 3,000 numbers with 64 bins per decade.
Reference:
    Darcet et al. 2023 (arXiv 2309.16588), Figures 2 to 5, with a cutoff chosen by hand (150 for DINOv2 ViT-g).
Limits:
    quantile, median and MAD come from counts in bins of log n, `bins_per_decade` of them for each power of ten between
    0.001 and 1,000,000, tokens taken to be evenly spread in their bin: they are exact to one bin, 3.7 % of a norm with
    64. A MAD below a quarter of a bin is not resolved; what falls to norms outside the bins is not defined. mean, std,
    map and what a cutoff gives are exact. Read a layer before the model's last norm, which hides large norms. A cutoff
    is of one model. Where norms have two modes, look at mean, std and quantile before you trust k.

Example:
    metrics:
      norms: {kind: token_norms, x: vit_blocks, under: baseline}
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from vitdsl.dsl.study import Entry
from vitdsl.runtime.graph.site import Site
from vitdsl.runtime.graph.tap import Reducer
from vitdsl.runtime.graph.tokens import UNKNOWN_PREFIX, as_tokens, prefix_of
from vitdsl.runtime.metrics._base import Array, Inputs, Metric, Seen, Value
from vitdsl.runtime.metrics._bins import Bins
from vitdsl.runtime.metrics._parts import widened

GROUPS = ("cls", "registers", "spatial")
SPATIAL = GROUPS.index("spatial")
OUTSIDE = "lies outside 0.001 to 1,000,000, or is not resolved there"


class Params(Entry):
    """Fields of its own."""

    k: float = Field(
        5.0,
        gt=0,
        description="An outlier's log norm exceeds the median by so many median absolute deviations.",
    )
    cutoff: float | None = Field(
        None,
        gt=0,
        description="A norm above which a spatial token is an outlier, whatever `k` is; null: by `k`.",
    )
    quantile: float = Field(
        0.99, gt=0, le=1, description="Which quantile of the norms is given; 1: the largest."
    )
    bins_per_decade: int = Field(
        64,
        ge=8,
        le=1024,
        description="Bins of norms for each power of ten: more are more exact, and cost more.",
    )


class TokenNorms(Metric):
    """Norms by token group and place, and spatial tokens with outlying norms."""

    name = "token_norms"
    Params = Params
    inputs = Inputs("layers", alone=True)
    degrees: ClassVar[Mapping[str, int]] = {"moments": 1, "counts": 1, "cosines": 1, "above": 1, "map": 1}
    VALUES: ClassVar[Mapping[str, Value]] = {
        "mean": Value(("site", "token"), "mean norm of a token", range=(0.0, None)),
        "std": Value(("site", "token"), "standard deviation of token norms", range=(0.0, None)),
        "quantile": Value(("site", "token"), "high quantile of token norms", range=(0.0, None)),
        "outlier_share": Value(
            ("site",), "share of spatial tokens with outlying norms", range=(0.0, 1.0), share="parts"
        ),
        "threshold": Value(("site",), "norm from which a spatial token is an outlier", range=(0.0, None)),
        "outlier_cosine": Value(("site",), "cosine of outliers with their neighbours", range=(-1.0, 1.0)),
        "other_cosine": Value(("site",), "cosine of other tokens with their neighbours", range=(-1.0, 1.0)),
        "map": Value(("site", "row", "col"), "mean norm of the token at a place", range=(0.0, None)),
    }
    reference = "Darcet et al. 2023, Figures 2 to 5"
    cites = ("darcet2023",)

    @property
    def bins(self) -> Bins:
        """The bins of norms."""
        assert isinstance(self.params, Params)
        return Bins(self.params.bins_per_decade)

    def refuse(self, site: Site) -> str | None:
        """Needs a grid of positions over the image, known prefix tokens, and all tokens."""
        if site.layout not in ("tokens", "map", "map_last") or site.grid is None or site.pixels is None:
            return f"one image's tensor has shape {list(site.shape)}, which is no grid over the image"
        if site.prefix is None:
            return UNKNOWN_PREFIX
        return None if site.tokens == "all" else "it sorts all tokens into groups; write `tokens: all`"

    def coordinates(self, sites: Sequence[Site]) -> dict[str, Sequence[str | int]]:
        """The token groups that the model has, and the first pixel of each place of the finest grid."""
        finest = _finest([site.grid for site in sites if site.grid])
        assert sites[0].pixels is not None
        rows, cols = (
            [round(i * pixels / count) for i in range(count)]
            for pixels, count in zip(sites[0].pixels, finest, strict=True)
        )
        return {"token": [GROUPS[i] for i in _groups(sites)], "row": rows, "col": cols}

    def reducer(self) -> Reducer:
        """Each image's moments, counts in bins, cosines by bin, and norms on the grid."""
        assert isinstance(self.params, Params)
        return Reducer(norms_of, (("bins", self.bins), ("cutoff", self.params.cutoff)))

    def observe(self, seen: Seen) -> dict[str, Tensor]:
        """Sums over images."""
        moments, counts, cosines, above = (
            seen.by_group(torch.stack([read[i] for read in seen.x], 1)) for i in range(4)
        )
        rows, cols = _finest([(read[4].shape[1], read[4].shape[2]) for read in seen.x])
        maps = torch.stack([_repeated(read[4], rows, cols) for read in seen.x], 1)
        return {
            "moments": moments,
            "counts": counts,
            "cosines": cosines,
            "above": above,
            "map": seen.by_group(maps),
        }

    def estimate(self, statistics: Mapping[str, Array], sites: Sequence[Site]) -> dict[str, Array]:
        """Moments from sums; quantile, median and MAD from counts in bins."""
        assert isinstance(self.params, Params)
        bins, chosen = self.bins, _groups(sites)
        counts, above = statistics["counts"], statistics["above"]
        spatial, cosines = counts[..., SPATIAL, :], statistics["cosines"]
        with np.errstate(divide="ignore", invalid="ignore"):
            moments = statistics["moments"]
            mean, square = (moments[..., chosen, i] / moments[..., chosen, 0] for i in (1, 2))
            if self.params.cutoff is None:
                limit = bins.above_median(spatial, self.params.k)
                outliers = bins.split(spatial, limit)[..., 1]
                count, total = np.moveaxis(bins.split(cosines, limit[..., None]), -2, 0)
            else:
                limit = np.where(spatial.sum(-1) > 0, bins.position(self.params.cutoff), np.nan)
                outliers, count, total = above[..., 0], above[..., 1:3], above[..., 3:5]
            cosine = np.clip(total / count, -1.0, 1.0)
            return {
                "mean": mean,
                "std": np.sqrt(np.maximum(square - mean**2, 0.0)),
                "quantile": bins.norm(bins.quantile(counts[..., chosen, :], self.params.quantile)),
                "outlier_share": np.clip(outliers / moments[..., SPATIAL, 0], 0.0, 1.0),
                "threshold": bins.norm(limit),
                "outlier_cosine": cosine[..., 1],
                "other_cosine": cosine[..., 0],
                "map": statistics["map"] / above[..., 5, None, None],
            }

    def undefined(self, statistics: Mapping[str, Array], x: Sequence[Site], y: Sequence[Site]) -> list[str]:
        """Name the layers that are not finite, or whose norms leave the bins."""
        found = self.estimate(statistics, x)
        reasons = []
        for i, site in enumerate(x):
            if not np.isfinite(statistics["moments"][i]).all():
                reasons.append(f"`{site.name}` has tokens that are not finite")
                continue
            for group, value in zip(_groups(x), found["quantile"][i], strict=True):
                if statistics["moments"][i, group, 0] > 0 and np.isnan(value):
                    reasons.append(
                        f"the quantile of the norms of {GROUPS[group]} tokens of `{site.name}` {OUTSIDE}"
                    )
            if np.isnan(found["threshold"][i]):
                reasons.append(f"the median of the norms of `{site.name}`, or k MAD above it, {OUTSIDE}")
            elif found["outlier_share"][i] == 0:
                reasons.append(f"`{site.name}` has no outliers, so they have no cosine")
        return reasons


def norms_of(
    tensor: Tensor, *, site: Site, bins: Bins, cutoff: float | None
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """What is kept of each image, float64 (float32 on mps).

    Args:
        tensor: `[batch, token, width]` or a map.
        site: Its grid and prefix.
        bins: The bins of norms.
        cutoff: A norm above which a spatial token is an outlier, if one is given.

    Returns:
        Tokens, sum and sum of squares of norms `[batch, group, 3]`; tokens by bin `[batch, group, bin]`; number and sum
        of neighbour cosines by bin `[batch, 2, bin]`; outliers by the cutoff, number of cosines of other tokens and of
        outliers, their sums, and 1 `[batch, 6]`; norms on the grid `[batch, row, col]`.
    """
    assert site.grid is not None
    each = (_norms_and_cosines(wide, site) for _, (wide,) in widened(as_tokens(tensor, site)))
    norms, defined, cosine = (torch.cat(part) for part in zip(*each, strict=True))
    exact = norms.dtype
    # NaN throughout where a token is not finite: no bin holds it.
    fine = torch.where(norms.isfinite().all(1), 1.0, torch.nan).to(exact)[:, None]
    first, prefix = int(site.class_token), prefix_of(site)
    groups = (norms[:, :first], norms[:, first:prefix], norms[:, prefix:])
    ones = [torch.ones_like(group) for group in groups]
    moments = torch.stack(
        [
            torch.stack([one.sum(1), group.sum(1), group.square().sum(1)], 1)
            for one, group in zip(ones, groups, strict=True)
        ],
        1,
    )
    counts = torch.stack([bins.summed(one, group) for one, group in zip(ones, groups, strict=True)], 1)
    spatial = norms[:, prefix:]
    cosines = torch.stack([bins.summed(one, spatial) for one in (defined, cosine)], 1)
    outlying = (spatial > (torch.inf if cutoff is None else cutoff)).to(exact)
    sides = [((1 - outlying) * one).sum(1) for one in (defined, cosine)]
    others = [(outlying * one).sum(1) for one in (outlying, defined, cosine)]
    kept = [others[0], sides[0], others[1], sides[1], others[2]]
    above = torch.stack([*kept, torch.ones_like(kept[0])], 1)
    return (
        moments * fine[..., None],
        counts * fine[..., None],
        cosines * fine[..., None],
        above * fine,
        spatial.reshape(len(spatial), *site.grid),
    )


def _norms_and_cosines(tokens: Tensor, site: Site) -> tuple[Tensor, Tensor, Tensor]:
    """Norms of all tokens, and `neighbour_cosines` of the spatial ones."""
    assert site.grid is not None
    norms = torch.linalg.vector_norm(tokens, dim=-1)
    grid, prefix = (len(tokens), *site.grid), prefix_of(site)
    return norms, *neighbour_cosines(tokens[:, prefix:].reshape(*grid, -1), norms[:, prefix:].reshape(grid))


def neighbour_cosines(grid: Tensor, norms: Tensor) -> tuple[Tensor, Tensor]:
    """Which tokens of a grid have one (1 or 0), and the mean cosine with their neighbours or 0.

    Both `[batch, token]`. Cosines are rounded to multiples of 2 to the power of -40, so that sums of those of an image
    are exact and do not depend on their order.

    Args:
        grid: `[batch, row, col, width]`.
        norms: Of its tokens, `[batch, row, col]`.
    """
    there = (norms > 0).to(grid.dtype)
    inverse = torch.where(norms > 0, 1 / norms, 0.0)
    total, count = torch.zeros_like(there), torch.zeros_like(there)
    for axis in (1, 2):
        size = grid.shape[axis]
        (a, b), sizes, ends = (
            (one.narrow(axis, 0, size - 1), one.narrow(axis, 1, size - 1)) for one in (grid, inverse, there)
        )
        cosine, both = (a * b).sum(-1) * sizes[0] * sizes[1], ends[0] * ends[1]
        for start in (0, 1):
            total.narrow(axis, start, size - 1).add_(cosine)
            count.narrow(axis, start, size - 1).add_(both)
    mean = torch.where(count > 0, total / count, 0.0)
    return (count > 0).to(grid.dtype).flatten(1), (torch.round(mean * 2**40) / 2**40).flatten(1)


def _groups(sites: Sequence[Site]) -> list[int]:
    """Which token groups some site has."""
    has = (
        any(site.class_token for site in sites),
        any(prefix_of(site) > int(site.class_token) for site in sites),
        True,
    )
    return [i for i, there in enumerate(has) if there]


def _finest(grids: Sequence[tuple[int, ...]]) -> tuple[int, int]:
    """The most rows and columns of any grid."""
    return max(grid[0] for grid in grids), max(grid[1] for grid in grids)


def _repeated(maps: Tensor, rows: int, cols: int) -> Tensor:
    """Maps `[batch, row, col]` on a finer grid: each fine place has the value of the coarse one that it lies in."""
    for axis, count in ((1, rows), (2, cols)):
        index = torch.arange(count, device=maps.device) * maps.shape[axis] // count
        maps = maps.index_select(axis, index)
    return maps
