"""Gram matrices and unbiased HSIC: the arithmetic of minibatch CKA.

Features far from zero are shifted there before the product, which changes no U-centred Gram matrix (any common
shift drops out) and keeps float32 exact (mean 100, std 1 loses all digits otherwise). Products are taken at a
power of two of the features' scale that is undone exactly where they need it, so that no scale that float32
holds over- or underflows. Sums are float64.
"""

import torch
from torch import Tensor

from vitdsl.runtime.graph.site import Site
from vitdsl.runtime.graph.tokens import select
from vitdsl.runtime.metrics._groups import GROUPS, by_group, grouped

SMALLEST_BATCH = 4
"""U-centred matrices of fewer images carry no information: all their entries vanish."""
CHUNK = 1 << 19
"""Features times images shifted at a time, so that the copy stays in a cache."""
PART = 1 << 12
"""Features in one float32 sum: more lose digits, linearly, and fewer take longer."""
SHIFT_IMAGES = 8
"""On the CPU, features are shifted by their mean over this many images: near enough to zero, and a pass less."""
NEAR = 4.0
"""Features whose energy is at most so many times that about their mean are near enough to zero."""
SAMPLE = 256
"""So many features tell where the others are."""
SMALLEST, LARGEST = 1e-20, 1e30
"""Squared norms between these lost nothing to float32's range."""
LARGEST_POWER = 120
"""Powers of two in this range, and their inverses, are normal float32 numbers."""
CONSTANT = 1e-13
"""Share of a layer's energy about its mean below which float32 cannot tell it from a constant."""


def u_gram(tensor: Tensor, *, site: Site) -> tuple[Tensor, Tensor]:
    """The U-centred Gram matrix of a batch at a site; zero for fewer than 4 images.

    `K = X X'`, zero diagonal, minus row and column means so that every row sums to zero (Szekely and Rizzo
    2014); `<U_K, U_L> / (n (n - 3))` is then the unbiased HSIC of Song et al. 2012. Zero throughout where the
    layer is constant over the batch, NaN where a feature is not finite.

    Returns:
        The matrix `[batch, batch]`, float32, over two to the power of an integer `[]`, and that integer.
    """
    matrix = gram(features_of(tensor, site))
    power = _power_of_two(matrix.diagonal().sum())
    return u_center(matrix * two_to(-power, matrix.dtype)), power


def features_of(tensor: Tensor, site: Site) -> Tensor:
    """What a layer selects, `[batch, feature]`; of whole maps in the order of memory, which copies nothing."""
    if site.tokens == "all" and tensor.ndim == 4 and tensor.is_contiguous(memory_format=torch.channels_last):
        return tensor.permute(0, 2, 3, 1).flatten(1)
    return select(tensor, site)


def gram(features: Tensor) -> Tensor:
    """`X X'` of the `[batch, feature]`, each feature shifted by something, as `[batch, batch]` float64.

    Float32 on mps. Shifting and scaling cost passes over the features, so the CPU first tries without.
    """
    if features.is_cuda or features.device.type == "mps":
        return _gram(features, scaled=True)
    if not _seems_far(features):
        plain = _products(features)
        energy = plain.diagonal().sum()
        if _fits(plain) and energy <= NEAR * (energy - plain.sum() / len(plain)):
            return plain
    total = _gram(features, scaled=False)
    return total if _fits(total) else _gram(features, scaled=True)


