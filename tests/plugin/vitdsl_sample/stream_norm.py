"""Stream norm: how long the tokens of the residual stream are, unit by unit.

What it measures:
    Each unit adds to the stream. Where its tokens grow, what later units add counts for less.
Formula:
    For one token z of the stream after a unit: |z|, the root of the sum of squares over its width. Of one image the
    mean over all tokens, prefix tokens included; then the mean over images.
Shapes:
    norm [site].
Range:
    0 or more.
Cost:
    One pass over each stream.
Reference:
    Xiong et al. 2020 (arXiv 2002.04745), on norms at the start of training.
Limits:
    The unit is the model's own: compare sites and conditions of one model, not models.

Example:
    metrics:
      norms: {kind: stream_norm, of: vit}
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from vitdsl.runtime.graph.site import Site
from vitdsl.runtime.graph.tap import Reducer
from vitdsl.runtime.graph.tokens import as_tokens
from vitdsl.runtime.metrics._base import Array, Inputs, Metric, Seen, Value


def mean_norm(stream: Tensor, *, site: Site) -> Tensor:
    """Mean norm of the tokens of each image, `[batch]`."""
    return as_tokens(stream, site).float().norm(dim=-1).mean(1)


class StreamNorm(Metric):
    """Mean norm of the tokens after each unit."""

    name = "stream_norm"
    inputs = Inputs(roles=("stream",))
    VALUES: ClassVar[Mapping[str, Value]] = {
        "norm": Value(("site",), "mean norm of a token of the stream", "1", "none", (0.0, None))
    }
    reference = "Xiong et al. 2020"

    def refuse(self, site: Site) -> str | None:
        """Needs tokens, or the positions of a map."""
        if site.layout in ("tokens", "map", "map_last"):
            return None
        return f"its tensor has no tokens (one image gives shape {list(site.shape)})"

    def reducer(self) -> Reducer:
        """Mean norm of each image."""
        return Reducer(mean_norm)

    def observe(self, seen: Seen) -> dict[str, Tensor]:
        """Sums over the batch, `[site]`, and how many images there were."""
        norms = torch.stack([reads[0].double() for reads in seen.x])
        return {"norm": norms.sum(1), "images": norms.new_tensor(norms.shape[1])}

    def estimate(self, statistics: Mapping[str, Array], sites: Sequence[Site]) -> dict[str, Array]:
        """Means over images."""
        return {"norm": statistics["norm"] / statistics["images"][..., None]}
