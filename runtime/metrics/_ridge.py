"""Ridge regression in closed form, made of sums: what linear probes learn from a stream of labelled images.

`Moments` sums products of features; turned to their principal axes they give the weights of every ridge at once.
`Choice` then looks at the same images again, and counts for each ridge how many of those that were learned from, and
of those that were held out, it gives their class. Does not own what the features are (`_readout`), or what is measured
(`linear_probe`).
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, NamedTuple

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from vitdsl.dsl.study import Entry
from vitdsl.runtime.graph.site import Site
from vitdsl.runtime.graph.tap import Reducer
from vitdsl.runtime.metrics._base import Array, Fit, Seen
from vitdsl.runtime.metrics._gram import accumulator
from vitdsl.runtime.metrics._readout import Readout

NEVER_ZERO = 1e-5
"""Added to the standard deviation of each feature."""
BIAS = 100.0
"""The constant feature that carries the bias; its size makes the ridge on it one part in 10,000."""
CONSTANT = 1e-13
"""Share of a feature's mean square below which its variance is rounding."""


class Learned(Entry):
    """What of a stream is learned from, and as what vectors."""

    shots: int | None = Field(
        None, ge=1, description="Learn from the first so many images of each class; null: from all."
    )
    held_out: int | None = Field(
        10, ge=2, description="Every so-many-th image of the training stream is held out to choose the ridge."
    )
    each: Literal["token"] | None = Field(
        None, description="`token`: a probe for every single token; null: one for all selected tokens."
    )
    grid: tuple[int, int] | None = Field(
        None,
        strict=False,
        description="Average positions to so many rows and columns first; null: leave them.",
    )
    space_to_depth: int | None = Field(
        None,
        ge=1,
        description="Before that, join positions to the largest patches of at most so many channels; null: not.",
    )

    @property
    def readout(self) -> Readout:
        """What one feature vector is."""
        return Readout(self.each, self.grid, self.space_to_depth)

    def parts(self, seen: Seen) -> tuple[Tensor, Tensor]:
        """Which images of a batch are learned from and which are held out, `[batch]` each."""
        assert seen.labels is not None and seen.nth is not None
        rows = torch.arange(seen.rows.start, seen.rows.stop, device=seen.labels.device)
        held = torch.zeros_like(rows, dtype=torch.bool)
        if self.held_out is not None:
            held = rows % self.held_out == self.held_out - 1
        if self.shots is None:
            return ~held, held
        shots = seen.nth < self.shots
        return shots, held & ~shots


class Chosen(Learned):
    """Also between which ridges the held-out images choose."""

    ridge: list[Annotated[float, Field(gt=0)]] = Field(
        default_factory=lambda: [4.0**power for power in range(9)],
        min_length=1,
        description="Strengths of the ridge; the held-out images choose one.",
    )

    @property
    def ridges(self) -> list[float]:
        """Each once, the weakest first."""
        return sorted(set(self.ridge))

    @property
    def split(self) -> Learned:
        """What is learned from; nothing is held out where there is nothing to choose."""
        fields = {name: getattr(self, name) for name in Learned.model_fields}
        return Learned(**{**fields, "held_out": self.held_out if len(self.ridges) > 1 else None})


class Known(NamedTuple):
    """What `Moments` knows of one site, float64: all that scores need.

    Attributes:
        mean: Of each feature, `[probe, feature]`.
        turn: From features to standardised principal axes, `[probe, feature, axis]`.
        energy: Eigenvalues of `Z'Z`, `[probe, axis]`.
        pull: `Z'Y` on these axes, `[probe, axis, class]`.
        counts: Images that were learned from, `[class]`.
    """

    mean: Tensor
    turn: Tensor
    energy: Tensor
    pull: Tensor
    counts: Tensor

    def project(self, features: Tensor) -> Tensor:
        """Features `[image, probe, feature]` on the axes, `[probe, image, axis]`."""
        centred = features.to(self.mean.dtype) - self.mean
        return centred.transpose(0, 1) @ self.turn

    def scores(self, projected: Tensor, ridge: Tensor) -> Tensor:
        """Scores `[probe, image, class]` with a ridge for each probe `[probe]`."""
        total = self.counts.sum()
        bias = (2 * self.counts - total) / (total + ridge[:, None] / BIAS**2)
        return (projected / (self.energy + ridge[:, None])[:, None]) @ self.pull + bias[:, None]


