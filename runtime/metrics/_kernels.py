"""Gram matrices other than the unbiased linear one: of a Gaussian kernel, and centred as the biased estimator does.

Does not own the product of features, nor U-centring (`_gram`).
"""

from typing import Literal

import torch
from torch import Tensor

from vitdsl.runtime.graph.site import Site
from vitdsl.runtime.metrics._gram import LARGEST_POWER, SMALLEST_BATCH, features_of, gram, two_to, u_center

Estimator = Literal["unbiased", "biased"]
Kernel = Literal["linear", "rbf"]


def kernel_gram(
    tensor: Tensor, *, site: Site, estimator: Estimator, kernel: Kernel, bandwidth: float
) -> tuple[Tensor, Tensor]:
    """The centred Gram matrix of a batch at a site, in the form of `u_gram`.

    Args:
        tensor: The site's tensor.
        site: What its axes are, and which tokens count.
        estimator: U-centred, or centred with its diagonal.
        kernel: Products of features, or a Gaussian of their distances.
        bandwidth: The Gaussian's width.

    Returns:
        The matrix `[batch, batch]`, float32, over two to the power of an integer `[]`, and that integer.
    """
    matrix = gram(features_of(tensor, site))
    power = torch.zeros((), dtype=torch.int32, device=matrix.device)
    if kernel == "rbf":
        matrix = gaussian(matrix, bandwidth)
    else:
        power = torch.frexp(matrix.diagonal().sum()).exponent.clamp(-LARGEST_POWER, LARGEST_POWER)
        matrix = matrix * two_to(-power, matrix.dtype)
    return centred(matrix, estimator), power


def gaussian(products: Tensor, bandwidth: float) -> Tensor:
    """`exp(-d^2 / (2 bandwidth^2 m))` of squared distances d^2 of images, m their median with the diagonal's zeros.

    Args:
        products: A Gram matrix of features, `[batch, batch]`.
        bandwidth: In units of the median distance.

    Returns:
        `[batch, batch]`; zero throughout where the median is zero, so that the layer counts as constant.
    """
    squares = products.diagonal()
    distances = (squares[:, None] + squares - 2 * products).clamp_min(0)
    distances = distances - torch.diag(distances.diagonal())
    every = distances.flatten()
    median = (every.median() - (-every).median()) / 2  # of an even number, torch takes the lower of two
    found = torch.exp(-distances / (2 * bandwidth**2 * median))
    return torch.where(median == 0, torch.zeros_like(found), found)


def centred(matrix: Tensor, estimator: Estimator) -> Tensor:
    """A Gram matrix `[batch, batch]` centred for an estimator; float32, zero for fewer than 4 images."""
    if estimator == "unbiased":
        return u_center(matrix)
    if len(matrix) < SMALLEST_BATCH:
        return torch.zeros_like(matrix, dtype=torch.float32)
    off = matrix - matrix.mean(0)
    return (off - off.mean(1, keepdim=True)).float()
