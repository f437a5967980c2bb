"""What sums of inner products of centred Gram matrices say: CKA, CKA without an outlier, how well CKA repeats.

All of it holds for any leading axes. Does not own the sums (`_gram_checks`), nor what is asked for (`cka`).
"""

from collections.abc import Mapping

import numpy as np

from vitdsl.runtime.metrics._base import Array

LEAST_PROFILE = 3
"""A correlation over fewer other layers says nothing."""
ALIKE = 1e-9
"""Layers whose CKA with another spread by less are all alike: rounding."""


def total(statistics: Mapping[str, Array], name: str) -> Array:
    """An inner product: what joins two images, and what an image has with itself where that is apart."""
    own = statistics.get(f"{name}_own")
    return statistics[name] if own is None else statistics[name] + own


def ratio(cross: Array, xx: Array, yy: Array) -> Array:
    """`cross / sqrt(xx yy)`: CKA from three sums; NaN where a layer is constant.

    Args:
        cross: `[..., site, other site]`, or `[..., site]` for layers in pairs.
        xx: `[..., site]`.
        yy: `[..., other site]`.
    """
    if cross.ndim > xx.ndim:
        xx, yy = xx[..., :, None], yy[..., None, :]
    return alignment(cross, xx, yy)


def alignment(cross: Array, xx: Array, yy: Array) -> Array:
    """`cross / sqrt(xx yy)`, sums of inner products that broadcast; NaN where one of the norms is not above zero.

    Powers of two come out first: the product of two norms may overflow, and that of two roots is not exactly the
    norm of equal ones.
    """
    half_x, half_y = np.frexp(xx)[1] // 2, np.frexp(yy)[1] // 2
    square = np.ldexp(xx, -2 * half_x) * np.ldexp(yy, -2 * half_y)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.ldexp(cross, -(half_x + half_y)) / np.sqrt(square)
    return np.where((xx > 0) & (yy > 0), ratio, np.nan)


def shares(rows: Array) -> Array:
    """Of what images hold `[..., image, site]`, each one's share."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(rows / rows.sum(-2, keepdims=True))


def largest_share(rows: Array) -> Array:
    """The share of the most influential image of each site, `[..., site]`."""
    if not rows.shape[-2]:
        return np.full((*rows.shape[:-2], rows.shape[-1]), np.nan)
    return np.asarray(shares(rows).max(-2))


def without_outlier(statistics: Mapping[str, Array]) -> Array:
    """CKA without the one image whose shares in both layers add up to most; shaped as `xy`."""
    cross, xx, yy = (total(statistics, name) for name in ("xy", "xx", "yy"))
    lost, lost_x = statistics["lost_xy"], statistics["lost_xx"]
    lost_y = statistics.get("lost_yy", lost_x)
    share_x = shares(statistics["share_x"])
    share_y = shares(statistics.get("share_y", statistics["share_x"]))
    if not lost_x.shape[-2]:
        return np.full(cross.shape, np.nan)
    axis = -2
    if cross.ndim > xx.ndim:
        axis = -3
        xx, yy, share_x, share_y = (
            xx[..., :, None],
            yy[..., None, :],
            share_x[..., :, None],
            share_y[..., None, :],
        )
        lost_x, lost_y = lost_x[..., :, None], lost_y[..., None, :]
    top = np.expand_dims((share_x + share_y).argmax(axis), axis)
    away, away_x, away_y = (
        np.take_along_axis(np.broadcast_to(one, lost.shape), top, axis).squeeze(axis)
        for one in (lost, lost_x, lost_y)
    )
    return ratio(cross - away, xx - away_x, yy - away_y)


def repeats(halves: Array, *, within: bool) -> Array:
    """How well a layer's CKA with other layers repeat: their correlation between halves, at full length.

    Args:
        halves: CKA in two halves of the images, `[..., half, site, other site]`.
        within: Whether the other sites are the sites themselves; a layer with itself then does not count.

    Returns:
        `[..., site]`; NaN for fewer than three others, or others that are all alike.
    """
    one, other = halves[..., 0, :, :], halves[..., 1, :, :]
    counts = np.isfinite(one) & np.isfinite(other)
    if within:
        counts = counts & ~np.eye(counts.shape[-1], dtype=bool)
    size = counts.sum(-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        rest = [
            np.where(counts, x - (np.where(counts, x, 0).sum(-1) / size)[..., None], 0) for x in (one, other)
        ]
        spread = [np.sqrt(np.square(x).sum(-1) / size) for x in rest]
        half = (rest[0] * rest[1]).sum(-1) / size / (spread[0] * spread[1])
        full = np.where(half > 0, 2 * half / (1 + half), half).clip(-1, 1)
    told = (size >= LEAST_PROFILE) & (spread[0] > ALIKE) & (spread[1] > ALIKE)
    return np.where(told, full, np.nan)