class Moments(Fit):
    """Counts of classes, sums of features by class, and sums of products of features."""

    name = "probe_moments"
    Params = Learned
    labels = True

    def __init__(self, params: Learned) -> None:
        super().__init__(params)
        self.learned = params

    def reducer(self) -> Reducer:
        """The feature vectors."""
        return self.learned.readout.reducer()

    def observe(self, seen: Seen) -> dict[str, Tensor]:
        """Sums over the images that are learned from; sites differ in width, so each has names of its own."""
        assert seen.labels is not None
        exact = accumulator(seen.labels.device)
        chosen, _ = self.learned.parts(seen)
        wanted = one_hot(seen.labels, seen.classes, exact) * chosen[:, None]
        found = {"counts": wanted.sum(0)}
        for i, (features,) in enumerate(seen.x):
            x = torch.where(chosen[:, None, None], features.to(exact), 0.0).transpose(0, 1)
            found[f"xx_{i}"], found[f"xy_{i}"] = x.mT @ x, x.mT @ wanted
        return found

    def finish(self, statistics: Mapping[str, Array], sites: Sequence[Site]) -> list[tuple[Array, ...]]:
        """`Known` of each site; NaN where there are fewer than two classes, or features are not finite."""
        counts = statistics["counts"]
        return [
            (*_solved(statistics[f"xx_{i}"], statistics[f"xy_{i}"], counts), counts)
            for i in range(len(sites))
        ]

    def sum_size(self, sites: Sequence[Site]) -> int:
        """Products of features count; sums by class are few beside them."""
        readout = self.learned.readout
        return sum(len(readout.tokens(site)) * readout.width(site) ** 2 for site in sites)


def _solved(xx: Array, xy: Array, counts: Array) -> tuple[Array, Array, Array, Array]:
    """Mean, turn, energy and pull of `Known`, from sums.

    Args:
        xx: `X'X`, `[probe, feature, feature]`.
        xy: Sums of features by class, `[probe, feature, class]`.
        counts: `[class]`.
    """
    total = counts.sum()
    fine = np.isfinite(xx.reshape(len(xx), -1).sum(1)) & ((counts > 0).sum() > 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = xy.sum(2) / total
    products = np.where(fine[:, None, None], xx, 0.0)
    centre = np.where(fine[:, None], mean, 0.0)
    covariance = products - total * centre[:, :, None] * centre[:, None, :]
    square = products.diagonal(0, 1, 2) / max(total, 1.0)
    variance = covariance.diagonal(0, 1, 2) / max(total, 1.0)
    varies = variance > CONSTANT * square
    scale = varies / (np.sqrt(np.where(varies, variance, 0.0)) + NEVER_ZERO)
    energy, axes = np.linalg.eigh(scale[:, :, None] * covariance * scale[:, None, :])
    turn = scale[:, :, None] * axes
    pull = turn.swapaxes(1, 2) @ (2 * (np.where(fine[:, None, None], xy, 0.0) - centre[:, :, None] * counts))
    unknown = np.where(fine, 0.0, np.nan)
    return mean, turn, np.maximum(energy, 0.0) + unknown[:, None], pull


class Choice(Fit):
    """For each ridge, the share of images that were learned from, and of those held out, that it gives their class."""

    name = "probe_choice"
    Params = Chosen
    labels = True

    def __init__(self, params: Chosen) -> None:
        super().__init__(params)
        self.learned, self.ridges = params.split, params.ridges

    def fit(self) -> Fit:
        """The sums that give the weights."""
        return Moments(self.learned)

    def reducer(self) -> Reducer:
        """The feature vectors."""
        return self.learned.readout.reducer()

    def observe(self, seen: Seen) -> dict[str, Tensor]:
        """Right answers by site, part, ridge and probe; NaN where a score is not finite."""
        assert seen.labels is not None
        parts = torch.stack(self.learned.parts(seen)).to(accumulator(seen.labels.device))
        found = {"images": parts.sum(1)}
        for i, ((features,), known) in enumerate(zip(seen.x, seen.fitted, strict=True)):
            one = Known(*known)
            projected = one.project(features)
            rights = [
                right(one.scores(projected, one.energy.new_full((len(projected),), ridge)), seen.labels)
                for ridge in self.ridges
            ]
            found[f"right_{i}"] = torch.einsum("qb,rpb->qrp", parts, torch.stack(rights))
        return found

    def finish(self, statistics: Mapping[str, Array], sites: Sequence[Site]) -> list[tuple[Array, ...]]:
        """Shares of right answers `[ridge, probe]` of the images learned from and of those held out, and how many."""
        learned, held = statistics["images"]
        with np.errstate(divide="ignore", invalid="ignore"):
            return [
                (statistics[f"right_{i}"][0] / learned, statistics[f"right_{i}"][1] / held, held)
                for i in range(len(sites))
            ]


def one_hot(labels: Tensor, classes: int, dtype: torch.dtype) -> Tensor:
    """`[image, class]`, one where an image is of a class."""
    return torch.nn.functional.one_hot(labels, classes).to(dtype)


def right(scores: Tensor, labels: Tensor) -> Tensor:
    """Whether the class with the largest score is the image's own, `[probe, image]`; NaN where one is not finite."""
    found = (scores.argmax(2) == labels).to(scores.dtype)
    return torch.where(scores.isfinite().all(2), found, torch.nan)
