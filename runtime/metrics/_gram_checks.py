"""What is asked of Gram matrices beside CKA: what hangs on one image, what chance gives, how well it repeats.

A matrix here is one that is centred for an estimator (`_kernels`), and what belongs to a part of a batch is found from
it: an image that is dropped and a half of the images need no features again. Does not own ratios of sums (`cka`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from vitdsl.runtime.metrics._base import Reads
from vitdsl.runtime.metrics._gram import (
    SMALLEST_BATCH,
    accumulator,
    inner_products,
    inner_products_in_pairs,
    two_to,
)
from vitdsl.runtime.metrics._groups import by_group
from vitdsl.runtime.metrics._kernels import Estimator, centred
from vitdsl.runtime.randomness import permutation, seed_of
from vitdsl.runtime.transfer import sent


@dataclass(frozen=True)
class Matrices:
    """The centred Gram matrices of some sites.

    Attributes:
        matrices: `[site, image, image]`, float32.
        scale: What each is to be multiplied with, `[site]`.
        rows: Positions of the images in their stream.
        estimator: How they are centred.
    """

    matrices: Tensor
    scale: Tensor
    rows: range
    estimator: Estimator

    @classmethod
    def of(cls, reads: Reads, rows: range, estimator: Estimator) -> "Matrices":
        """As a reducer gave them."""
        exact = accumulator(reads[0][0].device)
        matrices = torch.stack([matrix for matrix, _ in reads])
        return cls(matrices, two_to(torch.stack([power for _, power in reads]), exact), rows, estimator)

    def products(self, other: "Matrices", *, paired: bool) -> dict[str, Tensor]:
        """Inner products by image group, `[group, site, other site]`, or `[group, site]` where paired.

        Returns:
            Under "" what joins two images; under "_own", for the biased estimator, what an image has with itself.
        """
        scale = self.scale * other.scale if paired else self.scale[:, None] * other.scale
        multiply = inner_products_in_pairs if paired else inner_products
        if self.estimator == "unbiased":
            return {"": multiply(self.matrices, other.matrices, self.rows) * scale}
        left, right = (
            one.matrices - torch.diag_embed(one.matrices.diagonal(dim1=1, dim2=2)) for one in (self, other)
        )
        own = _together(self._diagonals(), other._diagonals(), paired=paired)
        return {"": multiply(left, right, self.rows) * scale, "_own": by_group(own, self.rows) * scale}

    def shares(self, other: "Matrices", *, paired: bool) -> Tensor:
        """What each image's row holds of the inner products, `[image, site, other site]` or `[image, site]`."""
        scale = self.scale * other.scale if paired else self.scale[:, None] * other.scale
        left, right = (one.matrices.to(scale.dtype) for one in (self, other))
        if paired:
            return (left * right).sum(2).mT * scale
        return left.transpose(0, 1) @ right.permute(1, 2, 0) * scale

    def lost(self, other: "Matrices", *, paired: bool) -> Tensor:
        """What the inner products lose with each image, the others centred anew; as `shares`.

        Rows and columns of a centred matrix sum to zero, so that centring what is left anew takes off a multiple of
        the image's own row.
        """
        shares, images = self.shares(other, paired=paired), self.matrices.shape[1]
        if images < SMALLEST_BATCH:
            return torch.zeros_like(shares)
        if self.estimator == "unbiased":
            return 2 * (images - 2) / (images - 3) * shares
        scale = self.scale * other.scale if paired else self.scale[:, None] * other.scale
        own = _together(self._diagonals(), other._diagonals(), paired=paired) * scale
        rest = images - 1
        return 2 * (1 + 1 / rest) * (shares - own) + (1 - 1 / rest**2) * own

    def shuffled(self, seed: int) -> "Matrices":
        """With the images in another order, which the seed and their place in the stream decide."""
        order = torch.tensor(permutation(len(self.rows), seed_of("rows of a null", seed, self.rows.start)))
        index = sent(order, self.matrices.device)
        return replace(self, matrices=self.matrices[:, index][:, :, index])

    def halves(self, seed: int) -> list["Matrices"]:
        """Each of two halves of the images, drawn at random, centred by itself; zero elsewhere.

        Of an odd number of images one is in neither.
        """
        order = permutation(len(self.rows), seed_of("halves", seed, self.rows.start))
        size = len(order) // 2
        return [self._only(sorted(order[:size])), self._only(sorted(order[size : 2 * size]))]

    def _only(self, images: Sequence[int]) -> "Matrices":
        chosen = sent(torch.tensor(images, dtype=torch.long), self.matrices.device)
        found = torch.zeros_like(self.matrices)
        for whole, part in zip(self.matrices, found, strict=True):
            part[chosen[:, None], chosen] = centred(
                whole[chosen[:, None], chosen].to(self.scale.dtype), self.estimator
            )
        return replace(self, matrices=found)

    def _diagonals(self) -> Tensor:
        """`[image, site]`, as wide a float as the sums."""
        return self.matrices.diagonal(dim1=1, dim2=2).mT.to(self.scale.dtype)


def nulls(x: Matrices, y: Matrices, count: int, seed: int, *, paired: bool) -> dict[str, Tensor]:
    """`products` with y's images shuffled within the batch, so many times: `[group, permutation, ...]`."""
    each = [x.products(y.shuffled(seed_of(seed, i)), paired=paired) for i in range(count)]
    return {name: torch.stack([one[name] for one in each], 1) for name in each[0]}


def in_halves(
    x: Matrices, y: Matrices, seed: int, products: Callable[[Matrices, Matrices], dict[str, Tensor]]
) -> dict[str, Tensor]:
    """Products of x and y in two halves of the batch: `[group, half, ...]`."""
    each = [products(one, other) for one, other in zip(x.halves(seed), y.halves(seed), strict=True)]
    return {name: torch.stack([one[name] for one in each], 1) for name in each[0]}


def _together(x: Tensor, y: Tensor, *, paired: bool) -> Tensor:
    """Products image by image of `[image, site]`: every site with every other, or in pairs."""
    return x * y if paired else x[:, :, None] * y[:, None, :]
