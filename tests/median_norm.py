"""A metric of the tests that keeps rows: the median over images, which no sum over them gives."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from vitdsl.runtime.graph.site import Site
from vitdsl.runtime.graph.tap import Reducer
from vitdsl.runtime.metrics._base import Array, Inputs, Metric, Seen, Value


def norm(tensor: Tensor, *, site: Site) -> Tensor:
    """The norm of each image's tensor at a site, `[batch]`."""
    return tensor.flatten(1).double().norm(dim=1)


class MedianNorm(Metric):
    """The median over images and the mean of the norm of what a site gives."""

    name: ClassVar[str] = "median_norm"
    inputs: ClassVar[Inputs] = Inputs("layers", alone=True)
    rows: ClassVar[tuple[str, ...]] = ("norms",)
    VALUES: ClassVar[Mapping[str, Value]] = {
        "median": Value(("site",), "median norm"),
        "mean": Value(("site",), "mean norm"),
    }

    def reducer(self) -> Reducer:
        return Reducer(norm)

    def row_size(self, sites: Sequence[Site]) -> int:
        return len(sites)

    def observe(self, seen: Seen) -> dict[str, Tensor]:
        norms = torch.stack([one[0] for one in seen.x], 1)
        return {"norms": norms, "sum": norms.sum(0), "images": torch.tensor(float(len(norms)))}

    def estimate(self, statistics: Mapping[str, Array], sites: Sequence[Site]) -> dict[str, Array]:
        return {
            "median": np.median(statistics["norms"], axis=-2),
            "mean": statistics["sum"] / statistics["images"][..., None],
        }
