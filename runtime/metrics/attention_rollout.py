"""Attention followed through all blocks up to each one, skips included: attention rollout.

What it measures:
    From which patches a block's tokens may have taken what they carry, if attention and skips alone moved it: the
    weights of all blocks up to there, multiplied. A map over the image for each block, and how far it spreads.
Formula:
    A_l = fusion over heads of the weights of block l; the smallest share `discard` of its weights set to zero.
    A^_l = (A_l + I), each row scaled to sum to one. R_l = A^_l R_(l-1), R_0 = I. map = the row of R_l of the class
    token, or the mean of the rows of all patches where there is none; its columns of patches; mean over images.
    cls_mass = what the class token's row keeps for itself. own_share = mean over patches i of R_l[i, i]. distance =
    mean over patches i of sum over patches j of R_l[i, j] D_ij, D_ij their distance in pixels of the model's input.
    Columns of prefix tokens are dropped, and the rest is not scaled up, as in `attention_distance`.
Shapes:
    Softmax weights `[batch, head, token, token]` of every block, one patch grid, prefix tokens first. map `[site, row,
    col]`, each row and column labelled with its first pixel.
Range:
    map, cls_mass and own_share 0 to 1; distance 0 to the grid's diagonal, in pixels.
Cost:
    token^2 float32 numbers for each image, block and condition stay until the batch is observed (`vitdsl plan` counts
    them), then one product of such matrices for each block, in float64. Above 2 million of them, 1448 tokens, it is
    refused.
Reference:
    Abnar and Zuidema 2020 (arXiv 2005.00928), with the mean over heads. Its weight of one half on I is what scaling the
    rows of mean + I gives. Other fusions and `discard` are common in code that follows it, and change maps a lot.
Limits:
    It knows nothing of values, norms and MLPs, and takes every skip to be there: under `remove_skip` and
    `remove_branch` it still adds I and multiplies A. Blocks that `at` leaves out are left out of the product, and
    parallel attentions count as one behind the other. Windowed attention and pooled keys (Swin, PVT, MViT) have no
    weights between all tokens: such a model is refused, even if a few of its blocks have them.

Example:
    metrics:
      rollout: {kind: attention_rollout, of: vit, under: baseline}
      sharp: {kind: attention_rollout, of: vit, under: baseline, fusion: max, discard: 0.9}
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar, Literal

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
from vitdsl.runtime.metrics.attention_distance import patch_distances
from vitdsl.runtime.transfer import held

LARGEST = 1 << 21
"""Most weights of one block, heads fused, that are kept of each image."""
CHUNK = 1 << 22
"""Weights that are multiplied at a time."""


class Params(Entry):
    """Fields of its own."""

    fusion: Literal["mean", "max", "min"] = Field("mean", description="What becomes of the heads' weights.")
    discard: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Share of each block's fused weights, the smallest, that are set to zero.",
    )


class AttentionRollout(Metric):
    """The product of all blocks' attention with skips, as maps and scalars."""

    name = "attention_rollout"
    Params = Params
    inputs = Inputs(roles=("attention",))
    together = True
    degrees: ClassVar[Mapping[str, int]] = {"sums": 1, "images": 1}
    VALUES: ClassVar[Mapping[str, Value]] = {
        "map": Value(("site", "row", "col"), "attention rollout to each patch", "1", "none", (0.0, 1.0)),
        "own_share": Value(("site",), "rollout of patches to themselves", "1", "none", (0.0, 1.0)),
        "distance": Value(("site",), "mean distance of the rollout of patches", "px", "none", (0.0, None)),
        "cls_mass": Value(("site",), "rollout of the class token to itself", "1", "none", (0.0, 1.0)),
    }
    reference = "Abnar and Zuidema 2020"
    cites = ("abnar2020",)

    def refuse(self, site: Site) -> str | None:
        """Needs weights between all tokens of the patch grid, not too many to keep for each image."""
        if (why := refuse_weights(site)) is not None:
            return why
        if site.shape[-1] != site.shape[-2]:
            return f"its queries and keys have different grids ({site.shape[-2]} and {site.shape[-1]} tokens)"
        if site.grid is None or site.prefix is None:
            return f"its {site.shape[-1]} tokens are not the model's patch grid"
        if site.shape[-1] ** 2 > LARGEST:
            kept = f"{site.shape[-1] ** 2 / 1e6:.1f} million numbers for each image and block"
            return (
                f"its {site.shape[-1]} tokens would keep {kept}, and {LARGEST / 1e6:.1f} million are the most"
            )
        return None

    def held(self, site: Site, batch: int) -> int:
        """The fused weights of each image."""
        return batch * site.shape[-1] ** 2

    def coordinates(self, sites: Sequence[Site]) -> dict[str, Sequence[str | int]]:
        """The first pixel of each row and column of patches."""
        (rows, cols), (height, width) = _geometry(sites[0])
        return {
            "row": [round(i * height) for i in range(rows)],
            "col": [round(i * width) for i in range(cols)],
        }

    def line(self, value: str, sites: Sequence[Site]) -> tuple[float, str] | None:
        """The distance of a rollout that reaches all tokens alike."""
        if value != "distance":
            return None
        distances = patch_distances(sites[0])
        return float(distances.sum(1).mean()) / sites[0].shape[-1], "uniform attention"

    def reducer(self) -> Reducer:
        """Each image's weights, heads fused, and where the tokens stand."""
        assert isinstance(self.params, Params)
        return Reducer(fused, (("fusion", self.params.fusion), ("discard", self.params.discard)))

    def observe(self, seen: Seen) -> dict[str, Tensor]:
        """Sums over images of rows and scalars; a few images at a time are multiplied."""
        weights, tokens = [read for read, _ in seen.x], seen.x[0][1]
        step = max(1, CHUNK // weights[0][0].numel())
        few = zip(*(torch.split(one, step) for one in weights), strict=True)
        rolled = torch.cat([torch.stack(list(_rolled(some, tokens)), 1) for some in few])
        return {"sums": seen.by_group(rolled), "images": seen.by_group(torch.ones_like(rolled[:, 0, 0]))}

    def estimate(self, statistics: Mapping[str, Array], sites: Sequence[Site]) -> dict[str, Array]:
        """Means over images; the columns of patches are the map."""
        site = sites[0]
        grid, _ = _geometry(site)
        with np.errstate(invalid="ignore", divide="ignore"):
            means = statistics["sums"] / statistics["images"][..., None, None]
        rows, scalars = means[..., : site.shape[-1]], means[..., site.shape[-1] :]
        maps = rows[..., prefix_of(site) :]
        return {
            "map": maps.reshape(*maps.shape[:-1], *grid),
            "own_share": scalars[..., 0],
            "distance": scalars[..., 1],
            "cls_mass": rows[..., 0] if site.class_token else np.full(rows.shape[:-1], np.nan),
        }

    def undefined(self, statistics: Mapping[str, Array], x: Sequence[Site], y: Sequence[Site]) -> list[str]:
        """Name the first place whose weights are not finite, and say where there is no class token."""
        broken = [
            site.name for site, sums in zip(x, statistics["sums"], strict=True) if not np.isfinite(sums).all()
        ]
        reasons = [f"attention weights of `{broken[0]}` are not finite"] if broken else []
        return reasons if x[0].class_token else [*reasons, "there is no class token: no `cls_mass`"]


def fused(attention: Tensor, *, site: Site, fusion: str, discard: float) -> tuple[Tensor, Tensor]:
    """The weights of a block with its heads fused, `[batch, token, token]`, float32; and `tokens_of` the site.

    Args:
        attention: `[batch, head, token, token]`, softmax over the last axis.
        site: Where its tokens stand.
        fusion: `mean`, `max` or `min` over heads.
        discard: Share of an image's fused weights, the smallest, set to zero; of equal ones the first.
    """
    weights = attention.float()
    one = weights.mean(1) if fusion == "mean" else weights.amax(1) if fusion == "max" else weights.amin(1)
    flat = one.flatten(1)
    if few := int(discard * flat.shape[1]):
        smallest = flat.sort(dim=1, stable=True).indices[:, :few]
        flat = torch.where(flat.isfinite().all(1, keepdim=True), flat.scatter(1, smallest, 0.0), torch.nan)
    exact = accumulator(attention.device)
    return flat.view_as(one), held(tokens_of, site.nameless(), device=attention.device, dtype=exact)


def tokens_of(site: Site) -> Tensor:
    """For each token: its weight among the rows of the map, its weight among patches, its row and column in pixels.

    `[token, 4]`, float64; prefix tokens have no place, and no weight among patches.
    """
    (rows, cols), (height, width) = _geometry(site)
    patches, prefix = rows * cols, prefix_of(site)
    found = torch.zeros(prefix + patches, 4, dtype=torch.float64)
    found[prefix:, 1] = 1 / patches
    found[prefix:, 2] = height * (torch.arange(patches) // cols)
    found[prefix:, 3] = width * (torch.arange(patches) % cols)
    found[:, 0] = found[:, 1]
    if site.class_token:
        found[:, 0] = torch.arange(prefix + patches) == 0
    return found


def _rolled(weights: Sequence[Tensor], tokens: Tensor) -> Iterator[Tensor]:
    """Up to each block: the row of the map, then own share and distance, `[batch, token + 2]`."""
    query, spatial, place = tokens[:, 0], tokens[:, 1], tokens[:, 2:]
    reach = (place[:, None] - place).square().sum(-1).sqrt() * spatial[:, None] * (spatial > 0)
    rolled: Tensor | None = None
    for block in weights:
        step = block.to(tokens.dtype)
        step = step + torch.eye(len(tokens), dtype=step.dtype, device=step.device)
        step = step / step.sum(-1, keepdim=True)
        rolled = step if rolled is None else step @ rolled
        own = (rolled.diagonal(dim1=1, dim2=2) * spatial).sum(-1)
        yield torch.cat([query @ rolled, own[:, None], (rolled * reach).sum((1, 2))[:, None]], 1)


def _geometry(site: Site) -> tuple[tuple[int, int], tuple[float, float]]:
    """Rows and columns of a site's patches, height and width of each in pixels."""
    assert site.grid is not None and site.patch is not None
    return site.grid, site.patch
