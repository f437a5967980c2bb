"""Resample: at a place, every image gets the value that another image has there.

What it does:
    x_i becomes x_p(i), the value of one other image p(i) of the stream under the same condition. What is particular
    to the image is exchanged; what images have in common, and the spread of values, stays as it was. The stream's
    images are taken in groups of `group`, in their order (which is shuffled from the seed unless the study says
    otherwise), and in each group an image gets the value of the one `shift` places on, round and round: nobody gets
    their own. Images left over at the end are a smaller group; one alone joins the group before it. `shift` can be
    swept, to average over several partners.
    So an image's partner hangs on its place in the stream alone, not on `batch`, processes or where a run was taken
    up. Partners meet in one batch: a stream whose batches would part a group is refused. `images` a multiple of
    `batch`, and `batch` of `group`, never does; nor does a single batch.
Places:
    Any site: `role: branch` (the default: what a unit adds), `stream`, `skip`, `output`, `input`, `attention` or
    `heads`; see `vitdsl sites MODEL --role branch`. `tokens:` narrows it to some tokens: those come from the partner
    and the others stay the image's own. Not where a tensor holds windows of images.
What it does not show:
    That a part is useless where little changes: others may stand in for it, and the partner may be alike: an image
    of the same class, above all in a stream that is not shuffled. The partner's value is one that the model may see,
    but not beside the rest of this image. One partner for each image is one draw; images of a group are no longer
    independent of each other, which intervals do not know.
Reference:
    Resampling ablation: Chan et al. 2022, "Causal scrubbing"; Goldowsky-Dill et al. 2023 (arXiv 2304.05969). The
    milder twin of removing a part (zero), beside `mean_ablate`.

Example:
    ablations:
      exchanged: {kind: resample, of: vit, at: "blocks.*.attn", each: true, vary: {shift: [1, 2, 3]}}
"""

from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from vitdsl.dsl.diagnostics import Diagnostic, StudyError
from vitdsl.dsl.study import Entry
from vitdsl.runtime.ablations._base import Ablation
from vitdsl.runtime.graph.edit import Operation, Place, Rewriter
from vitdsl.runtime.graph.site import Site
from vitdsl.runtime.transfer import held


class Params(Entry):
    """Who exchanges with whom."""

    group: int = Field(4, ge=2, description="How many images, one behind the other, exchange their values.")
    shift: int = Field(
        1, ge=1, description="How many places on the partner is in its group; less than `group`."
    )


class Resample(Ablation):
    """Another image's value instead of each image's own."""

    name = "resample"
    cites = ("goldowskydill2023",)
    Params = Params
    roles = ("branch", "stream", "skip", "output", "input", "attention", "heads")

    def refuse(self, site: Site) -> str | None:
        """Any site whose first axis is the image."""
        assert isinstance(self.params, Params)
        if self.params.shift >= self.params.group:
            return (
                f"`shift: {self.params.shift}` leaves a group of {self.params.group} images; "
                "write a `shift` less than `group`, or a larger `group`"
            )
        if site.layout == "windows":
            return (
                "its tensor holds windows of images, not images; choose a site outside the window bookkeeping"
            )
        return None

    def refuse_training(self) -> str:
        """Training draws its batches anew in each epoch."""
        return "who exchanges with whom is said of a fixed stream, and training shuffles its images"

    def together(self) -> int:
        """A group must not be cut."""
        assert isinstance(self.params, Params)
        return self.params.group

    def rewrite(self, place: Place, build: Rewriter, *fitted: Any) -> Any:
        """The batch in another order."""
        assert isinstance(self.params, Params)
        constants = (("group", self.params.group), ("shift", self.params.shift))
        return build.call(Operation(of_another, constants), build.before)


def of_another(tensor: Tensor, *, group: int, shift: int) -> Tensor:
    """A batch `[batch, ...]` that starts with a whole group, each image's value being its partner's."""
    return tensor.index_select(0, held(_order, len(tensor), group, shift, device=tensor.device))


def _order(count: int, group: int, shift: int) -> Tensor:
    return torch.tensor(partners(count, group, shift))


def partners(count: int, group: int, shift: int) -> list[int]:
    """For each of so many images, whose value it gets: another's, in its group.

    Raises:
        StudyError: An image is alone (VD302).
    """
    if count == 1:
        raise StudyError(
            Diagnostic(
                "VD302",
                "`resample` has no other image for one that is a batch by itself",
                help=("take one image more or fewer with `images:`, or another `batch:`",),
            )
        )
    starts = list(range(0, count - (count % group == 1), group))
    found = []
    for start, end in zip(starts, [*starts[1:], count], strict=True):
        size = end - start
        on = 1 + (shift - 1) % (size - 1)
        found += [start + (i + on) % size for i in range(size)]
    return found
