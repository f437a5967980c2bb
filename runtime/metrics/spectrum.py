"""How many dimensions a layer uses: effective rank, participation ratio and others, from its spectrum.

What it measures:
    Whether the representations of many images (or tokens) fill the layer's width or lie near a few directions.
Formula:
    X = one row for each image, or for each token (`rows_are`), one column for each feature; with `centered: true` each
    column's mean over the rows is subtracted, but for RankMe. s = the singular values of X, v = s^2.
    effective_rank = exp(-sum p log p), p = s / sum s (Roy and Vetterli 2007). participation_ratio = (sum v)^2 / sum
    v^2. stable_rank = sum v / largest v. pc1_share = largest v / sum v. rankme = exp(-sum q log q), q = s / sum s +
    1e-7 with X not centred, over the first min(rows, features) values (Garrido et al. 2023). largest_rank = min(rows,
    features), or min(rows - 1, features) where centred: no X of this size has a larger one.
Shapes:
    `rows_are: images`: what the layer selects of an image is its row: `tokens: mean` or `cls` gives the width,
    `tokens: all` tokens x width. `rows_are: tokens`: each selected token of `[batch, token, width]` (or position of a
    map) is a row.
Range:
    effective_rank, participation_ratio and stable_rank 1 to largest_rank; pc1_share 1 / largest_rank to 1; rankme 1 to
    min(rows, features), up to what its 1e-7 adds.
Cost:
    X'X in float64: rows x features^2 multiplications; features^2 numbers for each layer, condition and image block (4.7
    MB for 768), and one eigenvalue problem of that size for each of them at the end (about 0.1 s for 768). Rows of more
    than 2,048 features are refused.
Reference:
    Roy and Vetterli 2007 (effective rank); Garrido et al. 2023 (arXiv 2210.02885, RankMe).
Limits:
    Every number grows with the number of rows until that is many times the features: compare conditions and layers on
    the same images, beside `largest_rank`. Garrido et al. use 25,600 rows. Tokens of one image are alike, so that rows
    of tokens count for less than their number. Singular values below about 1e-7 of the largest of X (not centred)
    cannot be told from zero, and count as zero.

Example:
    metrics:
      rank: {kind: spectrum, x: vit_blocks, under: baseline, rows_are: images}
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field
from torch import Tensor

from vitdsl.dsl.study import Entry
from vitdsl.runtime.graph.site import Site
from vitdsl.runtime.graph.tap import Reducer
from vitdsl.runtime.graph.tokens import (
    UNKNOWN_PREFIX,
    as_tokens,
    chosen_tokens,
    prefix_of,
    refuse_tokens,
    select,
    token_count,
)
from vitdsl.runtime.metrics._base import Array, Inputs, Metric, Seen, Value
from vitdsl.runtime.metrics._gram import accumulator
from vitdsl.runtime.transfer import places

RowsAre = Literal["images", "tokens"]
MOST_FEATURES = 2048
"""Rows of more features are refused: X'X of one layer is then above 32 MiB, for each condition and image block."""
MIB = 2**20
RANKME = 1e-7
EPSILON = float(np.finfo(np.float64).eps)


class Params(Entry):
    """Fields of its own."""

    rows_are: RowsAre = Field(
        "images",
        description="What a row is: an image, as the layer selects its tokens, or each selected token.",
    )
    centered: bool = Field(
        True, description="Whether the mean over rows is subtracted, for all values but rankme."
    )


class Spectrum(Metric):
    """Ranks of a layer's representations."""

    name = "spectrum"
    Params = Params
    inputs = Inputs("layers", alone=True)
    VALUES: ClassVar[Mapping[str, Value]] = {
        "effective_rank": Value(("site",), "effective rank", range=(1.0, None)),
        "participation_ratio": Value(("site",), "participation ratio", range=(1.0, None)),
        "stable_rank": Value(("site",), "stable rank", range=(1.0, None)),
        "pc1_share": Value(("site",), "variance along the first principal component", range=(0.0, 1.0)),
        "rankme": Value(("site",), "RankMe", range=(0.0, None)),
        "largest_rank": Value(("site",), "largest rank that rows and features allow", range=(0.0, None)),
    }
    reference = "Roy and Vetterli 2007; Garrido et al. 2023"
    cites = ("roy2007", "garrido2023")

    def refuse(self, site: Site) -> str | None:
        """Needs the tokens that the layer selects, and rows that are not too long."""
        assert isinstance(self.params, Params)
        if (why := refuse_tokens(site)) is not None:
            return why
        if self.params.rows_are == "tokens":
            if site.layout not in ("tokens", "map", "map_last"):
                return f"one image's tensor has shape {list(site.shape)}, which has no tokens; write `rows_are: images`"
            if site.tokens == "mean":
                return "the mean over tokens is no token; write `rows_are: images`, or select other `tokens`"
        if site.tokens in ("mean", "spatial") and site.prefix is None:
            return UNKNOWN_PREFIX
        count = features(site, self.params.rows_are)
        if count > MOST_FEATURES:
            size = 8 * count**2 / MIB
            return (
                f"its rows have {count:,} features, whose products take {size:,.0f} MiB for each condition and image "
                f"block (at most {MOST_FEATURES:,} are taken); select `tokens: mean`, or write `rows_are: tokens`"
            )
        return None

    def sum_size(self, sites: Sequence[Site]) -> int:
        """The products of the features of each layer."""
        assert isinstance(self.params, Params)
        return sum(features(site, self.params.rows_are) ** 2 for site in sites)

    def reducer(self) -> Reducer:
        """Products and sums of columns, and the number of rows."""
        assert isinstance(self.params, Params)
        return Reducer(products_and_sums, (("rows_are", self.params.rows_are),))

    def observe(self, seen: Seen) -> dict[str, Tensor]:
        """Sums over images; layers differ in width, so each has names of its own."""
        found: dict[str, Tensor] = {}
        for i, (products, sums, rows) in enumerate(seen.x):
            found |= {f"products_{i}": products, f"sums_{i}": sums, f"rows_{i}": rows}
        return found

    def estimate(self, statistics: Mapping[str, Array], sites: Sequence[Site]) -> dict[str, Array]:
        """Eigenvalues of X'X, layer by layer."""
        assert isinstance(self.params, Params)
        found: list[dict[str, Array]] = []
        for i in range(len(sites)):
            products, sums, rows = (statistics[f"{name}_{i}"] for name in ("products", "sums", "rows"))
            found.append(ranks(products, sums, rows, centered=self.params.centered))
        return {name: np.stack([one[name] for one in found], -1) for name in self.VALUES}

    def undefined(self, statistics: Mapping[str, Array], x: Sequence[Site], y: Sequence[Site]) -> list[str]:
        """Name the layers that are not finite, or the same in all rows."""
        found = self.estimate(statistics, x)["stable_rank"]
        reasons = []
        for i, site in enumerate(x):
            if not np.isfinite(statistics[f"products_{i}"]).all():
                reasons.append(f"`{site.name}` has values that are not finite")
            elif np.isnan(found[i]):
                reasons.append(f"`{site.name}` is the same in all rows, so it has no rank")
        return reasons


