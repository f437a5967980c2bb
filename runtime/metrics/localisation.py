"""Whether a single token still says where in the image it stands: its CKA with each patch of the input.

What it measures:
    A token of a layer is compared with every patch of the images that the model saw. A token that keeps its place is
    most like the patch at that place; one that has become a summary of the image is as much like any other.
Formula:
    X the features of one token over images, Y the pixels of one patch of the model's own normalised input: all
    channels and pixels of a cell, where the image is cut into as many rows and columns as the layer has (in a CNN a
    token is all channels at one position). map = minibatch CKA of X and Y with unbiased HSIC, a ratio of sums over
    batches; control = the same of the token's own input patch and each input patch. rate = share of tokens whose
    largest CKA is at their own patch; error = mean Euclidean distance between the two, in patches; own = mean CKA with
    the own patch; excess = own less what the eight neighbours of that patch reach in the control (images are smooth).
    Each for the tokens of the border ring (edge) and for all others (interior).
Shapes:
    A layer `[batch, token, width]` or `[batch, width, row, col]` on the patch grid, and the images
    `[batch, 3, row, col]`. Class and register tokens have no place, and are not read. map `[site, token, row, col]`,
    control `[token, row, col]`, tokens named `row,column` from 0.
Range:
    map and control about 0 to 1, slightly below 0 legitimate; rate 0 to 1, where 1 / patches is chance. A token or
    patch that is constant over the images has no CKA: it is left out of the scalars and NaN in the maps.
Cost:
    One n x n product for each token that is read and each patch, and one product of each of these with each patch:
    cheap beside the forward pass for tens of tokens. All 196 tokens of a 14 x 14 grid keep 10 MB of sums for each site
    and condition, hence the default of `per_side`.
Reference:
    Raghu et al. 2021 (arXiv 2108.08810), Figures 9, 10 and D.1 to D.3. The scalars are not in the paper.
Limits:
    The paper does not say whether its pixels are normalised. Photographs have their objects in the middle, so that
    edges resemble edges. A low CKA of a token with all patches is no proof that its place cannot be read from it. rate
    and error move in steps of one token: with few tokens their intervals may have no width.

Example:
    metrics:
      places: {kind: localisation, x: last_block, under: baseline}
      paper:  {kind: localisation, x: last_block, tokens: [[0, 0], [2, 3], [2, 7], [4, 5]]}
"""

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from vitdsl.dsl.study import Entry
from vitdsl.runtime.graph.site import Site
from vitdsl.runtime.graph.tap import Reducer
from vitdsl.runtime.graph.tokens import as_tokens, prefix_of
from vitdsl.runtime.metrics._base import Array, Inputs, Metric, Seen, Value
from vitdsl.runtime.metrics._gram import SMALLEST_BATCH
from vitdsl.runtime.metrics._ratios import alignment
from vitdsl.runtime.metrics._stacks import Stack

REGIONS = ("interior", "edge")
FEW = 8
"""Grids of up to so many rows and columns are read at every position unless the study says otherwise."""
EVENLY = 4
"""Of larger grids, so many rows and columns are read."""
Position = tuple[int, int]


Positions = Annotated[list[Annotated[Position, Field(strict=False)]], Field(min_length=1)]


class Params(Entry):
    """Fields of its own."""

    tokens: Positions | None = Field(
        None, description="Positions that are read, as [row, column] from 0; null: by `per_side`."
    )
    per_side: int | None = Field(
        None,
        ge=1,
        description=(
            "At most so many rows and columns of positions are read, evenly spaced, the corners among them; null: "
            f"all of a grid of at most {FEW} x {FEW}, else {EVENLY}."
        ),
    )


def _cka(dims: tuple[str, ...], long_name: str) -> Value:
    """What is a CKA."""
    return Value(dims, long_name, "1", "higher", (None, 1.0), correlation=True)


