"""Norm of what a skip carries over the norm of what its branch adds, token by token.

What it measures:
    Whether a token's representation passes a residual unit mostly unchanged (large ratio) or is rewritten by
    the branch (small ratio); and three cosines that tell how far the unit turns it.
Formula:
    ratio = |z| / |f(z)|, z what the skip carries into the add (after a projection where there is one), f(z)
    what the branch adds (LayerScale included), norms over channels, for each token or position; then the mean
    over images and over the tokens of a group. A mean of ratios, not a ratio of means. cos_skip_stream =
    cos(z, z + f(z)), cos_skip_branch = cos(z, f(z)), cos_branch_stream = cos(f(z), z + f(z)).
Shapes:
    Tokens `[batch, token, width]` or maps `[batch, width, row, col]`.
Range:
    ratio from 0; cosines -1 to 1. A token whose branch adds exactly nothing has no ratio: it is left out of
    the mean, and `undefined_share` says how many were. So is one from a cosine where a vector of the pair is
    zero.
Cost:
    Three norms and two products over each unit's tensors.
Reference:
    Raghu et al. 2021 (arXiv 2108.08810), Figure 7 and Appendix E.
Limits:
    The paper does not say whether it averages ratios or norms, nor which pair its cosine compares; here both
    choices are named. In a ResNet the add is read before the ReLU that follows it.

Example:
    metrics:
      ratio: {kind: skip_ratio, of: vit, under: baseline}
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from vitdsl.runtime.graph.site import Site
from vitdsl.runtime.graph.tap import Reducer
from vitdsl.runtime.graph.tokens import UNKNOWN_PREFIX, as_tokens, prefix_of
from vitdsl.runtime.metrics._base import Array, Inputs, Metric, Seen, Value
from vitdsl.runtime.metrics._parts import most_at_once, widened

GROUPS = ("cls", "registers", "spatial")
TERMS = 4
"""The ratio and the three cosines."""
AGAINST = 0.25
"""A squared norm of z + f below this share of |z|^2 + |f|^2 is not told from those two and their product: digits."""
COSINES = ("cos_skip_stream", "cos_skip_branch", "cos_branch_stream")


class SkipRatio(Metric):
    """Skip over branch norm, and the cosines between skip, branch and stream."""

    name = "skip_ratio"
    inputs = Inputs(roles=("skip", "branch"))
    degrees: ClassVar[Mapping[str, int]] = {"sums": 1}
    VALUES: ClassVar[Mapping[str, Value]] = {
        "ratio": Value(("site", "token"), "skip norm over branch norm", "1", "none", (0.0, None)),
        "cos_skip_stream": Value(("site", "token"), "cosine of skip and stream", "1", "none", (-1.0, 1.0)),
        "cos_skip_branch": Value(("site", "token"), "cosine of skip and branch", "1", "none", (-1.0, 1.0)),
        "cos_branch_stream": Value(
            ("site", "token"), "cosine of branch and stream", "1", "none", (-1.0, 1.0)
        ),
        "undefined_share": Value(
            ("site", "token"), "share of tokens whose branch adds nothing", "1", "none", (0.0, 1.0)
        ),
    }
    reference = "Raghu et al. 2021, Figure 7"
    cites = ("raghu2021",)

    def refuse(self, site: Site) -> str | None:
        """Needs tokens or positions, and the image as the first axis; known which of them are prefix tokens."""
        if site.layout in ("tokens", "map", "map_last"):
            return UNKNOWN_PREFIX if site.prefix is None else None
        return f"one image's tensor has shape {list(site.shape)}, which has no tokens or positions"

    def coordinates(self, sites: Sequence[Site]) -> dict[str, Sequence[str | int]]:
        """The token groups that the model has."""
        return {"token": _groups(sites)}

    def reducer(self) -> Reducer:
        """Sums over the tokens of each group, for each image."""
        return Reducer(norms_and_cosines)

    def observe(self, seen: Seen) -> dict[str, Tensor]:
        """Sums over images."""
        return {"sums": seen.by_group(torch.stack([read for (read,) in seen.x], 1))}

    def estimate(self, statistics: Mapping[str, Array], sites: Sequence[Site]) -> dict[str, Array]:
        """Means over images and tokens of a group; NaN for a group that a site does not have."""
        chosen = [GROUPS.index(group) for group in _groups(sites)]
        sums = statistics["sums"][..., chosen, :]
        with np.errstate(divide="ignore", invalid="ignore"):
            means = sums[..., TERMS : 2 * TERMS] / sums[..., :TERMS]
            undefined = 1.0 - sums[..., 0] / sums[..., -1]
        return {
            "ratio": means[..., 0],
            **{name: means[..., 1 + i] for i, name in enumerate(COSINES)},
            "undefined_share": undefined,
        }

    def undefined(self, statistics: Mapping[str, Array], x: Sequence[Site], y: Sequence[Site]) -> list[str]:
        """Name the units whose branch adds nothing to a group of tokens, or which are not finite."""
        reasons = []
        for site, sums in zip(x, statistics["sums"], strict=True):
            for group, row in zip(GROUPS, sums, strict=True):
                if row[-1] > 0 and not np.isfinite(row).all():
                    reasons.append(f"`{site.name}` has {group} tokens that are not finite: no ratio")
                elif row[-1] > 0 and row[0] == 0:
                    reasons.append(
                        f"the branch of `{site.name}` adds nothing to its {group} tokens: no ratio"
                    )
        return reasons


def norms_and_cosines(skip: Tensor, branch: Tensor, *, site: Site) -> Tensor:
    """Sums over tokens, `[batch, group, (4 counts, 4 sums, tokens)]`, float64 (float32 on mps).

    Counts and sums are those of the ratio and of the three cosines; a token counts where they are defined. In
    float64 neither the norms of small tokens vanish nor does a stream lose its digits where the branch undoes
    the skip.

    Args:
        skip: `[batch, token, width]` or a map.
        branch: The same shape.
        site: Where they were read.
    """
    z, f = as_tokens(skip, site), as_tokens(branch, site)
    size_z, size_f, size_s, both = _sizes(z, f)
    terms = (
        (size_z, size_f),
        (size_z.square() + both, size_z * size_s),
        (both, size_z * size_f),
        (size_f.square() + both, size_f * size_s),
    )
    defined = [below != 0 for _, below in terms]
    values = [
        torch.where(kept, above / below, 0.0) for (above, below), kept in zip(terms, defined, strict=True)
    ]
    rows = torch.stack([*(kept.to(both.dtype) for kept in defined), *values, torch.ones_like(size_z)], -1)
    first = 1 if site.class_token else 0
    prefix = prefix_of(site)
    groups = (rows[:, :first], rows[:, first:prefix], rows[:, prefix:])
    return torch.stack([group.sum(1) for group in groups], 1)


def _sizes(z: Tensor, f: Tensor) -> tuple[Tensor, ...]:
    """Norms of z, f and z + f, and the product of z and f, `[batch, token]` each; part by part, to stay in a cache."""
    pieces = max(1, -(-z[0].numel() // most_at_once(z)))
    parts = [
        torch.cat([_products(a, b, part) for (part, _), (a, b) in widened(one, other)], 1)
        for one, other in zip(torch.chunk(z, pieces, 1), torch.chunk(f, pieces, 1), strict=True)
    ]
    *sizes, both = torch.cat(parts, -1)
    return *(torch.where(size.isfinite(), size, torch.nan) for size in sizes), both


def _products(z: Tensor, f: Tensor, again: Tensor) -> Tensor:
    """`[4, batch, token]`: norms of z, f and z + f, and the product of z and f; writes over both, z being `again`."""
    size_z, size_f = (torch.linalg.vector_norm(one, dim=-1) for one in (z, f))
    both = z.mul_(f).sum(-1)
    apart = size_z.square() + size_f.square()
    square = apart + 2 * both
    # Elsewhere than on the CPU, looking at values makes the host wait.
    if z.device.type != "cpu" or bool((square < AGAINST * apart).any()):
        size_s = torch.linalg.vector_norm(f.add_(again), dim=-1)
    else:
        size_s = square.sqrt()
    return torch.stack([size_z, size_f, size_s, both])


def _groups(sites: Sequence[Site]) -> list[str]:
    has = {
        "cls": any(site.class_token for site in sites),
        "registers": any(prefix_of(site) > int(site.class_token) for site in sites),
        "spatial": True,
    }
    return [group for group in GROUPS if has[group]]
