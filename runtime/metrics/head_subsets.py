"""Whether local or global attention heads compute what another network's layers do: CKA of sets of heads.

What it measures:
    The heads of an attention block, sorted from the most local to the most global, a few neighbours at a time: how
    alike each such subset is to layers of another model, such as the early ones of a ResNet, against how far its
    heads look. If global heads compute other features than a small convolution can, similarity falls with distance.
Formula:
    Heads are sorted by their mean attention distance on the same images (as `attention_distance` has it); a subset is
    `window` consecutive heads. X = the outputs A_h V_h of its heads before the projection, of all spatial tokens, side
    by side; Y = a layer of `y`, flattened. cka = minibatch CKA of X and Y with unbiased HSIC, a ratio of sums over
    batches; distance = mean of the distances of the subset's heads; trend = Spearman's rank correlation of cka and
    distance over the subsets. The Gram matrix of a subset is the sum of its heads' Gram matrices, so that one pass
    knows every subset.
Shapes:
    x: head outputs `[batch, head, token, width]`, from layers such as `{of: vit, at: "blocks.0.attn", role: heads}`,
    and the softmax weights beside them. y: any tensor with the image axis first. cka `[site, subset, site_y]`, subsets
    numbered from the most local.
Range:
    cka about 0 to 1, slightly below 0 legitimate; distance in pixels; trend -1 to 1, undefined for one subset.
Cost:
    One n x n product for each head and each layer of y. Attention is computed un-fused.
Reference:
    Raghu et al. 2021 (arXiv 2108.08810), Figure 5.
Limits:
    The paper says neither how many heads a subset has nor whether subsets overlap, nor whether heads are taken before
    or after the projection; here they are taken before it. Neighbouring subsets share heads, so that their values are
    not independent, and the trend of few heads is coarse. Where heads look equally far, their order hangs on the
    images: the intervals of their subsets, which are sorted anew without each group of images, are then wide. A set of
    heads that is like a layer need not be what makes the model work: nothing is changed here.

Example:
    metrics:
      subsets: {kind: head_subsets, x: first_heads, y: early, under: baseline}
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from vitdsl.dsl.study import Entry
from vitdsl.runtime.graph.site import Site
from vitdsl.runtime.graph.tap import Reducer
from vitdsl.runtime.graph.tokens import prefix_of, refuse_tokens, refuse_weights
from vitdsl.runtime.metrics._base import Array, Inputs, Metric, Seen, Value
from vitdsl.runtime.metrics._gram import SMALLEST_BATCH, u_gram
from vitdsl.runtime.metrics._ratios import alignment
from vitdsl.runtime.metrics._stacks import Stack
from vitdsl.runtime.metrics.attention_distance import distance_and_prefix_mass

SHARE = 4
"""A subset is one of so many parts of the heads unless the study says otherwise."""


class Params(Entry):
    """Fields of its own."""

    window: int | None = Field(
        None, ge=1, description="Heads in a subset; null: a quarter of a site's heads, one at least."
    )
    prefix_tokens: bool = Field(
        False,
        description="true: class and register tokens count to a head's output; false: spatial tokens alone.",
    )
    renormalize: bool = Field(
        False,
        description="true: scale each query's weights over patches to sum to one; false: as in the paper.",
    )


class HeadSubsets(Metric):
    """CKA of consecutive heads, sorted by attention distance, with layers of y."""

    name = "head_subsets"
    Params = Params
    inputs = Inputs("layers", roles=("heads", "attention"), unlike=True)
    smallest_batch = SMALLEST_BATCH
    degrees: ClassVar[Mapping[str, int]] = {
        "heads": 2,
        "cross": 2,
        "layers": 2,
        "distance": 1,
        "seen": 1,
        "images": 1,
    }
    VALUES: ClassVar[Mapping[str, Value]] = {
        "cka": Value(
            ("site", "subset", "site_y"),
            "CKA of a subset of heads (minibatch, unbiased)",
            "1",
            "higher",
            (None, 1.0),
            correlation=True,
        ),
        "distance": Value(
            ("site", "subset"), "mean attention distance of a subset", "px", "none", (0.0, None)
        ),
        "trend": Value(
            ("site", "site_y"),
            "rank correlation of CKA and attention distance",
            "1",
            "none",
            (-1.0, 1.0),
            correlation=True,
        ),
    }
    reference = "Raghu et al. 2021, Figure 5"
    cites = ("raghu2021",)

    def refuse(self, site: Site) -> str | None:
        """Needs heads and global attention over the patch grid."""
        if (why := refuse_weights(site)) is not None:
            return why
        if len(site.shape) != 3:
            return f"one image's tensor has shape {list(site.shape)}, which is not one map of tokens for each head"
        if site.role == "attention" and site.shape[-1] != site.shape[-2]:
            return f"its queries and keys have different grids ({site.shape[-2]} and {site.shape[-1]} tokens)"
        if site.grid is None or site.prefix is None:
            return f"its {site.shape[1]} tokens are not the model's patch grid"
        if self._window(site) > site.shape[0]:
            return f"it has {site.shape[0]} heads, and `window` of the metric asks for {self._window(site)}"
        return None

    def refuse_y(self, site: Site) -> str | None:
        """Any site whose first axis is the image, with the tokens that the layer selects."""
        return refuse_tokens(site)

    def coordinates(self, sites: Sequence[Site]) -> dict[str, Sequence[str | int]]:
        """Subsets from the most local one."""
        return {"subset": list(range(max(self._count(site) for site in sites)))}

    def held(self, site: Site, batch: int) -> int:
        """One matrix for each head."""
        return batch**2 * site.shape[0]

    def reducer(self) -> Reducer:
        """Gram matrices of heads, and their distances."""
        assert isinstance(self.params, Params)
        fields = ("prefix_tokens", "renormalize")
        return Reducer(grams_and_distances, tuple((field, getattr(self.params, field)) for field in fields))

    def reducer_y(self) -> Reducer:
        """The U-centred Gram matrix of the batch."""
        return Reducer(u_gram)

    def observe(self, seen: Seen) -> dict[str, Tensor]:
        """Inner products of heads with heads and with layers, sums of distances; fewer heads are padded with NaN."""
        assert seen.y is not None
        layers = Stack(torch.stack([one for one, _ in seen.y]), torch.stack([power for _, power in seen.y]))
        stacks = [Stack(matrices, powers) for matrices, powers, _ in seen.x]
        counts = [len(stack.matrices) for stack in stacks]

        def padded(each: Iterable[Tensor], axes: Sequence[int]) -> Tensor:
            """Of all sites `[batch, site, ...]`: some axes, counted from the end, are as long as the most heads."""
            found = []
            for one, count in zip(each, counts, strict=True):
                lack = max(counts) - count
                pad = [end for axis in range(1, one.ndim) for end in (0, lack if axis in axes else 0)]
                found.append(F.pad(one, pad, value=torch.nan))
            return torch.stack(found, 1)

        distances = padded((reach for *_, reach in seen.x), [1])
        ones = torch.ones_like(distances[:, 0, 0])
        found = {
            "heads": padded((stack.products(stack) for stack in stacks), [1, 2]),
            "cross": padded((stack.products(layers) for stack in stacks), [2]),
            "layers": layers.norms(),
            "distance": distances,
            "seen": ones,
            "images": ones * float(len(ones) >= SMALLEST_BATCH),
        }
        return {name: seen.by_group(value) for name, value in found.items()}

    def estimate(self, statistics: Mapping[str, Array], sites: Sequence[Site]) -> dict[str, Array]:
        """Sorts heads and sums their products over each window; NaN behind a site's last subset."""
        lead = statistics["seen"].shape
        flat = {name: array.reshape(-1, *array.shape[len(lead) :]) for name, array in statistics.items()}
        layers = flat["layers"]
        subsets = len(self.coordinates(sites)["subset"])
        shape = (len(layers), len(sites), subsets, layers.shape[-1])
        cka, distance, trend = (
            np.full(shape, np.nan),
            np.full(shape[:3], np.nan),
            np.full(shape[:2] + shape[3:], np.nan),
        )
        with np.errstate(divide="ignore", invalid="ignore"):
            means = flat["distance"] / flat["seen"][:, None, None]
        for i, site in enumerate(sites):
            heads, count = site.shape[0], self._count(site)
            order = np.argsort(means[:, i, :heads], -1, kind="stable")
            windows = order[:, np.arange(count)[:, None] + np.arange(self._window(site))]
            chosen = np.zeros((len(layers), count, heads))
            np.put_along_axis(chosen, windows, 1.0, -1)
            own = np.einsum("csh,chk,csk->cs", chosen, flat["heads"][:, i, :heads, :heads], chosen)
            cross = chosen @ flat["cross"][:, i, :heads]
            cka[:, i, :count] = alignment(cross, own[..., None], layers[:, None, :])
            distance[:, i, :count] = (chosen @ means[:, i, :heads, None])[..., 0] / self._window(site)
            trend[:, i] = spearman(cka[:, i, :count], distance[:, i, :count, None])
        found = {"cka": cka, "distance": distance, "trend": trend}
        return {name: value.reshape(*lead, *value.shape[1:]) for name, value in found.items()}

    def undefined(self, statistics: Mapping[str, Array], x: Sequence[Site], y: Sequence[Site]) -> list[str]:
        """Name heads and layers that are constant or not finite, and sites without a trend."""
        if not statistics["images"] > 0:
            return [f"no batch has {SMALLEST_BATCH} images, and fewer carry no unbiased CKA: raise `batch:`"]
        reasons = []
        for i, site in enumerate(x):
            heads = site.shape[0]
            own = np.diagonal(statistics["heads"][i])[:heads]
            if not np.isfinite(own).all() or not np.isfinite(statistics["distance"][i, :heads]).all():
                reasons.append(f"heads of `{site.name}` are not finite: no CKA")
            elif (own <= 0).any():
                reasons.append(
                    f"heads of `{site.name}` are constant over the images, and add nothing to a subset"
                )
            if self._count(site) < 2:
                reasons.append(
                    f"`{site.name}` has one subset of {self._window(site)} heads, so there is no trend"
                )
        for site, total in zip(y, statistics["layers"], strict=True):
            if not np.isfinite(total):
                reasons.append(f"`{site.name}` has values that are not finite: no CKA")
            elif total <= 0:
                reasons.append(f"`{site.name}` is constant over the images: no CKA")
        return reasons

    def _window(self, site: Site) -> int:
        """Heads in a subset of a site."""
        assert isinstance(self.params, Params)
        return self.params.window or max(1, site.shape[0] // SHARE)

    def _count(self, site: Site) -> int:
        """How many subsets a site has."""
        return site.shape[0] - self._window(site) + 1


def grams_and_distances(
    heads: Tensor, attention: Tensor, *, site: Site, prefix_tokens: bool, renormalize: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """The U-centred Gram matrix of each head's output with its power of two, and each image's distances.

    Args:
        heads: `[batch, head, token, width]`.
        attention: `[batch, head, query, key]`, softmax over keys.
        site: Its grid, patch size and prefix.
        prefix_tokens: Whether prefix tokens count to a head's output.
        renormalize: As `distance_and_prefix_mass` has it.

    Returns:
        Matrices `[head, batch, batch]`, powers `[head]`, distances `[batch, head]`.
    """
    first = 0 if prefix_tokens else prefix_of(site)
    stack = Stack.of((heads[:, head, first:] for head in range(heads.shape[1])), site)
    reach = distance_and_prefix_mass(attention, site=site, renormalize=renormalize)
    return stack.matrices, stack.powers, reach[..., 0]


def spearman(x: Array, y: Array) -> Array:
    """Rank correlation along the second axis from the end, `[..., item, column]`; ties share their mean rank.

    NaN where an item is undefined, or all of one side are equal.
    """
    a, b = np.broadcast_arrays(ranks(x), ranks(y))
    a, b = a - a.mean(-2, keepdims=True), b - b.mean(-2, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray((a * b).sum(-2) / np.sqrt((a * a).sum(-2) * (b * b).sum(-2)))


def ranks(values: Array) -> Array:
    """Mean ranks along the second axis from the end; NaN where one is undefined."""
    below = (values[..., :, None, :] > values[..., None, :, :]).sum(-2)
    equal = (values[..., :, None, :] == values[..., None, :, :]).sum(-2)
    known = np.isfinite(values).all(-2, keepdims=True)
    return np.where(known, below + (equal - 1) / 2, np.nan)
