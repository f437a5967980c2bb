"""Many U-centred Gram matrices of one site, of its tokens or heads, and their inner products image by image.

Products stay with the image that their row of the matrices belongs to, so that image groups can be left out of them;
the sum over images is the product of the whole matrices. Does not own one matrix (`_gram`), or groups (`_groups`).
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from vitdsl.runtime.graph.site import Site
from vitdsl.runtime.metrics._gram import CHUNK, accumulator, two_to, u_gram
from vitdsl.runtime.transfer import places


class Stack:
    """Gram matrices of one batch, each at a power of two of its scale: `[matrix, batch, batch]`, and `[matrix]`."""

    def __init__(self, matrices: Tensor, powers: Tensor) -> None:
        self.matrices, self.powers = matrices, powers

    @classmethod
    def of(cls, parts: Iterable[Tensor], site: Site) -> "Stack":
        """The U-centred matrix of each part of a site, `[batch, ...]`."""
        found = [u_gram(part, site=site) for part in parts]
        return cls(torch.stack([matrix for matrix, _ in found]), torch.stack([power for _, power in found]))

    def __getitem__(self, chosen: list[int]) -> "Stack":
        return Stack(places(self.matrices, 0, chosen), places(self.powers, 0, chosen))

    @property
    def scale(self) -> Tensor:
        """What each matrix is to be multiplied with, `[matrix]`."""
        return two_to(self.powers, accumulator(self.matrices.device))

    def products(self, other: "Stack") -> Tensor:
        """Each matrix with each other one, for each image: `[batch, matrix, other matrix]`, float64."""
        exact = accumulator(self.matrices.device)
        left, right = self.matrices.transpose(0, 1), other.matrices.permute(1, 2, 0)
        step = max(1, CHUNK // max(1, max(left[0].numel(), right[0].numel())))
        parts = [
            one.to(exact) @ another.to(exact)
            for one, another in zip(torch.split(left, step), torch.split(right, step), strict=True)
        ]
        return torch.cat(parts) * (self.scale[:, None] * other.scale)

    def norms(self) -> Tensor:
        """Each matrix with itself, for each image: `[batch, matrix]`, float64."""
        exact = accumulator(self.matrices.device)
        squares = [matrix.to(exact).square().sum(1) for matrix in self.matrices]
        return torch.stack(squares, 1) * self.scale.square()
