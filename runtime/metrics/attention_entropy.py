"""How widely each head spreads its attention: the entropy of its weights.

What it measures:
    Whether a head's queries look at a few tokens (small) or at all of them alike (the dashed line), wherever these
    tokens are. How far away they are is `attention_distance`.
Formula:
    H_i = -sum_j A_ij log A_ij over all keys j, prefix tokens (class token, registers) among them, with 0 log 0 = 0.
    entropy = mean of H_i over all queries i, prefix tokens among them, then over images, in nats. share = entropy /
    log(number of keys). effective = exp(entropy), the number of tokens that even attention of the same entropy would
    reach. prefix_mass = mean over the same queries of the weight that goes to prefix tokens. cls_entropy = H_0 of the
    class token's own query, mean over images.
Shapes:
    Softmax weights `[batch, head, query, key]`; queries and keys may differ in number.
Range:
    entropy 0 to log(number of keys); share 0 to 1; effective 1 to the number of keys.
Cost:
    One logarithm for each weight, in float64. The attention that is read is computed un-fused; other blocks stay fused.
Reference:
    Attention entropy as in Zhai et al. 2023 (arXiv 2303.06296); the line is that of even attention.
Limits:
    effective is exp of a mean, and so no larger than the mean of exp. Weights are scaled to sum to one in float64,
    which they do but for rounding; in bf16 and fp16 the weights themselves have 3 digits. Windowed attention (Swin) is
    refused: its first axis holds windows, and masked windows have fewer keys than their weights say. prefix_mass
    is not defined where it is not known which keys are prefix tokens, and cls_entropy where there is no class token.

Example:
    metrics:
      entropy: {kind: attention_entropy, of: vit, under: baseline}
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from vitdsl.runtime.graph.site import Site
from vitdsl.runtime.graph.tap import Reducer
from vitdsl.runtime.graph.tokens import UNKNOWN_PREFIX, refuse_weights
from vitdsl.runtime.metrics._base import Array, Inputs, Metric, Seen, Value
from vitdsl.runtime.metrics._parts import widened


class AttentionEntropy(Metric):
    """Entropy of attention weights, and the weight on prefix tokens."""

    name = "attention_entropy"
    inputs = Inputs(roles=("attention",))
    degrees: ClassVar[Mapping[str, int]] = {"sums": 1, "images": 1}
    VALUES: ClassVar[Mapping[str, Value]] = {
        "entropy": Value(("site", "head"), "attention entropy", "nats", "none", (0.0, None)),
        "share": Value(
            ("site", "head"), "attention entropy over that of even attention", "1", "none", (0.0, 1.0)
        ),
        "effective": Value(("site", "head"), "number of tokens attended to", "tokens", "none", (1.0, None)),
        "prefix_mass": Value(
            ("site", "head"), "attention that all queries give to prefix tokens", "1", "none", (0.0, 1.0)
        ),
        "cls_entropy": Value(
            ("site", "head"), "attention entropy of the class token", "nats", "none", (0.0, None)
        ),
    }
    reference = "Zhai et al. 2023"
    cites = ("zhai2023",)

    def refuse(self, site: Site) -> str | None:
        """Needs the weights of whole images."""
        return refuse_weights(site, of_tokens=False)

    def coordinates(self, sites: Sequence[Site]) -> dict[str, Sequence[str | int]]:
        """Heads by number."""
        return {"head": list(range(max(site.shape[0] for site in sites)))}

    def line(self, value: str, sites: Sequence[Site]) -> tuple[float, str] | None:
        """What even attention has, where all sites have as many keys and prefix tokens."""
        if len({(site.shape[-1], site.prefix) for site in sites}) != 1:
            return None
        keys, prefix = sites[0].shape[-1], sites[0].prefix
        levels: dict[str, float | None] = {
            "share": 1.0,
            "effective": float(keys),
            "prefix_mass": prefix / keys if prefix else None,
        }
        level = levels.get(value, float(np.log(keys)))
        return None if level is None else (level, "uniform attention")

    def reducer(self) -> Reducer:
        """Each image's and head's entropy, prefix mass and entropy of the class token."""
        return Reducer(entropies)

    def observe(self, seen: Seen) -> dict[str, Tensor]:
        """Sums over images; sites with fewer heads are padded with NaN."""
        heads = max(read.shape[1] for (read,) in seen.x)
        padded = [
            torch.nn.functional.pad(read, (0, 0, 0, heads - read.shape[1]), value=float("nan"))
            for (read,) in seen.x
        ]
        images = torch.ones_like(padded[0][:, 0, 0])
        return {"sums": seen.by_group(torch.stack(padded, 1)), "images": seen.by_group(images)}

    def estimate(self, statistics: Mapping[str, Array], sites: Sequence[Site]) -> dict[str, Array]:
        """Means over images, and what follows from them."""
        with np.errstate(invalid="ignore", divide="ignore"):
            means = statistics["sums"] / statistics["images"][..., None, None, None]
            even = np.log([float(site.shape[-1]) for site in sites])[:, None]
            share = means[..., 0] / even
        return {
            "entropy": means[..., 0],
            "share": share,
            "effective": np.exp(means[..., 0]),
            "prefix_mass": means[..., 1],
            "cls_entropy": means[..., 2],
        }

    def undefined(self, statistics: Mapping[str, Array], x: Sequence[Site], y: Sequence[Site]) -> list[str]:
        """Name the places whose weights are not finite, and what some or all places do not have."""
        reasons = [
            f"attention weights of `{site.name}` are not finite, or a query has none"
            for site, sums in zip(x, statistics["sums"], strict=True)
            if not np.isfinite(sums[: site.shape[0], 0]).all()
        ]
        reasons += [f"prefix mass of `{site.name}`: {UNKNOWN_PREFIX}" for site in x if site.prefix is None]
        without = [f"`{site.name}`" for site in x if not _has_class_query(site)]
        if without:
            some = "every site" if len(without) == len(x) else ", ".join(without)
            reasons.append(f"entropy of the class token: {some} has no query that is known to be one")
        return reasons


def entropies(attention: Tensor, *, site: Site) -> Tensor:
    """Entropy, prefix mass and the class token's entropy of each head, `[batch, head, 3]`; float64 (float32 on mps).

    NaN for what a site does not have. A few images at a time, so that products stay in a cache.

    Args:
        attention: `[batch, head, query, key]`, softmax over keys, prefix tokens first.
        site: Its number of prefix tokens, and whether the first is a class token.
    """
    return torch.cat([_entropies(weights, site) for _, (weights,) in widened(attention)])


def _entropies(weights: Tensor, site: Site) -> Tensor:
    total = weights.sum(-1)
    entropy = total.log() - _products_with_logs(weights) / total
    unknown = torch.full_like(entropy[..., 0], torch.nan)
    prefix = unknown if site.prefix is None else (weights[..., : site.prefix].sum(-1) / total).mean(-1)
    own = entropy[..., 0] if _has_class_query(site) else unknown
    # Rounding alone takes the entropy of a single key, or the mass of all keys, out of its range.
    return torch.stack([entropy.clamp_min(0).mean(-1), prefix.clamp_max(1), own.clamp_min(0)], -1)


def _products_with_logs(weights: Tensor) -> Tensor:
    """Sums over keys of `w log w`, 0 where w is 0: faster than `torch.special.entr`, to the same bits."""
    if weights.device.type == "cpu":
        plain = weights.log().mul_(weights).sum(-1)
        if not plain.isnan().any():
            return plain
    # 0 times any finite logarithm is 0.
    return weights.clamp_min(torch.finfo(weights.dtype).tiny).log_().mul_(weights).sum(-1)


def _has_class_query(site: Site) -> bool:
    """Whether the first query is known to be a class token's: queries are the same tokens as keys."""
    return site.class_token and site.shape[-2] == site.shape[-1]
