"""How much of a layer's features varies fast over the image: amplitude by spatial frequency, and variance.

What it measures:
    Whether a layer keeps fine detail (high frequencies stay strong beside the mean) or smooths it away, and how much
    its features vary from position to position. Attention tends to lower both, convolutions and MLPs to raise them.
Formula:
    F = the two-dimensional discrete Fourier transform of one channel of one image over the grid, not normalised.
    log_amplitude(k) = mean over images and channels of log(|F(k)| + epsilon) - the same of F(0, 0): the natural log
    before any mean. `profile: diagonal` takes F(k, k), k = 0, 1, ... below half the grid. `profile: radial` takes the
    mean over all coefficients whose radius rounds to k: for a grid of H x W, the coefficient (i, j) has radius
    min(H, W) sqrt((i / H)^2 + (j / W)^2); those at or beyond half the grid belong to no k. high = log_amplitude at
    the last k. variance = mean over images and channels of the variance over positions (divided by positions - 1).
    variance_share = variance over the mean square of all values.
Shapes:
    Tokens `[batch, token, width]` on the patch grid or maps `[batch, width, row, col]`; class and register tokens are
    dropped. The frequency k counts cycles over the grid's (shorter) side. A grid with fewer rows than another has
    fewer frequencies, and NaN for the others.
Range:
    log_amplitude is 0 at k = 0 and mostly negative; variance from 0; variance_share 0 (the same everywhere) to about
    1 (mean 0 over positions; n / (n - 1) for n positions at most).
Cost:
    One small Fourier transform for each channel, in float64.
Reference:
    Park and Kim 2022 (arXiv 2202.06709), Figures 2, 8 and 9.
Limits:
    For an even grid the last k lies below half the sampling rate (6 of 7 for 14 x 14), although the paper plots it
    there; a 7 x 7 grid has 4 frequencies in all. Compare `high` between layers of one grid only. epsilon is absolute:
    a layer with amplitudes near it is flattened. Variance has the layer's scale, which grows with depth in many
    models; variance_share does not.

Example:
    metrics:
      frequencies: {kind: fourier, x: vit_blocks, under: baseline}
"""

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from vitdsl.dsl.study import Entry
from vitdsl.runtime.graph.site import Site
from vitdsl.runtime.graph.tap import Reducer
from vitdsl.runtime.graph.tokens import UNKNOWN_PREFIX, as_tokens, prefix_of
from vitdsl.runtime.metrics._base import Array, Inputs, Metric, Seen, Value
from vitdsl.runtime.metrics._gram import accumulator
from vitdsl.runtime.metrics._parts import images_at_once
from vitdsl.runtime.transfer import held

Profile = Literal["diagonal", "radial"]
SMALLEST_GRID = 3
"""A grid of fewer rows or columns has no frequency beside the mean."""


class Params(Entry):
    """Fields of its own."""

    profile: Profile = Field(
        "diagonal",
        description="Which coefficients a frequency stands for: `diagonal` as in the paper, for square grids; "
        "`radial`: all at the same distance from zero, for any grid.",
    )
    epsilon: float = Field(1e-6, gt=0, description="Added to each amplitude before the log.")


