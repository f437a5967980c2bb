"""Centred kernel alignment: how alike two layers arrange the same images.

What it measures:
    Whether two layers put the same pairs of images close together, whatever their widths. Invariant to
    rotation and to one common scale of the features; not to scaling single features. Within one set of layers
    (`x` alone), across two sets (`x` and `y`), or each condition against the intact model at the same sites
    (`against: baseline`).
Formula:
    K = X X', L = Y Y' over the n images of a batch, U(.) = zero diagonal and zero row sums. CKA = sum_b <U_K,
    U_L> / sqrt(sum_b <U_K, U_K> * sum_b <U_L, U_L>), sums over batches b: unbiased HSIC, a ratio of sums,
    never a mean of batches. A short batch counts with its own weight; fewer than 4 images carry none.
    `estimator: biased`: HKH with H = I - 1/n in place of U(K). `kernel: rbf`: K = exp(-d^2 / (2 bandwidth^2 m)), d^2
    the squared distances of the batch's images and m their median, the zero distances of images to themselves too.
    `outliers: true`: outlier_share = the largest share of sum_b ||U_K||^2 that the row of one image holds;
    cka_without_outlier = CKA without the one image whose shares in both layers add up to most, its batch centred anew.
    `shuffles: P`: the images of y shuffled within each batch, P times; null_mean and null_high are the mean and the
    97.5 % quantile of these CKA. `ceiling: true`: CKA in two random halves of each batch, each centred anew; r =
    Pearson correlation of a layer's CKA with all other layers between the halves; ceiling = 2 r / (1 + r), the
    correlation that as many images as there are would give (Spearman and Brown); r itself where it is negative.
Shapes:
    Any tensor with the image axis first; the selected tokens and all channels of an image are one feature
    vector.
Range:
    About 0 (unrelated) to 1 (equal up to rotation and scale). It is an unbiased estimate of the numerator, so
    values slightly below 0 are legitimate and are not clipped. A layer that is constant over the images has
    no CKA: NaN. outlier_share 1 / n (all alike) to 1 / 2 (one image alone is not like the others: each of its entries
    is in the row of another image too). ceiling up to 1.
Cost:
    One n x n product for each site and batch: n x features x n multiplications. Each of `shuffles` multiplies
    the matrices of every pair of layers once more, and `ceiling` twice; 32 P numbers of each pair of layers are kept; a
    quantile needs 40 shuffles. `outliers` keeps a number of each image for each pair of layers.
Reference:
    Kornblith et al. 2019 (arXiv 1905.00414), `biased` and `rbf`; minibatch form: Nguyen et al. 2020 (arXiv
    2010.15327); unbiased HSIC: Song et al. 2012; used so in Raghu et al. 2021 (arXiv 2108.08810).
Limits:
    A few images with large norms can dominate it (Davari et al. 2022, arXiv 2210.16156): see `outliers`. High CKA is
    not equal function. Batches of fewer than about 32 images make single cells noisy; the interval shows it.
    `biased` depends on the batch: where features outnumber its images, unrelated layers come near 1 (Murphy et al.
    2024, arXiv 2405.01012); `shuffles` shows how near. An rbf's width is that of the whole batch, in halves and without
    an outlier too. A ceiling says how well differences between layers repeat: layers that are all alike have none.

Example:
    metrics:
      within: {kind: cka, x: vit_blocks, under: baseline}
      across: {kind: cka, x: vit_blocks, y: res_blocks, under: baseline, shuffles: 40}
      drift:  {kind: cka, x: vit_blocks, against: baseline, outliers: true}
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np
from pydantic import Field
from torch import Tensor

from vitdsl.dsl.study import Entry
from vitdsl.runtime.graph.site import Site
from vitdsl.runtime.graph.tap import Reducer
from vitdsl.runtime.graph.tokens import refuse_tokens
from vitdsl.runtime.metrics._base import Array, Inputs, Metric, Seen, Value
from vitdsl.runtime.metrics._gram import SMALLEST_BATCH, u_gram
from vitdsl.runtime.metrics._gram_checks import Matrices, in_halves, nulls
from vitdsl.runtime.metrics._kernels import Estimator, Kernel, kernel_gram
from vitdsl.runtime.metrics._ratios import (
    LEAST_PROFILE,
    largest_share,
    ratio,
    repeats,
    total,
    without_outlier,
)

SITES = ("site_x", "site_y")
HIGH = 0.975


class Params(Entry):
    """Fields of its own."""

    estimator: Estimator = Field("unbiased", description="Of HSIC; biased depends on the size of batches.")
    kernel: Kernel = Field("linear", description="Products of features, or a Gaussian of their distances.")
    bandwidth: float = Field(
        0.5,
        gt=0,
        description="Width of the rbf kernel, times the root of the median squared distance in the batch.",
    )
    outliers: bool = Field(
        False, description="Say what the most influential image holds, and CKA without it."
    )
    shuffles: int = Field(
        0, ge=0, description="So many times y's images are shuffled, to show what chance gives."
    )
    ceiling: bool = Field(False, description="Say how well a layer's CKA repeat in two halves of the images.")
    seed: int | None = Field(
        None, ge=0, description="Of shuffles and of the halves of a ceiling; null: the study's."
    )


class CKA(Metric):
    """Minibatch CKA, linear and with the unbiased HSIC estimator unless asked otherwise."""

    name = "cka"
    Params = Params
    inputs = Inputs("layers")
    identity: ClassVar[Mapping[str, float]] = {"cka": 1.0, "cka_without_outlier": 1.0}
    smallest_batch = SMALLEST_BATCH
    degrees: ClassVar[Mapping[str, int]] = {"images": 1} | {
        f"{name}{own}": degree
        for name in ("xy", "xx", "yy", "null_xy", "half_xy", "half_xx", "half_yy")
        for own, degree in (("", 2), ("_own", 1))
    }
    rows: ClassVar[tuple[str, ...]] = ("share", "lost")
    VALUES: ClassVar[Mapping[str, Value]] = {
        "cka": Value(
            SITES, "CKA (minibatch, unbiased)", direction="higher", range=(None, 1.0), correlation=True
        ),
        "outlier_share": Value(("site",), "share of the most influential image", "1", "none", (0.0, 1.0)),
        "cka_without_outlier": Value(
            SITES, "CKA without the most influential image", direction="higher", correlation=True
        ),
        "null_mean": Value(SITES, "CKA of shuffled images, mean"),
        "null_high": Value(SITES, "CKA of shuffled images, 97.5 % quantile"),
        "ceiling": Value(
            ("site",), "split-half reliability of CKA", "1", "higher", (-1.0, 1.0), correlation=True
        ),
    }
    reference = "Kornblith et al. 2019; Nguyen et al. 2020; Song et al. 2012"
    cites = ("kornblith2019", "nguyen2020", "song2012", "raghu2021")

    def __init__(self, params: Entry) -> None:
        super().__init__(params)
        self.own = params if isinstance(params, Params) else Params.model_validate({})

    def values(self, *, paired: bool) -> Mapping[str, Value]:
        """Matrices over sites, or one number for each site where `paired`; those that are asked for.

        The ceiling is a number for each site of x, and one for all where `paired`.
        """
        asked = {
            "cka": True,
            "outlier_share": self.own.outliers,
            "cka_without_outlier": self.own.outliers,
            "null_mean": self.own.shuffles > 0,
            "null_high": self.own.shuffles > 0,
            "ceiling": self.own.ceiling,
        }
        found = {name: value for name, value in self.VALUES.items() if asked[name]}
        kernel = ", RBF" if self.own.kernel == "rbf" else ""
        found["cka"] = replace(found["cka"], long_name=f"CKA (minibatch, {self.own.estimator}{kernel})")
        if paired:
            found = {name: replace(value, dims=("site",)) for name, value in found.items()}
            found |= {"ceiling": replace(found["ceiling"], dims=())} if self.own.ceiling else {}
        return found

    def refuse(self, site: Site) -> str | None:
        """Any site whose first axis is the image, with the tokens that the layer selects."""
        return refuse_tokens(site)

    def row_size(self, sites: Sequence[Site]) -> int:
        """Within one set of layers."""
        return self.rows_of_both(sites, sites, paired=False)

    def rows_of_both(self, x: Sequence[Site], y: Sequence[Site], *, paired: bool) -> int:
        """What an image holds, and takes with it, of each pair of layers and of each layer."""
        if not self.own.outliers:
            return 0
        pairs = len(x) if paired else len(x) * len(y)
        return pairs + 2 * (len(x) if y is x and not paired else len(x) + len(y))

    def reducer(self) -> Reducer:
        """The centred Gram matrix of the batch."""
        own = self.own
        if (own.estimator, own.kernel) == ("unbiased", "linear"):
            return Reducer(u_gram)
        constants = {"estimator": own.estimator, "kernel": own.kernel, "bandwidth": own.bandwidth}
        return Reducer(kernel_gram, tuple(constants.items()))

    def observe(self, seen: Seen) -> dict[str, Tensor]:
        """Inner products of centred Gram matrices: between x and y, and of each with itself."""
        assert seen.y is not None
        own, seed, within, paired = self.own, self.own.seed or 0, seen.y is seen.x, seen.paired
        x = Matrices.of(seen.x, seen.rows, own.estimator)
        y = x if within else Matrices.of(seen.y, seen.rows, own.estimator)

        def between(one: Matrices, other: Matrices) -> dict[str, Tensor]:
            return one.products(other, paired=paired)

        def alone(one: Matrices, _: Matrices) -> dict[str, Tensor]:
            return one.products(one, paired=True)

        size = seen.x[0][0].shape[0]
        cross = between(x, y)
        found = _named("xy", cross)
        if within:
            own_x = {name: product.diagonal(dim1=1, dim2=2) for name, product in cross.items()}
            found |= {f"{side}{name}": one.clone() for side in ("xx", "yy") for name, one in own_x.items()}
        else:
            found |= _named("xx", alone(x, x)) | _named("yy", alone(y, y))
        found["images"] = seen.by_group(x.scale.new_full((size,), float(size >= SMALLEST_BATCH)))
        if own.shuffles:
            found |= _named("null_xy", nulls(x, y, own.shuffles, seed, paired=paired))
        if own.ceiling:
            found |= _named("half_xy", in_halves(x, y, seed, between))
            found |= _named("half_xx", in_halves(x, x, seed, alone))
            found |= {} if within else _named("half_yy", in_halves(y, y, seed, alone))
        if own.outliers:
            found |= {"share_x": x.shares(x, paired=True), "lost_xx": x.lost(x, paired=True)}
            found["lost_xy"] = x.lost(y, paired=paired)
            found |= (
                {} if within else {"share_y": y.shares(y, paired=True), "lost_yy": y.lost(y, paired=True)}
            )
        return found

    def estimate(self, statistics: Mapping[str, Array], sites: Sequence[Site]) -> dict[str, Array]:
        """The ratio of sums, and what else is asked for; NaN where a layer is constant."""
        cross, xx, yy = (total(statistics, name) for name in ("xy", "xx", "yy"))
        found = {"cka": ratio(cross, xx, yy)}
        if self.own.outliers:
            found["outlier_share"] = largest_share(statistics["share_x"])
            found["cka_without_outlier"] = without_outlier(statistics)
        if self.own.shuffles:
            shuffled = ratio(total(statistics, "null_xy"), xx[..., None, :], yy[..., None, :])
            axis = xx.ndim - 1
            found |= {"null_mean": shuffled.mean(axis), "null_high": np.quantile(shuffled, HIGH, axis)}
        if self.own.ceiling:
            found["ceiling"] = self._ceiling(statistics, paired=cross.ndim == xx.ndim)
        return found

    def _ceiling(self, statistics: Mapping[str, Array], *, paired: bool) -> Array:
        within = "half_yy" not in statistics
        xx = total(statistics, "half_xx")
        halves = ratio(total(statistics, "half_xy"), xx, xx if within else total(statistics, "half_yy"))
        return (
            repeats(halves[..., None, :], within=False)[..., 0] if paired else repeats(halves, within=within)
        )

    def undefined(self, statistics: Mapping[str, Array], x: Sequence[Site], y: Sequence[Site]) -> list[str]:
        """Name the layers that are constant over the images or not finite, and why there is no ceiling."""
        if not statistics["images"] > 0:
            few = f"fewer carry no {self.own.estimator} CKA"
            return [f"no batch has {SMALLEST_BATCH} images, and {few}: raise `batch:`"]
        reasons: set[str] = set()
        equal = " or most images of a batch are equal there" if self.own.kernel == "rbf" else ""
        for side, sites in (("xx", x), ("yy", y)):
            for site, sum_ in zip(sites, total(statistics, side), strict=True):
                name = f"`{site.name} ({site.role}, tokens {site.tokens})`"
                if not np.isfinite(sum_):
                    reasons.add(f"{name} has values that are not finite, so its CKA is undefined")
                elif sum_ <= 0:
                    reasons.add(f"{name} is constant over the images{equal}, so its CKA is undefined")
        return sorted(reasons) + (self._no_ceiling(statistics, x, len(y)) if self.own.ceiling else [])

    def _no_ceiling(self, statistics: Mapping[str, Array], x: Sequence[Site], others: int) -> list[str]:
        if not np.any(total(statistics, "half_xx")):
            return [f"no batch has {2 * SMALLEST_BATCH} images, so there is no ceiling: raise `batch:`"]
        others -= "half_yy" not in statistics
        if others < LEAST_PROFILE:
            return [f"a ceiling compares {LEAST_PROFILE} other layers or more, and here are {others}"]
        missing = np.isnan(self._ceiling(statistics, paired=statistics["xy"].ndim == 1))
        where = [f" of `{site.name}`" for site in x] if missing.ndim else [""]
        return [
            f"the CKA{one} with {LEAST_PROFILE} other layers or more are all alike or undefined: no ceiling"
            for one, lost in zip(where, np.atleast_1d(missing), strict=True)
            if lost
        ]


def _named(name: str, products: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{name}{own}": product for own, product in products.items()}
