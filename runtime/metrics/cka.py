"""Centred kernel alignment: how alike two layers arrange the same images.

What it measures:
    Whether two layers put the same pairs of images close together, whatever their widths. Invariant to rotation
    and to one common scale of the features; not to scaling single features. Within one set of layers (`x` alone),
    across two sets (`x` and `y`), or each condition against the intact model at the same sites
    (`against: baseline`).
Formula:
    K = X X', L = Y Y' over the n images of a batch, U(.) = zero diagonal and zero row sums.
    CKA = sum_b <U_K, U_L> / sqrt(sum_b <U_K, U_K> * sum_b <U_L, U_L>), sums over batches b: unbiased HSIC, a ratio
    of sums, never a mean of batches. A short batch counts with its own weight; fewer than 4 images carry none.
Shapes:
    Any tensor with the image axis first; the selected tokens and all channels of an image are one feature vector.
Range:
    About 0 (unrelated) to 1 (equal up to rotation and scale). It is an unbiased estimate of the numerator, so values
    slightly below 0 are legitimate and are not clipped. A layer that is constant over the images has no CKA: NaN.
Cost:
    One n x n product for each site and batch: n x features x n multiplications.
Reference:
    Kornblith et al. 2019 (arXiv 1905.00414); minibatch form: Nguyen et al. 2020 (arXiv 2010.15327); unbiased HSIC:
    Song et al. 2012; used so in Raghu et al. 2021 (arXiv 2108.08810).
Limits:
    A few images with large norms can dominate it (Davari et al. 2022, arXiv 2210.16156). High CKA is not equal
    function. Batches of fewer than about 32 images make single cells noisy; the interval shows it.
Example:
    metrics:
      within: {kind: cka, x: vit_blocks, under: baseline}
      across: {kind: cka, x: vit_blocks, y: res_blocks, under: baseline}
      drift:  {kind: cka, x: vit_blocks, against: baseline}
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from vitdsl.runtime.metrics._base import Array, Metric, Reads, Reducer, Site, Value
from vitdsl.runtime.metrics._gram import inner_products, u_gram
from vitdsl.runtime.metrics._tokens import refuse_tokens

NAME = "CKA (minibatch, unbiased)"


class CKA(Metric):
    """Minibatch linear CKA with the unbiased HSIC estimator."""

    name = "cka"
    takes = "layers"
    identity = 1.0
    VALUES: Mapping[str, Value] = {
        "cka": Value(("site_x", "site_y"), NAME, direction="higher", range=(None, 1.0))
    }
    reference = "Kornblith et al. 2019; Nguyen et al. 2020; Song et al. 2012"

    def values(self, *, paired: bool) -> Mapping[str, Value]:
        """One matrix over sites, or one number for each site where conditions are compared with the baseline."""
        value = self.VALUES["cka"]
        return {"cka": Value(("site",), value.long_name, "1", "higher", value.range)} if paired else self.VALUES

    def refuse(self, site: Site) -> str | None:
        """Any site whose first axis is the image, with the tokens that the layer selects."""
        return refuse_tokens(site)

    def reducer(self) -> Reducer:
        """The U-centred Gram matrix of the batch."""
        return Reducer(u_gram)

    def observe(
        self, x: Reads, y: Reads | None, *, labels: Tensor | None, paired: bool
    ) -> dict[str, Tensor]:
        """Inner products of U-centred Gram matrices: between x and y, and of each with itself."""
        assert y is not None
        left = _rows(x)
        if paired:
            right = _rows(y)
            pairs = [inner_products(one[None], other[None])[0, 0] for one, other in zip(left, right, strict=True)]
            return {"xy": torch.stack(pairs), "xx": _norms(left), "yy": _norms(right)}
        if y is x:
            products = inner_products(left, left)
            return {"xy": products, "xx": products.diagonal().clone(), "yy": products.diagonal().clone()}
        right = _rows(y)
        return {"xy": inner_products(left, right), "xx": _norms(left), "yy": _norms(right)}

    def estimate(self, statistics: Mapping[str, Array], sites: Sequence[Site]) -> dict[str, Array]:
        """The ratio of sums; NaN where a layer is constant."""
        cross, xx, yy = statistics["xy"], statistics["xx"], statistics["yy"]
        scale = xx * yy if cross.ndim == xx.ndim else xx[..., :, None] * yy[..., None, :]
        with np.errstate(divide="ignore", invalid="ignore"):
            return {"cka": np.where(scale > 0, cross / np.sqrt(scale), np.nan)}

    def undefined(self, statistics: Mapping[str, Array], x: Sequence[Site], y: Sequence[Site]) -> list[str]:
        """Name the layers that are constant over the images."""
        names = {
            f"{site.name} ({site.role}, tokens {site.tokens})"
            for sums, sites in ((statistics["xx"], x), (statistics["yy"], y))
            for site, total in zip(sites, sums, strict=True)
            if not total > 0
        }
        return [f"`{name}` is constant over the images, so its CKA is undefined" for name in sorted(names)]


def _rows(reads: Reads) -> Tensor:
    return torch.stack([read[0].flatten() for read in reads])


def _norms(rows: Tensor) -> Tensor:
    return torch.stack([inner_products(row[None], row[None])[0, 0] for row in rows])
