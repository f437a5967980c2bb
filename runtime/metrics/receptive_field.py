"""Which pixels of the image the centre of a layer depends on, by the gradient: its effective receptive field.

What it measures:
    How far a layer's centre position looks: the mean absolute gradient of its channels with respect to each pixel.
    A convolutional network's field is small and grows slowly; a ViT's is global early, with a strong central patch
    that its skips carry.
Formula:
    map(u, v) = mean over images and channels c of sum over RGB of |d z_c / d x(u, v)|, z the layer at its centre
    position (row H // 2, column W // 2 of its grid of H rows and W columns), the absolute value before any mean.
    centre_share = mass of the map in the pixels of the centre position's own patch (in a CNN: its cell, where the
    image is cut into H times W) over all mass. radius_50 and radius_90 = distance from the middle of that patch
    within which half, and nine tenths, of the mass lies. area = (sum g)^2 / sum g^2, the number of pixels that an even
    field of the same concentration would cover. luo = square root of the number of pixels with g >= 0.0455 of the
    largest.
Shapes:
    A layer `[batch, token, width]` or `[batch, width, row, col]` on the patch grid, and the images
    `[batch, 3, row, col]`. Class and register tokens have no place in the image, and are no position. map `[site, row,
    col]`, averaged over square cells of pixels (those at the far ends may be smaller) to at most `resolution` rows and
    columns, each labelled with its first pixel. The other values come from all pixels.
Range:
    map from 0, in units of the layer over units of the normalised pixel; centre_share 0 to 1; radii in pixels.
Cost:
    One backward pass for each channel, site and condition, each about twice as dear as the forward pass up to the
    site; `channels: N` takes N channels, evenly spaced. A few dozen images are enough for a map. The whole forward
    pass up to the deepest site stays in memory for one batch: prefer small batches.
Reference:
    Raghu et al. 2021 (arXiv 2108.08810), Figure 6 and Appendix C (mean absolute gradient per channel); Luo et al.
    2016 (arXiv 1701.04128), which back-propagates one signal, so that channels may cancel: not done here. Its size is
    `luo`, with the value at the centre in place of the largest.
Limits:
    A gradient is local: a pixel whose small change does nothing may matter all the same. The paper does not say how
    it reduces RGB, nor which position is the centre of an even grid; here they are named. The map has the units of the
    layer: scales of maps compare within a model's stream, not across models; the other values do. In bf16 and fp16
    units near a kink switch: the field of a ReLU network moves by a few per cent.

Example:
    metrics:
      field: {kind: receptive_field, x: vit_blocks, under: baseline, data: few}
"""

import math
from collections.abc import Mapping, Sequence
from functools import cache
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import Tensor

from vitdsl.dsl.study import Entry
from vitdsl.runtime.graph.site import Site
from vitdsl.runtime.graph.tap import Reducer
from vitdsl.runtime.graph.tokens import prefix_of
from vitdsl.runtime.metrics._base import Array, Inputs, Metric, Seen, Value
from vitdsl.runtime.metrics._gram import accumulator

LUO = 1 - 0.9545
"""Pixels from this share of the largest gradient on count to the field of Luo et al. 2016."""
SHARES = {"radius_50": 0.5, "radius_90": 0.9}


class Params(Entry):
    """Fields of its own."""

    channels: int | None = Field(
        None, ge=1, description="How many channels are differentiated, evenly spaced; null: all of them."
    )
    resolution: int = Field(28, ge=1, description="At most so many rows and columns of the map are kept.")


class ReceptiveField(Metric):
    """The mean absolute gradient of a layer's centre, as a map and as scalars."""

    name = "receptive_field"
    Params = Params
    inputs = Inputs("layers", alone=True, image=True)
    gradients = True
    VALUES: ClassVar[Mapping[str, Value]] = {
        "map": Value(
            ("site", "row", "col"), "mean absolute gradient of the centre", "1", "none", (0.0, None)
        ),
        "centre_share": Value(("site",), "gradient in the centre's own patch", "1", "none", (0.0, 1.0)),
        "radius_50": Value(("site",), "radius that holds half of the gradient", "px", "none", (0.0, None)),
        "radius_90": Value(("site",), "radius that holds 90 % of the gradient", "px", "none", (0.0, None)),
        "area": Value(("site",), "pixels of an even field as concentrated", "px", "none", (0.0, None)),
        "luo": Value(("site",), "root of the pixels above 4.55 % of the largest", "px", "none", (0.0, None)),
    }
    reference = "Raghu et al. 2021, Figure 6"
    cites = ("raghu2021", "luo2016")

    def refuse(self, site: Site) -> str | None:
        """Needs a grid of positions, and all tokens."""
        if site.layout not in ("tokens", "map", "map_last") or site.grid is None or site.pixels is None:
            return f"one image's tensor has shape {list(site.shape)}, which is no grid over the image"
        return None if site.tokens == "all" else "it reads the centre position alone; write `tokens: all`"

    def coordinates(self, sites: Sequence[Site]) -> dict[str, Sequence[str | int]]:
        """The first pixel of each cell of the map."""
        assert sites[0].pixels is not None
        rows, cols = sites[0].pixels
        cell = self._cell(sites[0].pixels)
        return {"row": list(range(0, rows, cell)), "col": list(range(0, cols, cell))}

    def reducer(self) -> Reducer:
        """The sum over images of the mean over channels of absolute gradients."""
        assert isinstance(self.params, Params)
        return Reducer(absolute_gradients, (("channels", self.params.channels),))

    def observe(self, seen: Seen) -> dict[str, Tensor]:
        """Sums over images."""
        return {"sum": torch.stack([total for total, _ in seen.x]), "images": seen.x[0][1]}

    def estimate(self, statistics: Mapping[str, Array], sites: Sequence[Site]) -> dict[str, Array]:
        """The mean map and what it says, site by site."""
        total, images = statistics["sum"], statistics["images"]
        lead = images.shape
        maps = (total / images[..., None, None, None]).reshape(-1, *total.shape[len(lead) :])
        found = {name: np.empty((len(maps), len(sites))) for name in self.VALUES if name != "map"}
        for i, site in enumerate(sites):
            for k, field in enumerate(maps[:, i]):
                for name, value in scalars(field, site).items():
                    found[name][k, i] = value
        kept = _pooled(maps, self._cell(maps.shape[-2:]))
        return {
            "map": kept.reshape(*lead, *kept.shape[1:]),
            **{name: value.reshape(*lead, len(sites)) for name, value in found.items()},
        }

    def undefined(self, statistics: Mapping[str, Array], x: Sequence[Site], y: Sequence[Site]) -> list[str]:
        """Name the layers whose centre depends on no pixel, or whose gradients are not finite."""
        reasons = []
        for site, total in zip(x, statistics["sum"], strict=True):
            if not np.isfinite(total).all():
                reasons.append(f"gradients of `{site.name}` are not finite")
            elif not total.any():
                reasons.append(f"the centre of `{site.name}` depends on no pixel")
        return reasons

    def _cell(self, pixels: tuple[int, ...]) -> int:
        """Side of the cells of the map that is kept: the smallest that fits the resolution."""
        assert isinstance(self.params, Params)
        return math.ceil(max(pixels) / self.params.resolution)