class Fourier(Metric):
    """Relative log amplitude by spatial frequency, and variance over positions."""

    name = "fourier"
    Params = Params
    inputs = Inputs("layers", alone=True)
    VALUES: ClassVar[Mapping[str, Value]] = {
        "log_amplitude": Value(("site", "frequency"), "log amplitude beside that of the mean"),
        "high": Value(("site",), "log amplitude of the highest frequency beside that of the mean"),
        "variance": Value(("site",), "variance over positions", range=(0.0, None)),
        "variance_share": Value(("site",), "variance over positions over mean square", range=(0.0, None)),
    }
    reference = "Park and Kim 2022, Figures 2, 8 and 9"
    cites = ("park2022",)
    degrees: ClassVar[Mapping[str, int]] = {"profile": 1, "moments": 1}

    def refuse(self, site: Site) -> str | None:
        """Needs a grid of 3 x 3 positions or more, a square one for the diagonal, and all of its tokens."""
        assert isinstance(self.params, Params)
        if site.layout not in ("tokens", "map", "map_last") or site.grid is None:
            return f"one image's tensor has shape {list(site.shape)}, which is no grid over the image"
        if site.prefix is None:
            return UNKNOWN_PREFIX
        if site.tokens not in ("all", "spatial"):
            return "it reads the whole grid; write `tokens: all`"
        rows, cols = site.grid
        if min(rows, cols) < SMALLEST_GRID:
            return f"its grid is {rows} x {cols}, and below 3 x 3 there is no frequency beside the mean"
        if rows != cols and self.params.profile == "diagonal":
            return f"its grid is {rows} x {cols}, which has no diagonal; write `profile: radial`"
        return None

    def coordinates(self, sites: Sequence[Site]) -> dict[str, Sequence[str | int]]:
        """Cycles over the grid."""
        return {"frequency": list(range(max(_frequencies(site) for site in sites)))}

    def reducer(self) -> Reducer:
        """Each image's log amplitudes, variance and mean square."""
        assert isinstance(self.params, Params)
        return Reducer(
            amplitudes_and_moments, (("profile", self.params.profile), ("epsilon", self.params.epsilon))
        )

    def observe(self, seen: Seen) -> dict[str, Tensor]:
        """Sums over images; sites with fewer frequencies are padded with NaN."""
        most = max(read[0].shape[1] for read in seen.x)
        padded = [
            torch.nn.functional.pad(read[0], (0, most - read[0].shape[1]), value=float("nan"))
            for read in seen.x
        ]
        return {
            "profile": seen.by_group(torch.stack(padded, 1)),
            "moments": seen.by_group(torch.stack([read[1] for read in seen.x], 1)),
        }

    def estimate(self, statistics: Mapping[str, Array], sites: Sequence[Site]) -> dict[str, Array]:
        """Means over images, the mean's own log amplitude subtracted."""
        with np.errstate(divide="ignore", invalid="ignore"):
            moments = statistics["moments"]
            profile = statistics["profile"] / moments[..., -1:]
            variance = moments[..., 0] / moments[..., -1]
            share = moments[..., 0] / moments[..., 1]
        relative = profile - profile[..., :1]
        last = np.asarray([_frequencies(site) - 1 for site in sites])
        return {
            "log_amplitude": relative,
            "high": relative[..., np.arange(len(sites)), last],
            "variance": variance,
            "variance_share": share,
        }

    def undefined(self, statistics: Mapping[str, Array], x: Sequence[Site], y: Sequence[Site]) -> list[str]:
        """Name the layers that are not finite, or zero throughout."""
        reasons = []
        for site, moments in zip(x, statistics["moments"], strict=True):
            if not np.isfinite(moments).all():
                reasons.append(f"`{site.name}` has values that are not finite")
            elif moments[-1] > 0 and moments[1] == 0:
                reasons.append(f"`{site.name}` is zero throughout, so it has no variance share")
        return reasons


def amplitudes_and_moments(
    tensor: Tensor, *, site: Site, profile: Profile, epsilon: float
) -> tuple[Tensor, Tensor]:
    """Log amplitude by frequency `[batch, frequency]`, and variance, mean square and 1 `[batch, 3]`.

    Float64 (float32 on mps), means over channels. A few images at a time.

    Args:
        tensor: `[batch, token, width]` or a map.
        site: Its grid and prefix.
        profile: Which coefficients a frequency stands for.
        epsilon: Added to each amplitude.
    """
    assert site.grid is not None
    exact = accumulator(tensor.device)
    weights = held(_weights, site.grid, profile, device=tensor.device, dtype=exact)
    few = torch.split(tensor, images_at_once(tensor))
    parts = [_of_part(part, site, weights, epsilon) for part in few]
    profiles, moments = zip(*parts, strict=True)
    return torch.cat(profiles), torch.cat(moments)


def _of_part(tensor: Tensor, site: Site, weights: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    assert site.grid is not None
    exact = accumulator(tensor.device)
    tokens = as_tokens(tensor, site)
    spatial = (tokens[:, prefix_of(site) :] if site.layout == "tokens" else tokens).to(exact)
    grid = spatial.reshape(len(spatial), *site.grid, -1)
    logs = (torch.fft.rfft2(grid, dim=(1, 2)).abs() + epsilon).log().mean(-1)
    variance = spatial.var(1, correction=1).mean(-1)
    square = spatial.square().mean((1, 2))
    profile = logs.flatten(1) @ weights.mT
    return profile, torch.stack([variance, square, torch.ones_like(square)], 1)


def _frequencies(site: Site) -> int:
    """How many frequencies lie below half of the grid's shorter side, 0 included."""
    assert site.grid is not None
    return math.ceil(min(site.grid) / 2)


def _weights(grid: tuple[int, int], profile: Profile) -> Tensor:
    """What each coefficient of the half transform adds to each frequency, `[frequency, row * (col // 2 + 1)]`."""
    rows, cols = grid
    down = np.fft.fftfreq(rows)[:, None]
    right = np.arange(cols // 2 + 1)[None, :] / cols
    count = math.ceil(min(grid) / 2)
    found = np.zeros((count, rows, cols // 2 + 1))
    if profile == "diagonal":
        found[range(count), range(count), range(count)] = 1.0
        return torch.from_numpy(found.reshape(count, -1))
    near = np.rint(np.hypot(down, right) * min(grid))
    # The half transform leaves out the mirror images of the columns that are neither 0 nor half of the grid.
    times = np.where((right == 0) | (right == 0.5), 1.0, 2.0) + 0 * down
    for frequency in range(count):
        here = times * (near == frequency)
        found[frequency] = here / here.sum()
    return torch.from_numpy(found.reshape(count, -1))
