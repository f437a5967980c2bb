"""Mean distance in pixels between a query patch and the patches that it attends to, for each head.

What it measures:
    How local a head is: small where queries attend to their neighbours, and near the dashed line (uniform
    attention) where they attend everywhere.
Formula:
    D_ij = Euclidean distance of patches i and j in pixels of the model's input (D_ii = 0). Prefix tokens
    (class token, registers) are dropped from queries and keys. distance_h = mean over queries i of sum_j
    A_hij D_ij, then the mean over images. With `renormalize: true` each query's weights over patches are
    first scaled to sum to one; a query that gives all of its weight to prefix tokens then counts as 0.
Shapes:
    Softmax weights `[batch, head, query, key]`.
Range:
    0 to the grid's diagonal, in pixels. Without renormalisation the weight that goes to prefix tokens
    shortens the distance; `prefix_mass` says how much weight that is.
Cost:
    One product over the weights. The attention that is read is computed un-fused; other blocks stay fused.
Reference:
    Raghu et al. 2021 (arXiv 2108.08810), Figures 3 and 4 (renormalize false); Dosovitskiy et al. 2020, Figure
    11; Walmer et al. 2023 (arXiv 2212.03862) renormalises.
Limits:
    For global attention over one patch grid. Windowed attention (Swin) and pooled keys (PVT, MViT) need
    coordinates that their weights do not have, and are refused.

Example:
    metrics:
      distance: {kind: attention_distance, of: vit, under: baseline}
"""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from vitdsl.dsl.study import Entry
from vitdsl.runtime.graph.site import Site
from vitdsl.runtime.graph.tap import Reducer
from vitdsl.runtime.graph.tokens import prefix_of, refuse_weights
from vitdsl.runtime.metrics._base import Array, Inputs, Metric, Seen, Value
from vitdsl.runtime.metrics._gram import accumulator
from vitdsl.runtime.metrics._parts import images_at_once
from vitdsl.runtime.transfer import held


class Params(Entry):
    """Fields of its own."""

    renormalize: bool = Field(
        False,
        description="true: scale each query's weights over patches to sum to one; false: as in the paper.",
    )


class AttentionDistance(Metric):
    """Attention-weighted distance of patches, in pixels of the model's input."""

    name = "attention_distance"
    Params = Params
    inputs = Inputs(roles=("attention",))
    degrees: ClassVar[Mapping[str, int]] = {"sums": 1, "images": 1}
    VALUES: ClassVar[Mapping[str, Value]] = {
        "distance": Value(("site", "head"), "mean attention distance", "px", "none", (0.0, None)),
        "prefix_mass": Value(
            ("site", "head"), "attention that spatial queries give to prefix tokens", "1", "none", (0.0, 1.0)
        ),
    }
    reference = "Raghu et al. 2021, Figures 3 and 4"
    cites = ("raghu2021", "dosovitskiy2021", "walmer2023")

    def refuse(self, site: Site) -> str | None:
        """Needs global attention over the patch grid."""
        if (why := refuse_weights(site)) is not None:
            return why
        if site.shape[-1] != site.shape[-2]:
            return f"its queries and keys have different grids ({site.shape[-2]} and {site.shape[-1]} tokens)"
        if site.grid is None:
            return f"its {site.shape[-1]} tokens are not the model's patch grid"
        return None

    def coordinates(self, sites: Sequence[Site]) -> dict[str, Sequence[str | int]]:
        """Heads by number."""
        return {"head": list(range(max(site.shape[0] for site in sites)))}

    def line(self, value: str, sites: Sequence[Site]) -> tuple[float, str] | None:
        """The distance of uniform attention, where all sites have one grid."""
        if value != "distance" or len({(site.grid, site.patch, site.prefix) for site in sites}) != 1:
            return None
        assert isinstance(self.params, Params)
        site = sites[0]
        distances = patch_distances(site)
        patches = distances.shape[0]
        share = 1.0 if self.params.renormalize else patches / (patches + prefix_of(site))
        return float(distances.mean()) * share, "uniform attention"

    def reducer(self) -> Reducer:
        """Each image's and head's distance and prefix mass."""
        assert isinstance(self.params, Params)
        return Reducer(distance_and_prefix_mass, (("renormalize", self.params.renormalize),))

    def observe(self, seen: Seen) -> dict[str, Tensor]:
        """Sums over images; sites with fewer heads are padded with NaN."""
        heads = max(read[0].shape[1] for read in seen.x)
        reach = [
            torch.nn.functional.pad(read, (0, 0, 0, heads - read.shape[1]), value=float("nan"))
            for (read,) in seen.x
        ]
        images = torch.ones_like(reach[0][:, 0, 0])
        return {"sums": seen.by_group(torch.stack(reach, 1)), "images": seen.by_group(images)}

    def estimate(self, statistics: Mapping[str, Array], sites: Sequence[Site]) -> dict[str, Array]:
        """Means over images."""
        with np.errstate(invalid="ignore"):
            means = statistics["sums"] / statistics["images"][..., None, None, None]
        return {"distance": means[..., 0], "prefix_mass": means[..., 1]}

    def undefined(self, statistics: Mapping[str, Array], x: Sequence[Site], y: Sequence[Site]) -> list[str]:
        """Name the places whose weights are not finite."""
        return [
            f"attention weights of `{site.name}` are not finite"
            for site, sums in zip(x, statistics["sums"], strict=True)
            if not np.isfinite(sums[: site.shape[0]]).all()
        ]


