"""Procrustes distance: how far apart two layers are once one is turned to fit the other best.

What it measures:
    What no rotation of the features takes away: the distance that is left between two layers' images when one layer is
    turned (and mirrored) to fit the other as well as it can. Within one set of layers (`x` alone), across two sets (`x`
    and `y`), or each condition against the intact model at the same sites (`against: baseline`).
Formula:
    X, Y: features over all images, columns centred; ||.||_* the sum of singular values. d2 = 2 - 2 c with c =
    ||X'Y||_* / (||X|| ||Y||), both layers of norm 1; similarity = 1 - d2 / 2 = c. angular = arccos(c).
    size_and_shape = ||X||^2 + ||Y||^2 - 2 ||X'Y||_*, centred only. The narrower layer counts as filled up with zeros.
Shapes:
    Any tensor with the image axis first; the selected tokens and all channels of an image are one feature vector.
    `tokens: mean` or `tokens: cls` is recommended: all images' vectors are kept.
Range:
    d2 0 (equal up to rotation, shift and scale) to 2; similarity 1 to 0; angular, a true metric, 0 to pi / 2.
    size_and_shape from 0, in squared units of the layer, summed over images: it grows with their number. A layer
    that is constant over the images has no norm: NaN, but for size_and_shape.
Cost:
    The features of every image are kept: images x features numbers for each site and condition, twice with `against`.
    For each pair of sites and each of 32 left-out groups of images, one product and the singular values of a matrix of
    min(features, images) by the same of y: 7 ms for 192 features, 0.2 s for 768, with 2,000 images on one core. A
    layer with more features than images is first written in as many directions as images, once.
Reference:
    Ding et al. 2021 (arXiv 2108.01661), d2; Williams et al. 2021 (arXiv 2110.14739), angular and size_and_shape.
Limits:
    Like biased CKA it finds likeness by chance where features outnumber images: unrelated layers come out alike.
    Compare numbers of one number of images. Not invariant to scaling single features.

Example:
    metrics:
      turned: {kind: procrustes, x: vit_blocks, under: baseline}
      moved:  {kind: procrustes, x: vit_blocks, against: baseline}
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from vitdsl.runtime.metrics._base import Array, Value
from vitdsl.runtime.metrics._pairs import Chosen, Pairs, is_constant

SITES = ("site_x", "site_y")


@dataclass(frozen=True)
class Shape:
    """A layer about its mean, `[image, direction]`, its squared norm, and whether it has a shape at all."""

    points: Array
    energy: float
    constant: bool


class Procrustes(Pairs):
    """What is left between two layers after the best rotation."""

    name = "procrustes"
    identity: ClassVar[Mapping[str, float]] = {"d2": 0.0, "similarity": 1.0, "angular": 0.0}
    VALUES: ClassVar[Mapping[str, Value]] = {
        "d2": Value(SITES, "squared Procrustes distance at norm 1", "1", "lower", (0.0, 2.0)),
        "similarity": Value(SITES, "Procrustes similarity", "1", "higher", (0.0, 1.0)),
        "angular": Value(SITES, "angular Procrustes distance", "rad", "lower", (0.0, np.pi / 2)),
        "size_and_shape": Value(SITES, "squared Procrustes distance, sizes kept", "1", "lower", (0.0, None)),
    }
    reference = "Ding et al. 2021; Williams et al. 2021"
    cites = ("ding2021", "williams2021")

    def known(self, features: Array, removed: int) -> Array:
        """The features, in as many directions as images where that is fewer."""
        images, width = features.shape
        return features if width <= images else np.asarray(np.linalg.qr(features.T, mode="r")).T

    def form(self, known: Array, images: Chosen) -> Shape:
        """Some images about their mean."""
        some = known[images]
        points = some - some.mean(0)
        return Shape(points, float(np.square(points).sum()), is_constant(some))

    def compare(self, x: Shape, y: Shape) -> dict[str, float]:
        """The sum of singular values of the layers' product, in four forms."""
        common = _common(x, y)
        size = max(0.0, x.energy + y.energy - 2 * common)
        if x.constant or y.constant:
            nothing = float("nan")
            return {"d2": nothing, "similarity": nothing, "angular": nothing, "size_and_shape": size}
        cosine = min(1.0, common / float(np.sqrt(x.energy * y.energy)))
        return {
            "d2": 2 - 2 * cosine,
            "similarity": cosine,
            "angular": float(np.arccos(cosine)),
            "size_and_shape": size,
        }

    def why_undefined(self, features: Array) -> str | None:
        """A constant layer has no norm."""
        return "is constant over the images" if is_constant(features) else None


def _common(x: Shape, y: Shape) -> float:
    """The sum of singular values of X'Y; of a layer and itself exactly its squared norm."""
    if x.points is y.points or np.array_equal(x.points, y.points):
        return x.energy
    return float(np.linalg.svd(x.points.T @ y.points, compute_uv=False).sum())