def absolute_gradients(
    tensor: Tensor, images: Tensor, *, site: Site, channels: int | None
) -> tuple[Tensor, Tensor]:
    """The sum over a batch of each image's field `[row, col]`, and the number of images `[]`; float64.

    Images do not meet in a model in evaluation mode, so that the gradient of a sum over images is each image's own.

    Args:
        tensor: The layer, `[batch, token, width]` or a map.
        images: `[batch, 3, row, col]`, that the layer was computed from, with gradients.
        site: Its grid and prefix.
        channels: How many channels are differentiated; None for all.
    """
    centre = at_centre(tensor, site)
    chosen = chosen_channels(centre.shape[1], channels)
    total = torch.zeros(images.shape[-2:], dtype=accumulator(images.device), device=images.device)
    for channel in chosen if centre.requires_grad else ():  # constants, such as a fitted mean, do not
        (gradient,) = torch.autograd.grad(
            centre[:, channel].sum(), images, retain_graph=True, allow_unused=True, materialize_grads=True
        )
        total += gradient.abs().sum((0, 1), dtype=total.dtype)
    return total / len(chosen), total.new_full((), len(images))


def at_centre(tensor: Tensor, site: Site) -> Tensor:
    """The channels of a layer's centre position, `[batch, width]`."""
    assert site.grid is not None
    row, col = (cells // 2 for cells in site.grid)
    if site.layout == "map":
        return tensor[:, :, row, col]
    if site.layout == "map_last":
        return tensor[:, row, col]
    return tensor[:, prefix_of(site) + row * site.grid[1] + col]


def chosen_channels(count: int, wanted: int | None) -> list[int]:
    """Evenly spaced channels, all where so many are not there."""
    if wanted is None or wanted >= count:
        return list(range(count))
    return [int(i) for i in np.linspace(0, count - 1, wanted).round()]


def scalars(field: Array, site: Site) -> dict[str, float]:
    """What a map `[row, col]` of one site says; NaN where it is empty or not finite."""
    total = field.sum()
    if not np.isfinite(total) or total <= 0:
        return dict.fromkeys(("centre_share", *SHARES, "area", "luo"), float("nan"))
    assert site.grid is not None
    order, distances, inside = _about_centre(site.grid, field.shape)
    reached = np.cumsum(field.ravel()[order])
    radii = {
        name: float(distances[np.searchsorted(reached, share * reached[-1])])
        for name, share in SHARES.items()
    }
    return {
        "centre_share": float(field[inside].sum() / total),
        **radii,
        "area": float(total**2 / np.square(field).sum()),
        "luo": float(np.sqrt((field >= LUO * field.max()).sum())),
    }


@cache
def _about_centre(
    grid: tuple[int, int], pixels: tuple[int, ...]
) -> tuple[npt.NDArray[np.intp], Array, tuple[slice, slice]]:
    """Pixels from the middle of the centre patch outwards, their distances in that order, and that patch."""
    inside = [_centre_cell(cells, n) for cells, n in zip(grid, pixels, strict=True)]
    middle = [(one.start + one.stop - 1) / 2 for one in inside]
    down, right = (np.arange(n) - at for n, at in zip(pixels, middle, strict=True))
    distance = np.hypot(down[:, None], right[None, :]).ravel()
    order = np.argsort(distance, kind="stable")
    return order, distance[order], (inside[0], inside[1])


def _centre_cell(cells: int, pixels: int) -> slice:
    """The pixels of the centre one of so many cells, one pixel at least."""
    start = round(cells // 2 * pixels / cells)
    return slice(start, max(start + 1, round((cells // 2 + 1) * pixels / cells)))


def _pooled(maps: Array, cell: int) -> Array:
    """Means over cells of pixels of `[..., row, col]`."""
    sums, sizes = maps, []
    for axis in (-2, -1):
        starts = np.arange(0, maps.shape[axis], cell)
        sums = np.add.reduceat(sums, starts, axis)
        sizes.append(np.diff(starts, append=maps.shape[axis]))
    return np.asarray(sums / (sizes[0][:, None] * sizes[1]))