def distance_and_prefix_mass(attention: Tensor, *, site: Site, renormalize: bool) -> Tensor:
    """Distance (pixels) and prefix mass of each head, `[batch, head, 2]`, float64 (float32 on mps).

    Each query's weights are summed by themselves: one float32 sum over all pairs of a large grid would be off
    by as much as 5e-4 of it. A few images at a time, so that products stay in a cache.

    Args:
        attention: `[batch, head, query, key]`, softmax over keys, prefix tokens first.
        site: Its grid, patch size in pixels and number of prefix tokens.
        renormalize: Scale each query's weights over patches to sum to one (0 where all goes to prefix
            tokens).
    """
    assert site.grid is not None and site.patch is not None
    distances = held(_on_a_device, site.grid, site.patch, device=attention.device)
    parts = torch.split(attention, images_at_once(attention))
    return torch.cat([_reach(part, distances, prefix_of(site), renormalize) for part in parts])


def _reach(attention: Tensor, distances: Tensor, prefix: int, renormalize: bool) -> Tensor:
    exact = accumulator(attention.device)
    queries = attention[:, :, prefix:].float()
    prefix_mass = queries[..., :prefix].sum(-1)
    reach = (queries[..., prefix:] * distances).sum(-1)
    if renormalize:
        mass = queries[..., prefix:].sum(-1)
        reach = torch.where(mass == 0, torch.zeros_like(reach), reach / mass)
    return torch.stack([reach.mean(-1, dtype=exact), prefix_mass.mean(-1, dtype=exact)], -1)


def patch_distances(site: Site) -> Array:
    """Distances between the patches of a site's grid, in pixels, `[patch, patch]`."""
    assert site.grid is not None and site.patch is not None
    return _patch_distances(site.grid, site.patch)


def _on_a_device(grid: tuple[int, int], patch: tuple[float, float]) -> Tensor:
    return torch.from_numpy(_patch_distances(grid, patch)).float()


@cache
def _patch_distances(grid: tuple[int, int], patch: tuple[float, float]) -> Array:
    rows, cols = np.divmod(np.arange(grid[0] * grid[1]), grid[1])
    positions = np.stack([rows * patch[0], cols * patch[1]], 1).astype(np.float64)
    return np.asarray(np.linalg.norm(positions[:, None] - positions[None], axis=-1))
