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
Shapes:
    Any tensor with the image axis first; the selected tokens and all channels of an image are one feature
    vector.
Range:
    About 0 (unrelated) to 1 (equal up to rotation and scale). It is an unbiased estimate of the numerator, so
    values slightly below 0 are legitimate and are not clipped. A layer that is constant over the images has
    no CKA: NaN.
Cost:
    One n x n product for each site and batch: n x features x n multiplications.
Reference:
    Kornblith et al. 2019 (arXiv 1905.00414); minibatch form: Nguyen et al. 2020 (arXiv 2010.15327); unbiased
    HSIC: Song et al. 2012; used so in Raghu et al. 2021 (arXiv 2108.08810).
Limits:
    A few images with large norms can dominate it (Davari et al. 2022, arXiv 2210.16156). High CKA is not
    equal function. Batches of fewer than about 32 images make single cells noisy; the interval shows it.

Example:
    metrics:
      within: {kind: cka, x: vit_blocks, under: baseline}
      across: {kind: cka, x: vit_blocks, y: res_blocks, under: baseline}
      drift:  {kind: cka, x: vit_blocks, against: baseline}
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from vitdsl.runtime.graph.site import Site
from vitdsl.runtime.graph.tap import Reducer
from vitdsl.runtime.graph.tokens import refuse_tokens
from vitdsl.runtime.metrics._base import Array, Inputs, Metric, Reads, Seen, Value
from vitdsl.runtime.metrics._gram import (
    SMALLEST_BATCH,
    accumulator,
    inner_products,
    inner_products_in_pairs,
    two_to,
    u_gram,
)

NAME = "CKA (minibatch, unbiased)"


class CKA(Metric):
    """Minibatch linear CKA with the unbiased HSIC estimator."""

    name = "cka"
    inputs = Inputs("layers")
    identity = 1.0
    smallest_batch = SMALLEST_BATCH
    degrees: ClassVar[Mapping[str, int]] = {"xy": 2, "xx": 2, "yy": 2, "images": 1}
    VALUES: ClassVar[Mapping[str, Value]] = {
        "cka": Value(("site_x", "site_y"), NAME, direction="higher", range=(None, 1.0), correlation=True)
    }
    reference = "Kornblith et al. 2019; Nguyen et al. 2020; Song et al. 2012"

    def values(self, *, paired: bool) -> Mapping[str, Value]:
        """One matrix over sites, or one number for each site where `paired`."""
        value = self.VALUES["cka"]
        return {"cka": replace(value, dims=("site",))} if paired else self.VALUES

    def refuse(self, site: Site) -> str | None:
        """Any site whose first axis is the image, with the tokens that the layer selects."""
        return refuse_tokens(site)

    def reducer(self) -> Reducer:
        """The U-centred Gram matrix of the batch."""
        return Reducer(u_gram)

    def observe(self, seen: Seen) -> dict[str, Tensor]:
        """Inner products of U-centred Gram matrices: between x and y, and of each with itself."""
        assert seen.y is not None
        left = _Matrices(seen.x, seen.rows)
        size = seen.x[0][0].shape[0]
        images = seen.by_group(left.scale.new_full((size,), float(size >= SMALLEST_BATCH)))
        if seen.y is seen.x:
            products = left.products(left)
            own = products.diagonal(dim1=1, dim2=2)
            return {"xy": products, "xx": own.clone(), "yy": own.clone(), "images": images}
        right = _Matrices(seen.y, seen.rows)
        between = left.products_in_pairs(right) if seen.paired else left.products(right)
        return {"xy": between, "xx": left.norms(), "yy": right.norms(), "images": images}

    def estimate(self, statistics: Mapping[str, Array], sites: Sequence[Site]) -> dict[str, Array]:
        """The ratio of sums; NaN where a layer is constant."""
        cross, xx, yy = statistics["xy"], statistics["xx"], statistics["yy"]
        if cross.ndim > xx.ndim:
            xx, yy = xx[..., :, None], yy[..., None, :]
        # Powers of two come out first: xx * yy may overflow, and the product of two roots is not exactly xx.
        half_x, half_y = np.frexp(xx)[1] // 2, np.frexp(yy)[1] // 2
        square = np.ldexp(xx, -2 * half_x) * np.ldexp(yy, -2 * half_y)
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.ldexp(cross, -(half_x + half_y)) / np.sqrt(square)
        return {"cka": np.where((xx > 0) & (yy > 0), ratio, np.nan)}

    def undefined(self, statistics: Mapping[str, Array], x: Sequence[Site], y: Sequence[Site]) -> list[str]:
        """Name the layers that are constant over the images or not finite."""
        if not statistics["images"] > 0:
            return [f"no batch has {SMALLEST_BATCH} images, and fewer carry no unbiased CKA: raise `batch:`"]
        reasons: set[str] = set()
        for sums, sites in ((statistics["xx"], x), (statistics["yy"], y)):
            for site, total in zip(sites, sums, strict=True):
                name = f"`{site.name} ({site.role}, tokens {site.tokens})`"
                if not np.isfinite(total):
                    reasons.add(f"{name} has values that are not finite, so its CKA is undefined")
                elif total <= 0:
                    reasons.add(f"{name} is constant over the images, so its CKA is undefined")
        return sorted(reasons)


class _Matrices:
    """The U-centred Gram matrices of some sites, as `u_gram` gave them."""

    def __init__(self, reads: Reads, rows: range) -> None:
        exact = accumulator(reads[0][0].device)
        self.rows = rows
        self.matrices = torch.stack([matrix for matrix, _ in reads])
        self.scale = two_to(torch.stack([power for _, power in reads]), exact)

    def products(self, other: "_Matrices") -> Tensor:
        """Inner product of every matrix with every other, `[group, site, other site]`."""
        products = inner_products(self.matrices, other.matrices, self.rows)
        return products * (self.scale[:, None] * other.scale)

    def products_in_pairs(self, other: "_Matrices") -> Tensor:
        """Inner product of each matrix with the other at the same place, `[group, site]`."""
        products = inner_products_in_pairs(self.matrices, other.matrices, self.rows)
        return products * (self.scale * other.scale)

    def norms(self) -> Tensor:
        """Inner product of each matrix with itself, `[group, site]`."""
        return self.products_in_pairs(self)
