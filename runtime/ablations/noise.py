"""Noise: at a place, Gaussian noise is added to the value, drawn from the seed.

What it does:
    x becomes x + sd * s * e, e standard Gaussian, independent for each number of the tensor. `unit` says what s is:
    `position`, the standard deviation over images of that very number (each token or position and channel has its
    own); `all`, one for the place, the root mean square of these; `absolute`, 1. The deviation is of the intact
    model, over the measured images or those of `over`, in a pass of its own (divided by their number).
    `draw: image` gives each image noise of its own, `shared` one noise to all. Noise hangs on `seed`, on the place
    and, with `draw: image`, on the image's pixels as the model sees them: neither on `batch` nor on processes, nor on
    where in the stream an image stands. It is the same for each `sd` of a sweep, so that a sweep follows one line;
    sweep `seed` for several draws.
Places:
    Any site but attention weights, which would no longer sum to one: `role: stream` (the default), `branch`, `skip`,
    `output`, `input`, `heads`, `image` or `embedding`. `tokens:` narrows it to some tokens; e is drawn for all of
    them. Not where a tensor holds windows of images.
What it does not show:
    What is lost by removing a part: noise adds, and takes nothing away. How robust a model is to images that a
    camera would give: the noise is inside, white, and follows none of the directions in which values vary together.
    With `unit: position` a number that is the same for all images stays exact; with `unit: all` channels of small
    spread drown where a few have a large one. `draw: shared` moves all images alike, and a later norm or mean over
    images can undo it.
Reference:
    Noise inside networks as a probe of what they need: Arora et al. 2018 (arXiv 1802.05296), Section 3; Meng et al.
    2022 (arXiv 2202.05262) corrupt with 3 standard deviations of the values.

Example:
    ablations:
      shaken: {kind: noise, of: vit, at: "blocks.*.mlp", each: true, sd: 1, vary: {sd: [0.1, 0.3, 1, 3]}}
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from vitdsl.dsl.known import DataName
from vitdsl.dsl.study import Entry
from vitdsl.runtime.ablations._base import Ablation
from vitdsl.runtime.ablations._chance import fingerprint
from vitdsl.runtime.ablations._gaussian import standard
from vitdsl.runtime.graph.edit import Operation, Place, Rewriter
from vitdsl.runtime.graph.site import Site
from vitdsl.runtime.graph.tap import Reducer
from vitdsl.runtime.metrics._base import Array, Fit, Seen
from vitdsl.runtime.metrics._gram import accumulator
from vitdsl.runtime.randomness import seed_of

CONSTANT = 1e-13
"""Share of the mean square below which float32 cannot tell a variance from none."""


class Params(Entry):
    """How much noise, and whose."""

    sd: float = Field(gt=0, allow_inf_nan=False, description="Standard deviation of the noise, in `unit`s.")
    unit: Literal["position", "all", "absolute"] = Field(
        "position",
        description="`position`: the deviation over images of each number; `all`: one for the place; `absolute`: 1.",
    )
    draw: Literal["image", "shared"] = Field(
        "image", description="`image`: each image its own noise; `shared`: all images the same."
    )
    seed: int = Field(0, ge=0, lt=2**63, description="What the noise hangs on.")
    over: DataName | None = Field(
        None, description="The data entry whose images the unit is taken over; null: those that are measured."
    )


class Noise(Ablation):
    """The value with Gaussian noise on it."""

    name = "noise"
    cites = ("arora2018", "meng2022")
    Params = Params
    roles = ("stream", "branch", "skip", "output", "input", "heads", "image", "embedding")

    def refuse(self, site: Site) -> str | None:
        """Any site whose first axis is the image."""
        assert isinstance(self.params, Params)
        if self.params.over is not None and self.params.unit == "absolute":
            return "`over` names images for the unit, and `unit: absolute` needs none; leave `over` out"
        if site.layout == "windows":
            return (
                "its tensor holds windows of images, not images; choose a site outside the window bookkeeping"
            )
        return None

    def fit(self) -> Fit | None:
        """The standard deviation of the place over images, unless the unit is absolute."""
        assert isinstance(self.params, Params)
        return None if self.params.unit == "absolute" else SpreadOfImages()

    def over(self) -> str | None:
        """The data entry that the deviation is taken over."""
        assert isinstance(self.params, Params)
        return self.params.over

    def rewrite(self, place: Place, build: Rewriter, *fitted: Any) -> Any:
        """The value plus noise of this place."""
        params, site = self.params, place.site
        assert isinstance(params, Params) and site is not None
        images = next(iter(place.node.graph.nodes))
        keys = build.call(Operation(no_key if params.draw == "shared" else fingerprint), build.value(images))
        seed = seed_of("noise", params.seed, site.role, site.name)
        noise = build.call(Operation(standard, (("shape", site.shape), ("seed", seed))), keys)
        constants = (("sd", params.sd), ("one", params.unit == "all"))
        return build.call(Operation(with_noise, constants), build.before, noise, *fitted)


def no_key(images: Tensor) -> Tensor:
    """One key `[1]` for all images."""
    return torch.zeros(1, dtype=torch.int64, device=images.device)


def with_noise(
    tensor: Tensor, noise: Tensor, spread: Tensor | None = None, *, sd: float, one: bool
) -> Tensor:
    """A batch `[batch, ...]` plus noise.

    Args:
        tensor: The values.
        noise: Standard Gaussian noise, for each image or `[1, ...]` for all.
        spread: The standard deviation over images, of one image's shape; None for 1.
        sd: The standard deviation of the noise, times that.
        one: Whether its root mean square takes the place of each.
    """
    noise = noise * sd
    if spread is not None:
        noise = noise * (spread.to(noise.dtype).square().mean().sqrt() if one else spread.to(noise.dtype))
    return (tensor.to(noise.dtype) + noise).to(tensor.dtype)


class SpreadOfImages(Fit):
    """The standard deviation of a site's tensor over images, every position by itself."""

    name = "spread_of_images"

    def __init__(self) -> None:
        super().__init__(Entry())

    def reducer(self) -> Reducer:
        """Sums of values and of their squares, float64."""
        return Reducer(moments)

    def observe(self, seen: Seen) -> dict[str, Tensor]:
        """Sums over images; sites differ in shape, so each has names of its own."""
        sums = {f"sum_{i}": first for i, (first, _, _) in enumerate(seen.x)}
        squares = {f"square_{i}": second for i, (_, second, _) in enumerate(seen.x)}
        return {**sums, **squares, "images": seen.x[0][2]}

    def finish(self, statistics: Mapping[str, Array], sites: Sequence[Site]) -> list[tuple[Array, ...]]:
        """One standard deviation for each number of each site; zero where float32 holds no other."""
        count = statistics["images"]
        found: list[tuple[Array, ...]] = []
        for i in range(len(sites)):
            mean, square = statistics[f"sum_{i}"] / count, statistics[f"square_{i}"] / count
            variance = square - mean**2
            found.append((np.sqrt(np.where(variance > CONSTANT * square, variance, 0.0)),))
        return found

    def shapes(self, site: Site) -> tuple[tuple[int, ...], ...]:
        """One image's tensor."""
        return (site.shape,)


def moments(tensor: Tensor, *, site: Site) -> tuple[Tensor, Tensor, Tensor]:
    """Sums over the batch of values and squares, each of one image's shape, and the number of images `[]`."""
    exact = accumulator(tensor.device)
    wide = tensor.to(exact)
    return wide.sum(0), wide.square().sum(0), wide.new_full((), tensor.shape[0])
