"""Mean-ablate: at a place, every image gets the mean over images instead of its own value.

What it does:
    x becomes E[x], the mean over the images of `over` (the measured images unless given), taken in the intact
    model, float64. What varies between images is gone there, what they have in common stays. `mean: position` keeps
    the mean of each token or position; `mean: all` gives all of them one mean vector, that of all tokens, also where
    `tokens:` names a few that get it.
Places:
    Any site: `role: branch` (the default: what a unit adds), `stream`, `skip`, `output`, `input`, `attention` (whose
    mean weights still sum to one) or `heads`; see `vitdsl sites MODEL --role branch`. `tokens:` narrows it to some of
    them. Not where a tensor holds windows of images; `mean: all` not where it has no positions.
What it does not show:
    That a part is useless where little changes: others may stand in for it. The mean is near the data where values
    are spread about one point and far from it where they fall into clusters, so that a large drop may come from
    values that the model never sees. Under several edits at once the mean is still that of the intact model.
Reference:
    Used as the milder twin of removing a part (zero) throughout the literature on circuits; for images see Veit et
    al. 2016 (arXiv 1605.06431) for the zero form, `remove_branch`.

Example:
    ablations:
      mean_branch: {kind: mean_ablate, of: vit, at: "blocks.*.attn", each: true}
"""

from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from vitdsl.dsl.known import DataName
from vitdsl.dsl.study import Entry
from vitdsl.runtime.ablations._base import Ablation
from vitdsl.runtime.graph.edit import Operation, Place, Rewriter
from vitdsl.runtime.graph.site import Site
from vitdsl.runtime.metrics._base import Fit
from vitdsl.runtime.metrics._fit import MeanOfImages


class Params(Entry):
    """Fields of its own."""

    over: DataName | None = Field(
        None, description="The data entry whose images the mean is taken over; null: those that are measured."
    )
    mean: Literal["position", "all"] = Field(
        "position", description="`position`: each token or position its own mean; `all`: one mean for all."
    )


class MeanAblate(Ablation):
    """The mean over images instead of each image's own value."""

    name = "mean_ablate"
    cites = ("veit2016",)
    Params = Params
    roles = ("branch", "stream", "skip", "output", "input", "attention", "heads")

    def refuse(self, site: Site) -> str | None:
        """Any site whose first axis is the image; with `mean: all`, one that has positions."""
        assert isinstance(self.params, Params)
        if site.layout == "windows":
            return (
                "its tensor holds windows of images, not images; choose a site outside the window bookkeeping"
            )
        if self.params.mean == "all" and site.layout not in ("tokens", "map", "map_last"):
            return f"its tensor (shape {list(site.shape)} for one image) has no positions; write `mean: position`"
        return None

    def fit(self) -> Fit:
        """The mean of the place over images."""
        return MeanOfImages()

    def over(self) -> str | None:
        """The data entry that the mean is taken over."""
        assert isinstance(self.params, Params)
        return self.params.over

    def rewrite(self, place: Place, build: Rewriter, *fitted: Any) -> Any:
        """The mean, for as many images as there are."""
        assert isinstance(self.params, Params) and place.site is not None
        axes: tuple[int, ...] = ()
        if self.params.mean == "all":
            axes = {"tokens": (0,), "map": (1, 2), "map_last": (0, 1)}[place.site.layout]
        return build.call(Operation(mean_of, (("axes", axes),)), build.before, *fitted)


def mean_of(tensor: Tensor, mean: Tensor, *, axes: tuple[int, ...]) -> Tensor:
    """The mean `[...]` in place of each image of a tensor `[batch, ...]`, averaged over some of its axes first."""
    if axes:
        mean = mean.mean(axes, keepdim=True)
    return torch.broadcast_to(mean.to(tensor.dtype), tensor.shape).clone()
