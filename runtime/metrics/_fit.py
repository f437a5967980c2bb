"""Fits that several kinds can use. What a fit is, is in `_base`."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from vitdsl.dsl.study import Entry
from vitdsl.runtime.graph.site import Site
from vitdsl.runtime.graph.tap import Reducer
from vitdsl.runtime.metrics._base import Array, Fit, Seen
from vitdsl.runtime.metrics._gram import accumulator


class MeanOfImages(Fit):
    """The mean of a site's tensor over images, every position by itself."""

    name = "mean_of_images"

    def __init__(self) -> None:
        super().__init__(Entry())

    def reducer(self) -> Reducer:
        """The sum over the batch, float64."""
        return Reducer(sum_of_batch)

    def observe(self, seen: Seen) -> dict[str, Tensor]:
        """Sums over images; sites differ in shape, so each has a name of its own."""
        totals = {f"sum_{i}": total for i, (total, _) in enumerate(seen.x)}
        return {**totals, "images": seen.x[0][1]}

    def finish(self, statistics: Mapping[str, Array], sites: Sequence[Site]) -> list[tuple[Array, ...]]:
        """One mean for each site, in the shape of one image's tensor."""
        return [(statistics[f"sum_{i}"] / statistics["images"],) for i in range(len(sites))]

    def shapes(self, site: Site) -> tuple[tuple[int, ...], ...]:
        """One image's tensor."""
        return (site.shape,)


def sum_of_batch(tensor: Tensor, *, site: Site) -> tuple[Tensor, Tensor]:
    """The sum over the batch, in the shape of one image's tensor, and the number of images `[]`; float64."""
    exact = accumulator(tensor.device)
    return tensor.sum(0, dtype=exact), tensor.new_full((), tensor.shape[0], dtype=exact)
