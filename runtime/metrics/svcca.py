"""SVCCA: how well directions of two layers can be matched by any linear map.

What it measures:
    Whether two layers hold the same information up to an invertible linear map: canonical correlations, after
    directions of little variance are left out (svcca), weighted by what they hold of x (pwcca), or squared and
    averaged over all directions (r2_cca). Within one set of layers (`x` alone), across two sets (`x` and `y`), or each
    condition against the intact model at the same sites (`against: baseline`).
Formula:
    X, Y: features over all images, columns centred; X = U S V' its singular value decomposition, directions of X those
    with singular values above max(n, p) times float32's rounding of the largest. The singular values of U_x' U_y are
    the canonical correlations rho. svcca = mean rho of the leading directions that hold `variance` of each layer's
    squares. r2_cca = mean of rho^2, all directions. pwcca = sum_i a_i rho_i / sum_i a_i, all directions, a_i = sum_j
    |<h_i, x_j>|, h_i the canonical variates of x and x_j its features: not symmetric. Means are over as many rho as the
    narrower layer has directions.
Shapes:
    Any tensor with the image axis first; the selected tokens and all channels of an image are one feature vector.
    `tokens: mean` or `tokens: cls` is needed in practice: there must be more images than features.
Range:
    0 to 1, and 1 for a layer and itself. With as many features as images or more every correlation is 1 whatever the
    layers are: NaN, as for a layer that is constant over the images. pwcca is NaN also where two layers together have
    as many features as there are images: some correlations are then 1 for certain, and their weights arbitrary.
Cost:
    The features of every image are kept: images x features numbers for each site and condition, twice with `against`.
    For each of 32 left-out groups of images, one eigendecomposition of features x features for each site, and one
    singular value decomposition for each pair of sites in either order: 0.02 s for 192 features, 0.3 and 0.5 s for
    768, on one core.
Reference:
    Raghu et al. 2017 (arXiv 1706.05806); pwcca: Morcos et al. 2018 (arXiv 1806.05759), with the weights of x always;
    r2_cca: Kornblith et al. 2019 (arXiv 1905.00414).
Limits:
    Biased upwards: unrelated layers of p and q directions have an r2_cca near max(p, q) / n. Take five to ten times as
    many images as features. r2_cca and pwcca count directions of hardly any variance.

Example:
    metrics:
      linear: {kind: svcca, x: vit_blocks, under: baseline}
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from pydantic import Field

from vitdsl.dsl.study import Entry
from vitdsl.runtime.graph.site import Site
from vitdsl.runtime.metrics._base import Array, Value
from vitdsl.runtime.metrics._pairs import Chosen, Pairs, is_constant

SITES = ("site_x", "site_y")


class Params(Entry):
    """Fields of its own."""

    variance: float = Field(
        0.99, gt=0, le=1, description="Share of a layer's variance that svcca's directions hold together."
    )


@dataclass(frozen=True)
class Directions:
    """A layer's directions, the largest first.

    Attributes:
        scores: Orthonormal, `[image, direction]`.
        loadings: What each feature holds of each direction, `[direction, feature]`: scores @ loadings is the layer.
        kept: So many hold the variance that is asked for.
    """

    scores: Array
    loadings: Array
    kept: int


class Svcca(Pairs):
    """Mean canonical correlations of two layers, in three forms."""

    name = "svcca"
    Params = Params
    symmetric = False
    identity: ClassVar[Mapping[str, float]] = {"svcca": 1.0, "pwcca": 1.0, "r2_cca": 1.0}
    VALUES: ClassVar[Mapping[str, Value]] = {
        "svcca": Value(SITES, "mean canonical correlation", "1", "higher", (0.0, 1.0)),
        "pwcca": Value(SITES, "canonical correlation weighted by x", "1", "higher", (0.0, 1.0)),
        "r2_cca": Value(SITES, "mean squared canonical correlation", "1", "higher", (0.0, 1.0)),
    }
    reference = "Raghu et al. 2017; Morcos et al. 2018"
    cites = ("raghu2017", "morcos2018", "kornblith2019")

    def known(self, features: Array, removed: int) -> Array:
        """The features."""
        return features

    def form(self, known: Array, images: Chosen) -> Directions | None:
        """The directions of some images; None where there are too few of them, or all are equal."""
        assert isinstance(self.params, Params)
        some = known[images]
        if len(some) <= some.shape[1] or is_constant(some):
            return None
        return directions(some - some.mean(0), self.params.variance)

    def compare(self, x: Directions | None, y: Directions | None) -> dict[str, float]:
        """Canonical correlations from one table of products of directions."""
        if x is None or y is None:
            return dict.fromkeys(self.VALUES, float("nan"))
        table = x.scores.T @ y.scores
        left, correlations, _ = np.linalg.svd(table, full_matrices=False)
        correlations = correlations.clip(0, 1)
        leading = np.linalg.svd(table[: x.kept, : y.kept], compute_uv=False).clip(0, 1)
        weights = np.abs(left.T @ x.loadings).sum(1)
        if x.loadings.shape[1] + y.loadings.shape[1] >= len(x.scores):
            weights = np.full_like(weights, np.nan)
        return {
            "svcca": float(leading.mean()),
            "pwcca": float((weights * correlations).sum() / weights.sum()),
            "r2_cca": float(np.square(correlations).mean()),
        }

    def why_undefined(self, features: Array) -> str | None:
        """Too few images, or a constant layer."""
        images, width = features.shape
        if images <= width:
            return f"has {width} features and {images} images, too few for canonical correlations"
        return "is constant over the images" if is_constant(features) else None

    def undefined(self, statistics: Mapping[str, Array], x: Sequence[Site], y: Sequence[Site]) -> list[str]:
        """Also how many pairs of layers have too many features for pwcca alone."""
        images = len(statistics["x_0"])
        sides = {
            side: [array.shape[1] for name, array in statistics.items() if name.rpartition("_")[0] == side]
            for side in self.rows
        }
        left = sides["x"]
        pairs = (
            list(zip(left, sides["intact"], strict=True))
            if sides["intact"]
            else [(one, other) for one in left for other in sides["y"] or left]
        )
        wide = sum(max(pair) < images <= sum(pair) for pair in pairs)
        return super().undefined(statistics, x, y) + wide_pairs(wide, images)


def wide_pairs(count: int, images: int) -> list[str]:
    """Why pwcca alone is undefined, if it is for some pairs of layers."""
    are = "pair of layers has" if count == 1 else "pairs of layers have"
    return [f"{count} {are} {images} features together or more, of {images} images, too many for pwcca"] * (
        count > 0
    )


def directions(centred: Array, variance: float) -> Directions:
    """The directions of a layer about its mean, `[image, feature]`, more images than features.

    Squares of singular values are those of a features x features matrix: fewer numbers, and exact enough, since
    directions near the rounding of float32 are left out.
    """
    squares, axes = np.linalg.eigh(centred.T @ centred)
    squares, axes = squares[::-1].clip(0), axes[:, ::-1]
    bound = (max(centred.shape) * np.finfo(np.float32).eps) ** 2 * squares[0]
    count = int((squares > bound).sum())
    sizes, axes = np.sqrt(squares[:count]), axes[:, :count]
    held = np.cumsum(squares) / squares.sum()
    kept = min(count, 1 + int(np.searchsorted(held, variance)))
    return Directions(centred @ (axes / sizes), (axes * sizes).T, kept)