def _seems_far(features: Tensor) -> bool:
    """Whether some of many features are far from zero, so that products without a shift would be in vain."""
    images, width = features.shape
    if width < SAMPLE**2:
        return False
    some = features[:, :: width // SAMPLE].float()
    energy = some.square().sum()
    return not energy <= NEAR * (energy - images * some.mean(0).square().sum())


def _fits(matrix: Tensor) -> bool:
    """Whether float32's range cost a Gram matrix nothing."""
    return bool(SMALLEST < matrix.diagonal().max() < LARGEST)


def _products(features: Tensor) -> Tensor:
    """`X X'` in the widest float; half precision becomes float32 some features at a time."""
    if features.dtype == torch.float32:
        return _product(features)
    step = max(1, CHUNK // max(1, len(features)))
    return torch.stack([_product(part.float()) for part in torch.split(features, step, 1)]).sum(0)


def _product(features: Tensor) -> Tensor:
    """`X X'` from float32 products of few features, side by side, so that each computing thread has its own."""
    images, width = features.shape
    whole = width // PART * PART
    part, rest = features[:, :whole].reshape(images, -1, PART).transpose(0, 1), features[:, whole:]
    exact = accumulator(features.device)
    return torch.bmm(part, part.mT).to(exact).sum(0) + (rest @ rest.mT).to(exact)


def _gram(features: Tensor, *, scaled: bool) -> Tensor:
    images, width = features.shape
    exact = accumulator(features.device)
    total = torch.zeros(images, images, dtype=exact, device=features.device)
    shift = torch.zeros((), dtype=exact, device=features.device)
    step = width if features.is_cuda else max(1, CHUNK // max(1, images))
    few = images if features.is_cuda else min(images, SHIFT_IMAGES)
    for start in range(0, width, step):
        part = features[:, start : start + step].float()
        mean = part[:few].mean(0)
        shift += mean.to(exact).square().sum()
        part = part - mean
        power = torch.zeros((), dtype=torch.int32, device=part.device)
        if scaled:
            low, high = part.aminmax()
            power = _power_of_two(torch.maximum(-low, high))
            part *= two_to(-power, part.dtype)
        total += _product(part) * two_to(2 * power, exact)
    energy = total.diagonal().sum()
    return torch.where(energy <= CONSTANT * (energy + images * shift), torch.zeros_like(total), total)


def _power_of_two(size: Tensor) -> Tensor:
    """An integer near the binary logarithm of a size `[]`, one that float32 can undo; 0 for 0."""
    return torch.frexp(size).exponent.clamp(-LARGEST_POWER, LARGEST_POWER)


def two_to(powers: Tensor, dtype: torch.dtype) -> Tensor:
    """Two to the power of integers, exactly."""
    return torch.exp2(powers.to(dtype))


def u_center(matrix: Tensor) -> Tensor:
    """U-centre a Gram matrix `[batch, batch]`; float32."""
    n = matrix.shape[0]
    if n < SMALLEST_BATCH:
        return torch.zeros_like(matrix, dtype=torch.float32)
    off = matrix - torch.diag(matrix.diagonal())
    means = off.sum(0) / (n - 2)
    means = means - means.sum() / (2 * (n - 1))
    centred = off - means[:, None] - means[None, :]
    return (centred - torch.diag(centred.diagonal())).float()


def inner_products(x: Tensor, y: Tensor, rows: range) -> Tensor:
    """Inner products of every matrix of x with every one of y, by image group, in float64.

    Args:
        x: Matrices over a batch's images, `[site, image, image]`.
        y: The same, of other sites.
        rows: Positions of the images in their stream.

    Returns:
        `[GROUPS, site_x, site_y]`: of each group the part that its images' rows of the matrices hold.
    """
    left = grouped(x, rows)
    right = left if y is x else grouped(y, rows)
    exact = accumulator(x.device)
    total = torch.zeros(GROUPS, len(x), len(y), dtype=exact, device=x.device)
    step = CHUNK // GROUPS
    for one, other in zip(torch.split(left, step, 2), torch.split(right, step, 2), strict=True):
        total += one.to(exact) @ other.to(exact).mT
    return total


def inner_products_in_pairs(x: Tensor, y: Tensor, rows: range) -> Tensor:
    """Inner product of each matrix of x with that of y at the same place, by image group: `[GROUPS, site]`."""
    exact = accumulator(x.device)
    sums = [(one.to(exact) * other.to(exact)).sum(1) for one, other in zip(x, y, strict=True)]
    return by_group(torch.stack(sums, 1), rows)


def accumulator(device: torch.device) -> torch.dtype:
    """The widest float of a device: float64 but on mps, whose sums go on in float64 on the host."""
    return torch.float32 if device.type == "mps" else torch.float64