class Localisation(Metric):
    """Single tokens against every patch of the input."""

    name = "localisation"
    Params = Params
    inputs = Inputs("layers", alone=True, image=True)
    smallest_batch = SMALLEST_BATCH
    degrees: ClassVar[Mapping[str, int]] = {
        **dict.fromkeys(("map", "tokens", "control", "patches"), 2),
        "images": 1,
    }
    VALUES: ClassVar[Mapping[str, Value]] = {
        "map": _cka(("site", "token", "row", "col"), "CKA of a token with an input patch"),
        "rate": Value(("site", "region"), "tokens most like their own patch", "1", "higher", (0.0, 1.0)),
        "own": _cka(("site", "region"), "CKA of a token with its own patch"),
        "excess": Value(("site", "region"), "own-patch CKA above that of next patches", "1", "higher"),
        "error": Value(
            ("site", "region"), "distance to the most similar patch", "patches", "lower", (0.0, None)
        ),
        "control": _cka(("token", "row", "col"), "CKA of the own input patch with an input patch"),
    }
    reference = "Raghu et al. 2021, Figures 9 and 10"
    cites = ("raghu2021",)

    def refuse(self, site: Site) -> str | None:
        """Needs a grid of positions that cuts the image evenly, and all tokens."""
        if site.layout not in ("tokens", "map", "map_last") or site.grid is None or site.pixels is None:
            return f"one image's tensor has shape {list(site.shape)}, which is no grid over the image"
        if site.tokens != "all":
            return "it takes positions of its own; write `tokens: all` here, and `tokens:` at the metric"
        rows, cols = site.grid
        if rows * cols < 2:
            return "its grid has one position, so there is no place to tell from another"
        if any(pixels % cells for pixels, cells in zip(site.pixels, site.grid, strict=True)):
            return (
                f"its {rows} x {cols} positions do not cut {site.pixels[0]} x {site.pixels[1]} pixels evenly"
            )
        chosen = self._positions(site.grid)
        for row, col in chosen:
            if not (0 <= row < rows and 0 <= col < cols):
                return (
                    f"it has {rows} x {cols} positions, so no [{row}, {col}]; change `tokens:` of the metric"
                )
            if chosen.count((row, col)) > 1:
                return f"[{row}, {col}] is asked for twice; change `tokens:` of the metric"
        return None

    def refuse_together(self, sites: Sequence[Site]) -> str | None:
        """Positions mean the same at all sites only on one grid."""
        grids = list(dict.fromkeys(site.grid for site in sites if site.grid))
        if len(grids) < 2:
            return None
        (a, b), (c, d) = grids[:2]
        return f"their positions differ ({a} x {b} and {c} x {d}); choose sites of one grid with `at:`"

    def coordinates(self, sites: Sequence[Site]) -> dict[str, Sequence[str | int]]:
        """Tokens by their place; rows and columns of the grid; regions."""
        rows, cols = _grid(sites)
        tokens = [f"{row},{col}" for row, col in self._positions((rows, cols))]
        return {"token": tokens, "row": list(range(rows)), "col": list(range(cols)), "region": REGIONS}

    def line(self, value: str, sites: Sequence[Site]) -> tuple[float, str] | None:
        """Chance, for the rate."""
        return (1 / math.prod(_grid(sites)), "chance") if value == "rate" else None

    def held(self, site: Site, batch: int) -> int:
        """The matrices of one site, its products image by image, and the sums."""
        patches = math.prod(_grid([site]))
        tokens = len(self._positions(_grid([site])))
        return batch**2 * (tokens + patches) + 2 * (batch + 32) * (2 * tokens + 1) * patches

    def reducer(self) -> Reducer:
        """The products of tokens with patches, and of own patches with patches, for each image."""
        assert isinstance(self.params, Params)
        tokens = self.params.tokens
        chosen = None if tokens is None else tuple(tokens)
        return Reducer(tokens_with_patches, (("tokens", chosen), ("per_side", self.params.per_side)))

    def observe(self, seen: Seen) -> dict[str, Tensor]:
        """Sums over pairs of images; patches are the same at every site."""
        maps, tokens, control, patches = (list(one) for one in zip(*seen.x, strict=True))
        size = len(control[0])
        images = control[0].new_full((size,), float(size >= SMALLEST_BATCH))
        return {
            "map": seen.by_group(torch.stack(maps, 1)),
            "tokens": seen.by_group(torch.stack(tokens, 1)),
            "control": seen.by_group(control[0]),
            "patches": seen.by_group(patches[0]),
            "images": seen.by_group(images),
        }

    def estimate(self, statistics: Mapping[str, Array], sites: Sequence[Site]) -> dict[str, Array]:
        """Maps, and what they say of places; NaN where a token or a patch is constant."""
        rows, cols = _grid(sites)
        positions = np.array(self._positions((rows, cols)))
        own = positions[:, 0] * cols + positions[:, 1]
        patches = statistics["patches"]
        maps = alignment(statistics["map"], statistics["tokens"][..., None], patches[..., None, None, :])
        control = alignment(statistics["control"], patches[..., own][..., None], patches[..., None, :])
        places = np.stack(np.divmod(np.arange(rows * cols), cols), 1)
        apart = np.linalg.norm(positions[:, None] - places[None], axis=-1)
        near = (np.abs(positions[:, None] - places[None]).max(-1) == 1).astype(float)
        scores = np.take_along_axis(maps, own[:, None][(None,) * (maps.ndim - 2)], -1)[..., 0]
        best = np.where(np.isfinite(maps), maps, -np.inf).argmax(-1)
        errors = np.where(np.isfinite(scores), apart[np.arange(len(own)), best], np.nan)
        beside = _mean(np.where(near > 0, control, np.nan), np.ones_like(near))
        ring = (positions == 0) | (positions == np.array([rows - 1, cols - 1]))
        regions = np.stack([~ring.any(1), ring.any(1)]).astype(float)
        by_token = {
            "rate": np.where(np.isnan(errors), np.nan, errors == 0),
            "own": scores,
            "excess": scores - beside[..., None, :],
            "error": errors,
        }
        return {
            "map": maps.reshape(*maps.shape[:-1], rows, cols),
            "control": control.reshape(*control.shape[:-1], rows, cols),
            **{name: _mean(value[..., None, :], regions) for name, value in by_token.items()},
        }

    def undefined(self, statistics: Mapping[str, Array], x: Sequence[Site], y: Sequence[Site]) -> list[str]:
        """Name the tokens and patches that are constant or not finite, and regions without tokens."""
        if not statistics["images"] > 0:
            return [f"no batch has {SMALLEST_BATCH} images, and fewer carry no unbiased CKA: raise `batch:`"]
        rows, cols = _grid(x)
        names = self.coordinates(x)["token"]
        reasons = []
        lists = [
            (f"tokens of `{site.name}`", names, sums)
            for site, sums in zip(x, statistics["tokens"], strict=True)
        ]
        everywhere = [f"{row},{col}" for row in range(rows) for col in range(cols)]
        for what, labels, sums in (*lists, ("input patches", everywhere, statistics["patches"])):
            for bad, why in ((~np.isfinite(sums), "not finite"), (sums <= 0, "constant over the images")):
                found = [str(label) for label, wrong in zip(labels, bad, strict=True) if wrong]
                if found:
                    more = f" and {len(found) - 4} others" if len(found) > 4 else ""
                    reasons.append(f"{what} are {why} at {' and '.join(found[:4])}{more}: no CKA")
        inside = [0 < row < rows - 1 and 0 < col < cols - 1 for row, col in self._positions((rows, cols))]
        reasons += [
            f"no {region} tokens are read"
            for region, has in zip(REGIONS, (True, False), strict=True)
            if has not in inside
        ]
        return reasons

    def _positions(self, grid: tuple[int, int]) -> list[Position]:
        """The positions that are read, as rows and columns."""
        assert isinstance(self.params, Params)
        return chosen_positions(grid, self.params.tokens, self.params.per_side)