def features(site: Site, rows_are: RowsAre) -> int:
    """How many features a row of a layer has."""
    if site.layout not in ("tokens", "map", "map_last"):
        return int(np.prod(site.shape))
    width = site.shape[0] if site.layout == "map" else site.shape[-1]
    if rows_are == "tokens" or site.tokens in ("mean", "cls"):
        return width
    if isinstance(site.tokens, tuple):
        return width * len(site.tokens)
    return width * (token_count(site) - (prefix_of(site) if site.tokens == "spatial" else 0))


def products_and_sums(tensor: Tensor, *, site: Site, rows_are: RowsAre) -> tuple[Tensor, Tensor, Tensor]:
    """`X'X` `[feature, feature]`, sums of columns `[feature]` and the number of rows `[]`; float64 (float32 on mps).

    Args:
        tensor: `[batch, ...]`.
        site: Which tokens the layer selects of it.
        rows_are: Whether a row is an image or a token.
    """
    rows = select(tensor, site) if rows_are == "images" else _tokens(tensor, site)
    rows = rows.to(accumulator(tensor.device))
    return rows.mT @ rows, rows.sum(0), rows.new_full((), rows.shape[0])


def _tokens(tensor: Tensor, site: Site) -> Tensor:
    """The selected tokens of all images, `[row, width]`."""
    return places(as_tokens(tensor, site), 1, chosen_tokens(site)).flatten(0, 1)


def ranks(products: Array, sums: Array, rows: Array, *, centered: bool) -> dict[str, Array]:
    """What the spectrum says, from sums with any leading axes; NaN where nothing varies or is not finite.

    Args:
        products: `X'X`, `[..., feature, feature]`.
        sums: Sums of columns, `[..., feature]`.
        rows: Number of rows, `[...]`.
        centered: Whether the mean over rows is subtracted.
    """
    whole = _eigenvalues(products, np.minimum(rows, products.shape[-1]), 0.0)
    most = np.minimum(rows - 1 if centered else rows, products.shape[-1])
    size = whole.sum(-1, keepdims=True)
    if centered:
        with np.errstate(divide="ignore", invalid="ignore"):
            means = sums / rows[..., None]
            own = _eigenvalues(products - sums[..., :, None] * means[..., None, :], most, size)
    else:
        own = whole
    with np.errstate(divide="ignore", invalid="ignore"):
        largest, total = own[..., 0], own.sum(-1)
        roots = np.sqrt(own)
        share = roots / roots.sum(-1, keepdims=True)
        whole_roots = np.sqrt(whole)
        first = np.arange(whole.shape[-1]) < np.minimum(rows, products.shape[-1])[..., None]
        q = np.where(first, whole_roots / whole_roots.sum(-1, keepdims=True) + RANKME, 0.0)
        return {
            "effective_rank": np.exp(_entropy(share)),
            "participation_ratio": total**2 / np.square(own).sum(-1),
            "stable_rank": total / largest,
            "pc1_share": largest / total,
            "rankme": np.where(rows > 0, np.exp(_entropy(q)), np.nan),
            "largest_rank": np.where(rows > 0, most, np.nan),
        }


def _entropy(shares: Array) -> Array:
    """`-sum p log p` over the last axis, 0 log 0 = 0."""
    return np.asarray(-(shares * np.log(np.where(shares == 0, 1.0, shares))).sum(-1))


def _eigenvalues(matrices: Array, most: Array, size: Array | float) -> Array:
    """Eigenvalues from the largest down, zero where rounding cannot tell them from it, or rank forbids more.

    Args:
        matrices: Symmetric, `[..., feature, feature]`; NaN throughout where they are not finite.
        most: The largest rank, `[...]`.
        size: The trace of what a matrix was computed from, whose rounding it has; `[..., 1]`.
    """
    fine = np.asarray(np.isfinite(matrices).all((-2, -1)))
    found = np.linalg.eigvalsh(np.where(fine[..., None, None], matrices, 0.0))[..., ::-1]
    trace = np.maximum(found.sum(-1, keepdims=True), size)
    count = matrices.shape[-1]
    kept = (found > EPSILON * trace * max(8, count**0.5)) & (np.arange(count) < most[..., None])
    return np.asarray(np.where(fine[..., None], np.where(kept, found, 0.0), np.nan))
