"""Mutual nearest neighbours: how many of an image's nearest images two layers agree on.

What it measures:
    Whether two layers put the same images next to one another, whatever they do with images that are far apart. Within
    one set of layers (`x` alone), across two sets (`x` and `y`), or each condition against the intact model at the same
    sites (`against: baseline`).
Formula:
    N(i): the k images with the largest cosine to image i, itself left out; of equally near ones those first in the
    stream. overlap = mean over images i of |N_x(i) and N_y(i)| / k. jaccard = mean over i of |N_x(i) and N_y(i)| /
    |N_x(i) or N_y(i)|. Unrelated layers have an overlap of k / (n - 1) with n images: the dashed line.
Shapes:
    Any tensor with the image axis first; the selected tokens and all channels of an image are one feature vector.
    `tokens: mean` or `tokens: cls` is recommended: all images' vectors are kept.
Range:
    0 to 1, and 1 for a layer and itself. With k images or fewer there are no k neighbours, and a layer that gives an
    image zero has no cosine: NaN.
Cost:
    The features of every image are kept: images x features numbers for each site and condition, twice with `against`.
    For each site one product of images x features x images and a partial sort, once for all 32 left-out groups of
    images, which then drop their images from k + images / 32 sorted neighbours: for 2,000 images of 768 features about
    0.4 s on one core.
Reference:
    Huh et al. 2024 (arXiv 2405.07987), k 10, without its clamping of large features; jaccard: Klabunde et al. 2023
    (arXiv 2305.06329).
Limits:
    Its chance level depends on the number of images: compare numbers of one n and k. A layer whose features share a
    large mean has cosines near 1 whose order is the rest's; the mean is not taken off.

Example:
    metrics:
      near: {kind: mutual_knn, x: vit_blocks, y: res_blocks, under: baseline, k: 10}
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import Field

from vitdsl.dsl.study import Entry
from vitdsl.runtime.graph.site import Site
from vitdsl.runtime.metrics._base import Array, Value
from vitdsl.runtime.metrics._pairs import Chosen, Pairs, without_repeats

SITES = ("site_x", "site_y")
PART = 256
"""Images whose neighbours are sought at a time."""
Indices = npt.NDArray[np.intp]


class Params(Entry):
    """Fields of its own."""

    k: int = Field(10, ge=1, description="How many neighbours of each image are compared.")


@dataclass(frozen=True)
class Near:
    """The nearest images of every image, the nearest first, `[image, neighbour]`, and how many images there are."""

    neighbours: Indices
    images: int


class MutualKnn(Pairs):
    """The overlap of two layers' nearest neighbours."""

    name = "mutual_knn"
    Params = Params
    identity: ClassVar[Mapping[str, float]] = {"overlap": 1.0, "jaccard": 1.0}
    VALUES: ClassVar[Mapping[str, Value]] = {
        "overlap": Value(SITES, "nearest neighbours in common", "1", "higher", (0.0, 1.0)),
        "jaccard": Value(
            SITES, "nearest neighbours in common, of those of either", "1", "higher", (0.0, 1.0)
        ),
    }
    reference = "Huh et al. 2024"
    cites = ("huh2024", "klabunde2023")

    @property
    def k(self) -> int:
        """How many neighbours are compared."""
        assert isinstance(self.params, Params)
        return self.params.k

    def line_seen(
        self, value: str, statistics: Mapping[str, Array], sites: Sequence[Site]
    ) -> tuple[float, str] | None:
        """The overlap of unrelated layers, where there are enough images."""
        images = statistics["x_0"].shape[1]
        if value != "overlap" or images <= self.k:
            return None
        return self.k / (images - 1), f"chance, {self.k} of {images - 1} images"

    def known(self, features: Array, removed: int) -> Near | None:
        """So many neighbours that k are left whichever images go; None where an image has no cosine or no k others."""
        sizes = np.linalg.norm(features, axis=1)
        if not sizes.all() or len(features) <= self.k:
            return None
        return Near(nearest(features / sizes[:, None], self.k + removed), len(features))

    def form(self, known: Near, images: Chosen) -> Near:
        """The k nearest of the images that stay."""
        stays = np.zeros(known.images, bool)
        stays[images] = True
        left = int(stays.sum())
        if left <= self.k:
            return Near(np.empty((0, self.k), np.intp), left)
        found = known.neighbours[stays]
        here = stays[found]
        chosen = here & (here.cumsum(1) <= self.k)
        return Near(found[chosen].reshape(left, self.k), left)

    def compare(self, x: Near, y: Near) -> dict[str, float]:
        """Means over images."""
        if not len(x.neighbours):
            return {"overlap": float("nan"), "jaccard": float("nan")}
        common = (x.neighbours[:, :, None] == y.neighbours[:, None, :]).sum((1, 2))
        return {
            "overlap": float((common / self.k).mean()),
            "jaccard": float((common / (2 * self.k - common)).mean()),
        }

    def why_undefined(self, features: Array) -> str | None:
        """Too few images, or one without a direction."""
        if len(features) <= self.k:
            return f"has {len(features)} images, and {self.k} neighbours of each need {self.k + 1}"
        return None if np.linalg.norm(features, axis=1).all() else "gives an image zero, which has no cosine"


def nearest(directions: Array, count: int) -> Indices:
    """For each row of `[image, feature]`, the others with the largest product with it, the largest first.

    Of equal ones the first comes first.

    Args:
        directions: Rows of norm 1.
        count: So many others, or all there are.
    """
    images = len(directions)
    count = min(count, images - 1)
    different, which = without_repeats(directions)
    found = np.empty((images, count), np.intp)
    for start in range(0, images, PART):
        part = slice(start, min(start + PART, images))
        products = (different[which[part]] @ different.T)[:, which]
        products[np.arange(len(products)), np.arange(part.start, part.stop)] = -np.inf
        least = np.partition(products, images - count, axis=1)[:, images - count, None]
        for row, (line, bound) in enumerate(zip(products, least, strict=True)):
            near = np.flatnonzero(line >= bound)
            found[start + row] = near[np.argsort(-line[near], kind="stable")][:count]
    return found