def chosen_positions(
    grid: tuple[int, int], tokens: Sequence[Position] | None, per_side: int | None
) -> list[Position]:
    """The positions of a grid that are read: those that are given, or some evenly spaced, perhaps all."""
    if tokens is not None:
        return list(tokens)
    most = per_side or (FEW if max(grid) <= FEW else EVENLY)
    rows, cols = ([int(i) for i in np.linspace(0, cells - 1, min(cells, most)).round()] for cells in grid)
    return [(row, col) for row in rows for col in cols]


def tokens_with_patches(
    tensor: Tensor, images: Tensor, *, site: Site, tokens: tuple[Position, ...] | None, per_side: int | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Inner products of Gram matrices for each image, float64: a sum over images gives those of whole matrices.

    Args:
        tensor: The layer, `[batch, token, width]` or a map.
        images: `[batch, 3, row, col]`, that the layer was computed from.
        site: Its grid and prefix.
        tokens: Which positions are read; None for those that `per_side` chooses.
        per_side: At most so many rows and columns of them.

    Returns:
        Of tokens with patches `[batch, token, patch]`; of tokens with themselves `[batch, token]`; of the tokens' own
        input patches with patches `[batch, token, patch]`; of patches with themselves `[batch, patch]`.
    """
    (rows, cols), prefix = _grid([site]), prefix_of(site)
    places = [row * cols + col for row, col in chosen_positions((rows, cols), tokens, per_side)]
    features = as_tokens(tensor, site)
    read = Stack.of((features[:, prefix + place] for place in places), site)
    batch, colours, height, width = images.shape
    cells = images.reshape(batch, colours, rows, height // rows, cols, width // cols)
    patches = Stack.of((cells[:, :, row, :, col] for row in range(rows) for col in range(cols)), site)
    return read.products(patches), read.norms(), patches[places].products(patches), patches.norms()


def _grid(sites: Sequence[Site]) -> tuple[int, int]:
    """The grid of sites that share one."""
    grid = sites[0].grid
    assert grid is not None, sites[0]
    return grid


def _mean(values: Array, weights: Array) -> Array:
    """Weighted means over the last axis of the values that are defined; NaN where none has weight."""
    kept = np.isfinite(values) * weights
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(kept > 0, values, 0.0).sum(-1) / kept.sum(-1))
