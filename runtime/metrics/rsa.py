"""Representational similarity analysis: whether two layers order pairs of images by distance alike.

What it measures:
    Each layer's table of distances between images, compared between two layers. With the default (ranks) only the order
    of the distances counts. Within one set of layers (`x` alone), across two sets (`x` and `y`), or each condition
    against the intact model at the same sites (`against: baseline`).
Formula:
    D(i, j) for all pairs of images i < j: `correlation`, 1 - Pearson over features; `cosine`, 1 - cosine; `euclidean`.
    rsa = correlation of D_x with D_y over pairs: `spearman` (of ranks, equal ones their mean), `pearson`, or `kendall`
    (tau-a: pairs of pairs in the same order less those in the opposite one, over all of them).
Shapes:
    Any tensor with the image axis first; the selected tokens and all channels of an image are one feature vector.
    `tokens: mean` or `tokens: cls` is recommended: all images' vectors are kept.
Range:
    -1 to 1; 0 for unrelated layers, 1 for a layer and itself (with `kendall`, as many tied pairs less). NaN where an
    image's features are all equal (no Pearson), all zero (no cosine), or all distances equal.
Cost:
    The features of every image are kept: images x features numbers for each site and condition, twice with `against`;
    and while it estimates three times n (n - 1) / 2 numbers for each site: 48 MB for 2,000 images. Distances are
    computed and sorted once. Each of 32 left-out groups of images then costs a pass over a site's distances (0.2 s for
    2,000 images, 3 ms for 500, on one core) and over those of each pair of sites (5 ms); `kendall` sorts for each pair
    of sites (2 s, and 0.1 s for 500): take few images.
Reference:
    Kriegeskorte, Mur and Bandettini 2008; defaults as in Klabunde et al. 2023 (arXiv 2305.06329).
Limits:
    Pairs of images are not independent: that is why intervals leave out images. Ranks hide how much distances differ.

Example:
    metrics:
      tables: {kind: rsa, x: vit_blocks, y: res_blocks, under: baseline}
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from vitdsl.dsl.study import Entry
from vitdsl.runtime.metrics._base import Array, Value
from vitdsl.runtime.metrics._pairs import Chosen, Pairs, without_repeats

Indices = npt.NDArray[np.intp]


class Params(Entry):
    """Fields of its own."""

    distance: Literal["correlation", "euclidean", "cosine"] = Field(
        "correlation",
        description="Distance of two images in a layer; correlation: 1 - Pearson over features.",
    )
    compare: Literal["spearman", "pearson", "kendall"] = Field(
        "spearman", description="How two layers' distances are compared; kendall: tau-a."
    )


@dataclass(frozen=True)
class Distances:
    """A layer's distances of pairs of images i < j, `[pair]`, their order, and how many images there are."""

    each: Array
    order: Indices
    images: int


class Rsa(Pairs):
    """The correlation of two layers' distances between images."""

    name = "rsa"
    Params = Params
    identity: ClassVar[Mapping[str, float]] = {"rsa": 1.0}
    VALUES: ClassVar[Mapping[str, Value]] = {
        "rsa": Value(
            ("site_x", "site_y"),
            "correlation of distances between images",
            "1",
            "higher",
            (-1.0, 1.0),
            correlation=True,
        )
    }
    reference = "Kriegeskorte et al. 2008"
    cites = ("kriegeskorte2008", "klabunde2023")

    def __init__(self, params: Entry) -> None:
        super().__init__(params)
        if isinstance(params, Params) and params.compare == "kendall":
            self.identity = {}  # type: ignore[misc]  # less than 1 where distances are tied

    def known(self, features: Array, removed: int) -> Distances:
        """All distances and their order."""
        assert isinstance(self.params, Params)
        each = distances(features, self.params.distance)
        return Distances(each, np.argsort(each, kind="stable"), len(features))

    def form(self, known: Distances, images: Chosen) -> Array | None:
        """What is multiplied for a correlation: ranks or distances about their mean, at norm 1; None where undefined.

        For `kendall` the distances as they are.
        """
        assert isinstance(self.params, Params)
        stays = np.zeros(known.images, bool)
        stays[images] = True
        kept = np.concatenate([stays[i + 1 :] & stays[i] for i in range(known.images)])
        each = known.each[kept]
        if len(each) < 2 or np.isnan(each).any() or each.min() == each.max():
            return None
        if self.params.compare == "kendall":
            return np.asarray(each)
        if self.params.compare == "spearman":
            place = np.cumsum(kept) - 1
            each = ranks(each, place[known.order[kept[known.order]]])
        each = each - each.mean()
        return np.asarray(each / np.sqrt(np.square(each).sum()))

    def compare(self, x: Array | None, y: Array | None) -> dict[str, float]:
        """The correlation over pairs of images."""
        assert isinstance(self.params, Params)
        if x is None or y is None:
            return {"rsa": float("nan")}
        if self.params.compare == "kendall":
            return {"rsa": tau_a(x, y)}
        return {"rsa": float(np.clip(x @ y, -1.0, 1.0))}

    def why_undefined(self, features: Array) -> str | None:
        """An image without a direction, or nothing to order."""
        assert isinstance(self.params, Params)
        if len(features) < 3:
            return f"has {len(features)} images, and distances of pairs need 3 to be compared"
        each = distances(features, self.params.distance)
        if np.isnan(each).any():
            what = (
                "zero, which has no cosine"
                if self.params.distance == "cosine"
                else "equal features, which have no correlation"
            )
            return f"gives an image {what}"
        return "has equal distances between all images" if each.min() == each.max() else None


def distances(features: Array, kind: str) -> Array:
    """Distances of the pairs i < j of rows of `[image, feature]`, `[pair]`; NaN where a row has no direction."""
    different, which = without_repeats(features)
    if kind == "euclidean":
        points = different - different.mean(0)
    else:
        points = different - different.mean(1, keepdims=True) if kind == "correlation" else different
        sizes = np.linalg.norm(points, axis=1)
        small = np.finfo(np.float32).eps * np.linalg.norm(different, axis=1) if kind == "correlation" else 0.0
        points = points / np.where(sizes > small, sizes, np.nan)[:, None]
    products = points @ points.T
    if kind == "euclidean":
        squares = products.diagonal()
        table = np.sqrt(np.maximum(squares[:, None] + squares - 2 * products, 0))
    else:
        table = np.maximum(1 - products, 0)
    table[np.diag_indices(len(table))] = np.where(np.isnan(table.diagonal()), np.nan, 0)
    first, second = np.triu_indices(len(features), 1)
    first, second = which[first], which[second]
    return np.asarray(table[np.maximum(first, second), np.minimum(first, second)])


def ranks(values: Array, order: Indices) -> Array:
    """Ranks of values from 1 on, equal values their mean rank; `order` sorts them."""
    ordered = values[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    ends = np.append(starts[1:], len(values))
    found = np.empty(len(values))
    found[order] = np.repeat((starts + 1 + ends) / 2, ends - starts)
    return found


def tau_a(x: Array, y: Array) -> float:
    """Kendall's tau-a: concordant less discordant pairs over all pairs, ties neither."""
    from scipy.stats import kendalltau

    every = len(x) * (len(x) - 1) / 2
    free = [every - sum(n * (n - 1) / 2 for n in np.unique(one, return_counts=True)[1]) for one in (x, y)]
    return float(kendalltau(x, y).statistic * np.sqrt(free[0] / every) * np.sqrt(free[1] / every))
