"""Norm of what a skip carries over the norm of what its branch adds, token by token.

What it measures:
    Whether a token's representation passes a residual unit mostly unchanged (large ratio) or is rewritten by the
    branch (small ratio); and three cosines that tell how far the unit turns it.
Formula:
    ratio = |z| / |f(z)|, z what the skip carries into the add (after a projection where there is one), f(z) what the
    branch adds (LayerScale included), norms over channels, for each token or position; then the mean over images and
    over the tokens of a group. A mean of ratios, not a ratio of means.
    cos_skip_stream = cos(z, z + f(z)), cos_skip_branch = cos(z, f(z)), cos_branch_stream = cos(f(z), z + f(z)).
Shapes:
    Tokens `[batch, token, width]` or maps `[batch, width, row, col]`.
Range:
    ratio from 0; cosines -1 to 1. A token whose branch adds exactly nothing has no ratio: it is left out of the mean,
    and `undefined_share` says how many were.
Cost:
    Three norms and two products over each unit's tensors.
Reference:
    Raghu et al. 2021 (arXiv 2108.08810), Figure 7 and Appendix E.
Limits:
    The paper does not say whether it averages ratios or norms, nor which pair its cosine compares; here both choices
    are named. In a ResNet the add is read before the ReLU that follows it.
Example:
    metrics:
      ratio: {kind: skip_ratio, of: vit, under: baseline}
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from vitdsl.runtime.metrics._base import Array, Metric, Reads, Reducer, Site, Value
from vitdsl.runtime.metrics._gram import accumulator
from vitdsl.runtime.metrics._tokens import as_tokens

GROUPS = ("cls", "registers", "spatial")
COSINES = ("cos_skip_stream", "cos_skip_branch", "cos_branch_stream")


class SkipRatio(Metric):
    """Skip over branch norm, and the cosines between skip, branch and stream."""

    name = "skip_ratio"
    places = "units"
    roles = ("skip", "branch")
    VALUES: Mapping[str, Value] = {
        "ratio": Value(("site", "token"), "skip norm over branch norm", "1", "none", (0.0, None)),
        "cos_skip_stream": Value(("site", "token"), "cosine of skip and stream", "1", "none", (-1.0, 1.0)),
        "cos_skip_branch": Value(("site", "token"), "cosine of skip and branch", "1", "none", (-1.0, 1.0)),
        "cos_branch_stream": Value(("site", "token"), "cosine of branch and stream", "1", "none", (-1.0, 1.0)),
        "undefined_share": Value(
            ("site", "token"), "share of tokens whose branch adds nothing", "1", "none", (0.0, 1.0)
        ),
    }
    reference = "Raghu et al. 2021, Figure 7"

    def refuse(self, site: Site) -> str | None:
        """Needs tokens or positions, and the image as the first axis."""
        if site.layout in ("tokens", "map", "map_last"):
            return None
        return f"one image's tensor has shape {list(site.shape)}, which has no tokens or positions"

    def coordinates(self, sites: Sequence[Site]) -> dict[str, Sequence[str | int]]:
        """The token groups that the model has."""
        return {"token": _groups(sites)}

    def reducer(self) -> Reducer:
        """Sums over the tokens of each group, for each image."""
        return Reducer(norms_and_cosines)

    def observe(
        self, x: Reads, y: Reads | None, *, labels: Tensor | None, paired: bool
    ) -> dict[str, Tensor]:
        """Sums over images."""
        sums = torch.stack([read[0].to(accumulator(read[0].device)).sum(0) for read in x])
        return {"sums": sums}

    def estimate(self, statistics: Mapping[str, Array], sites: Sequence[Site]) -> dict[str, Array]:
        """Means over images and tokens of a group; NaN for a group that a site does not have."""
        chosen = [GROUPS.index(group) for group in _groups(sites)]
        sums = statistics["sums"][..., chosen, :]
        tokens, valid = sums[..., 0], sums[..., 1]
        with np.errstate(divide="ignore", invalid="ignore"):
            means = sums[..., 2:] / valid[..., None]
            undefined = 1.0 - valid / tokens
        return {
            "ratio": means[..., 0],
            **{name: means[..., 1 + i] for i, name in enumerate(COSINES)},
            "undefined_share": undefined,
        }


def norms_and_cosines(skip: Tensor, branch: Tensor, *, site: Site) -> Tensor:
    """Sums over tokens, `[batch, group, (tokens, valid, ratio, three cosines)]`, float32.

    Args:
        skip: `[batch, token, width]` or a map.
        branch: The same shape.
        site: Where they were read.
    """
    z, f = as_tokens(skip, site).float(), as_tokens(branch, site).float()
    zz, ff, zf = z.square().sum(-1), f.square().sum(-1), (z * f).sum(-1)
    size_z, size_f = zz.sqrt(), ff.sqrt()
    size_s = (zz + 2 * zf + ff).clamp_min(0).sqrt()
    valid = (size_f > 0) & (size_z > 0) & (size_s > 0)

    def kept(value: Tensor) -> Tensor:
        return torch.where(valid, value, torch.zeros_like(value))

    rows = torch.stack(
        [
            torch.ones_like(zz),
            valid.to(zz.dtype),
            kept(size_z / size_f),
            kept((zz + zf) / (size_z * size_s)),
            kept(zf / (size_z * size_f)),
            kept((ff + zf) / (size_f * size_s)),
        ],
        -1,
    )
    first = 1 if site.class_token else 0
    parts = (rows[:, :first], rows[:, first : site.prefix], rows[:, site.prefix :])
    return torch.stack([part.sum(1) for part in parts], 1)


def _groups(sites: Sequence[Site]) -> list[str]:
    has = {
        "cls": any(site.class_token for site in sites),
        "registers": any(site.prefix > int(site.class_token) for site in sites),
        "spatial": True,
    }
    return [group for group in GROUPS if has[group]]
