"""Readouts: a site's tensor as the feature vectors that probes see, one vector for each probe.

Does not own which tokens a layer selects (`graph.tokens`), or what is learned from the vectors (`_ridge`).
"""

from dataclasses import dataclass
from math import gcd, prod
from typing import Literal

from torch import Tensor

from vitdsl.runtime.graph.site import Site
from vitdsl.runtime.graph.tap import Reducer
from vitdsl.runtime.graph.tokens import UNKNOWN_PREFIX, as_tokens, chosen_tokens, prefix_of, token_count
from vitdsl.runtime.metrics._gram import accumulator
from vitdsl.runtime.transfer import places

POSITIONS = ("tokens", "map", "map_last")


@dataclass(frozen=True)
class Readout:
    """What of a site's tensor is one feature vector.

    Attributes:
        each: `token`: every selected token is a vector of its own; None: all of them together are one.
        grid: Positions are averaged to this many rows and columns first; None leaves them.
        space_to_depth: Before that, positions are joined to small patches of at most so many channels; None: not.
    """

    each: Literal["token"] | None = None
    grid: tuple[int, int] | None = None
    space_to_depth: int | None = None

    def refuse(self, site: Site) -> str | None:
        """Why a site cannot be read so, or None."""
        tokens = site.tokens
        if self.space_to_depth is not None and self.grid is None:
            return (
                "`space_to_depth` joins positions before they are averaged; write the `grid` that it ends in"
            )
        if site.layout == "windows":
            return "its tensor holds windows of images, not images"
        if site.layout not in POSITIONS and (self.each or self.grid):
            what = "`each: token`" if self.each else "`grid`"
            return f"its tensor (shape {list(site.shape)} for one image) has no tokens; leave {what} out"
        if self.each and tokens == "mean":
            return "the mean of its tokens is one vector; leave `each` out, or use `tokens: spatial`"
        if (self.grid or tokens in ("spatial", "mean")) and site.prefix is None:
            return UNKNOWN_PREFIX
        return self._refuse_grid(site) if self.grid else None

    def _refuse_grid(self, site: Site) -> str | None:
        if site.tokens not in ("all", "spatial", "mean") or (site.tokens == "all" and prefix_of(site) > 0):
            return "`grid` averages the tokens of the image; use `tokens: spatial` or `tokens: mean`"
        if site.grid is None:
            return "its token axis is not the model's patch grid; leave `grid` out"
        assert self.grid is not None
        if any(have % want for have, want in zip(site.grid, self.grid, strict=True)):
            have, want = (f"{rows} x {cols}" for rows, cols in (site.grid, self.grid))
            return (
                f"its grid of {have} positions cannot be cut into {want} equal parts; choose another `grid`"
            )
        return None

    def tokens(self, site: Site) -> tuple[int, ...]:
        """Which token each vector is of, by its place on the token axis (or in `grid`); (0,) where they are joined."""
        if not self.each:
            return (0,)
        if self.grid:
            return tuple(range(prod(self.grid)))
        return chosen_tokens(site)

    def width(self, site: Site) -> int:
        """Features of a vector."""
        if site.layout not in POSITIONS:
            return prod(site.shape)
        width = prod(site.shape) // token_count(site)
        if self.grid:
            width *= self._side(site) ** 2
        if self.each or site.tokens == "mean":
            return width
        return width * (prod(self.grid) if self.grid else len(chosen_tokens(site)))

    def _side(self, site: Site) -> int:
        """Side of the patches that `space_to_depth` joins: the largest that fits the grid and the channels."""
        if self.space_to_depth is None:
            return 1
        assert site.grid is not None and self.grid is not None
        (rows, cols), (to_rows, to_cols) = site.grid, self.grid
        width = prod(site.shape) // token_count(site)
        cell = gcd(rows // to_rows, cols // to_cols)
        sides = [side for side in range(1, cell + 1) if cell % side == 0]
        return max((side for side in sides if width * side**2 <= self.space_to_depth), default=1)

    def reducer(self) -> Reducer:
        """The vectors of a batch, `[batch, probe, feature]`."""
        return Reducer(vectors, (("readout", self),))


def vectors(tensor: Tensor, *, site: Site, readout: Readout) -> Tensor:
    """The feature vectors of a batch, `[batch, probe, feature]`; float32, averages float64 (float32 on mps).

    Args:
        tensor: A site's tensor, `[batch, ...]`.
        site: Where it was read.
        readout: What of it is one vector.
    """
    exact = accumulator(tensor.device)
    if site.layout not in POSITIONS:
        return tensor.float().flatten(1)[:, None]
    tokens = as_tokens(tensor, site)
    if readout.grid:
        tokens = _on_grid(tokens[:, prefix_of(site) :], site, readout)
    else:
        tokens = places(tokens, 1, chosen_tokens(site))
    if site.tokens == "mean":
        return tokens.mean(1, keepdim=True, dtype=exact)
    tokens = tokens if tokens.dtype == exact else tokens.float()
    return tokens if readout.each else tokens.flatten(1)[:, None]


def _on_grid(tokens: Tensor, site: Site, readout: Readout) -> Tensor:
    """Positions joined to patches and averaged to a grid, `[batch, position, channel]`."""
    assert site.grid is not None and readout.grid is not None
    (rows, cols), (to_rows, to_cols), side = site.grid, readout.grid, readout._side(site)
    down, right = rows // to_rows // side, cols // to_cols // side
    parts = tokens.reshape(len(tokens), to_rows, down, side, to_cols, right, side, tokens.shape[-1])
    means = parts.mean((2, 5), dtype=accumulator(tokens.device))
    return means.permute(0, 1, 3, 5, 2, 4).flatten(3).flatten(1, 2)
