"""Linear probe: how well a linear readout of a layer, learned from other images, tells the classes.

What it measures:
    Which layers hold the classes in a form that a linear readout finds: from all selected tokens of a layer
    together (`tokens:` of the layers: the class token, the mean, a few), or from every single token by itself
    (`each: token`). What is learned from is another data entry, `train`, under the same condition.
Formula:
    Z = (X - mean) / (std + 1e-5), mean and std of the images that are learned from; targets Y in {-1, 1}, one
    column for each class; W = (Z'Z + ridge I)^-1 Z'Y in float64, and a bias by a constant feature of 100, on
    which the ridge has next to no hold. The answer is the class with the largest score, of equal ones the
    first. With `shots: k`, the first k images of each class in the order of the training stream are learned
    from, otherwise all. Of the rest every `held_out`-th image of the stream is held out, and the ridge is the
    one of `ridge` that gives most of these their class, of equal ones the largest; with one ridge nothing is
    held out. accuracy = share of measured images that get their class. margin = score of the own class over the
    best other, in units in which the targets are 2 apart. train_accuracy is of the images that were learned
    from.
Shapes:
    One vector for each probe `[feature]`: the selected tokens flattened, their mean, or one token. `grid: [7, 7]`
    averages a map (or a ViT's spatial tokens) to so many positions first, and `space_to_depth: 2048` joins small
    patches of positions to at most so many channels before that, as the paper does for ResNets. With `each: token`,
    accuracy, margin, train_accuracy and ridge are `[site, token]`, a token named by its place on the token axis or in
    `grid`, and mean_accuracy is the mean over the tokens that were probed one by one.
Range:
    accuracy 0 to 1; chance is 1 / classes where classes are balanced. A class without an image to learn from is
    never answered, and is said. Not defined where fewer than two classes are learned from, where no image is left
    to choose the ridge, or where features are not finite.
Cost:
    Two passes over the training images: one for the sums, one to choose the ridge. d features need d x d sums for
    each probe, site and condition (at most 4 GiB together, and 4,096 features for one probe), saved for
    each image block: few `image_blocks` on the training data save disk. Solving takes about 10 d^3 operations.
Reference:
    Raghu et al. 2021 (arXiv 2108.08810), Figures 11 and 13; closed form of the few-shot evaluation of Dosovitskiy
    et al. 2021 (arXiv 2010.11929), whose code has a ridge of 1,024.
Limits:
    The ridge counts for the sum over images, so that the same number pulls less on more images. The interval is that of
    the measured images; that other images might have been learned from is not in it: repeat with another
    `seed` of the training data. A probe that fails shows that a linear readout of so many images does, not that the
    layer lacks the classes.

Example:
    metrics:
      probes: {kind: linear_probe, x: vit_blocks, data: probe, train: train, shots: 10, under: baseline}
      single: {kind: linear_probe, x: vit_tokens, data: probe, train: train, each: token, under: baseline}
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import pad

from vitdsl.dsl.known import DataName
from vitdsl.dsl.study import Entry
from vitdsl.runtime.graph.site import Site
from vitdsl.runtime.graph.tap import Reducer
from vitdsl.runtime.metrics._base import Array, Fit, Inputs, Metric, Seen, Value
from vitdsl.runtime.metrics._gram import accumulator
from vitdsl.runtime.metrics._ridge import Choice, Chosen, Known, one_hot, right
from vitdsl.runtime.transfer import held as kept

MOST_FEATURES = 4096
"""Features of one probe; solving for more takes minutes for each of them."""
BY_PROBE = ("accuracy", "margin", "train_accuracy", "ridge")
NAMED = 5
"""At most so many classes are named in a reason."""


class Params(Chosen):
    """Fields of its own."""

    train: DataName = Field(description="The data entry that is learned from.")


class LinearProbe(Metric):
    """Accuracy of ridge regression on a layer's features, learned from a training stream."""

    name = "linear_probe"
    Params = Params
    inputs = Inputs("layers", alone=True)
    labels = True
    degrees: ClassVar[Mapping[str, int]] = dict.fromkeys(
        ("images", "labels", "learned", "held", "right", "margin", "train", "choice"), 1
    )
    VALUES: ClassVar[Mapping[str, Value]] = {
        "accuracy": Value(("site",), "accuracy of a linear probe", "1", "higher", (0.0, 1.0), share="images"),
        "margin": Value(("site",), "margin of the own class", "1", "higher"),
        "train_accuracy": Value(("site",), "training accuracy", "1", "none", (0.0, 1.0)),
        "ridge": Value(("site",), "chosen ridge", "1", "none", (0.0, None)),
        "mean_accuracy": Value(
            ("site",),
            "mean accuracy of single tokens",
            "1",
            "higher",
            (0.0, 1.0),
            share="parts",
        ),
    }
    reference = "Raghu et al. 2021, Figures 11 and 13"
    cites = ("raghu2021", "dosovitskiy2021")

    def __init__(self, params: Entry) -> None:
        super().__init__(params)
        assert isinstance(params, Params)
        self.own, self.readout = params, params.readout

    def values(self, *, paired: bool) -> Mapping[str, Value]:
        """With `each: token` a value for every token, and their mean."""
        if not self.own.each:
            return {name: self.VALUES[name] for name in BY_PROBE}
        by_token = {name: replace(self.VALUES[name], dims=("site", "token")) for name in BY_PROBE}
        return {**by_token, "mean_accuracy": self.VALUES["mean_accuracy"]}

    def fit(self) -> Fit:
        """The weights for every ridge, and how each does on the training images."""
        return Choice(self.own)

    def over(self) -> str:
        """The training images."""
        return self.own.train

    def refuse(self, site: Site) -> str | None:
        """Needs the tokens that are read, and not too many features."""
        why = self.readout.refuse(site)
        if why is None and (width := self.readout.width(site)) > MOST_FEATURES:
            why = (
                f"a probe would have {width:,} features, and at most {MOST_FEATURES:,} are learned from; "
                "use `tokens: mean`, a few tokens, or the metric's `each: token` or `grid`"
            )
        return why

    def coordinates(self, sites: Sequence[Site]) -> dict[str, Sequence[str | int]]:
        """With `each: token`, the tokens that are probed at any site."""
        return {"token": self._tokens(sites)} if self.own.each else {}

    def _tokens(self, sites: Sequence[Site]) -> list[int]:
        return sorted({token for site in sites for token in self.readout.tokens(site)})

    def line_seen(
        self, value: str, statistics: Mapping[str, Array], sites: Sequence[Site]
    ) -> tuple[float, str] | None:
        """Chance, for accuracies."""
        return (1 / statistics["labels"].shape[-1], "chance") if "accuracy" in value else None

    def reducer(self) -> Reducer:
        """The feature vectors."""
        return self.readout.reducer()

    def observe(self, seen: Seen) -> dict[str, Tensor]:
        """Sums over images; what the fit knows counts once for each image, so that it comes out again.

        Sites have their probes in the first places of `[site, probe]`, and NaN behind.
        """
        assert seen.labels is not None
        exact = accumulator(seen.labels.device)
        one = torch.ones_like(seen.labels, dtype=exact)
        probes = [self._probe(x, known, seen.labels) for (x,), known in zip(seen.x, seen.fitted, strict=True)]
        most = max(right.shape[1] for right, *_ in probes)
        rights, margins, trained, chosen = (
            torch.stack([pad(value, (0, most - value.shape[-1]), value=torch.nan) for value in values], -2)
            for values in zip(*probes, strict=True)
        )
        count = seen.by_group(one)
        counts, held = seen.fitted[0][4], seen.fitted[0][-1]
        return {
            "images": count,
            "labels": seen.by_group(one_hot(seen.labels, seen.classes, exact)),
            "learned": count[:, None] * counts,
            "held": count * held,
            "right": seen.by_group(rights),
            "margin": seen.by_group(margins),
            "train": count[:, None, None] * trained,
            "choice": count[:, None, None] * chosen,
        }

    def _probe(
        self, features: Tensor, fitted: Sequence[Tensor], labels: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Of one site: right answers and margins `[image, probe]`, accuracy in training and choice `[probe]`."""
        known, (trained, held) = Known(*fitted[:5]), fitted[5:7]
        choice = self._choice(held)
        index = choice.nan_to_num().long()
        ridges = kept(torch.tensor, tuple(self.own.ridges), device=held.device, dtype=held.dtype)
        scores = known.scores(known.project(features), torch.where(choice.isnan(), choice, ridges[index]))
        own = labels[None, :, None].expand(len(scores), -1, 1)
        others = scores.scatter(2, own, -torch.inf).amax(2)
        margin = scores.gather(2, own)[..., 0] - others
        return right(scores, labels).T, margin.T, trained.gather(0, index[None])[0], choice

    def _choice(self, held: Tensor) -> Tensor:
        """Which ridge the held-out images choose, from their shares `[ridge, probe]`; the largest of equal ones."""
        if len(held) == 1:
            return torch.zeros_like(held[0])
        backwards = held.flip(0)
        best = (len(held) - 1 - (backwards == backwards.amax(0)).int().argmax(0)).to(held.dtype)
        return torch.where(held.isnan().any(0), torch.nan, best)

    def estimate(self, statistics: Mapping[str, Array], sites: Sequence[Site]) -> dict[str, Array]:
        """Means over images, each probe at its token."""
        images = statistics["images"][..., None, None]
        means = {
            name: self._placed(statistics[of] / images, sites)
            for name, of in zip(BY_PROBE, ("right", "margin", "train", "choice"), strict=True)
        }
        index, ridges = means["ridge"], np.asarray(self.own.ridges)
        known = ~np.isnan(index)
        means["ridge"] = np.where(known, ridges[np.where(known, np.rint(index), 0).astype(int)], np.nan)
        if not self.own.each:
            return {name: value[..., 0] for name, value in means.items()}
        columns = self._columns(sites)
        each = [means["accuracy"][..., i, of].mean(-1) for i, of in enumerate(columns)]
        return {**means, "mean_accuracy": np.stack(each, -1)}

    def _columns(self, sites: Sequence[Site]) -> list[list[int]]:
        """For each site, where its probes stand among the tokens of all sites."""
        place = {token: i for i, token in enumerate(self._tokens(sites))}
        return [[place[token] for token in self.readout.tokens(site)] for site in sites]

    def _placed(self, found: Array, sites: Sequence[Site]) -> Array:
        """From `[..., site, probe]` to `[..., site, token]`; NaN where a site does not have a token."""
        placed = np.full((*found.shape[:-1], len(self._tokens(sites))), np.nan)
        for i, columns in enumerate(self._columns(sites)):
            placed[..., i, columns] = found[..., i, : len(columns)]
        return placed

    def undefined(self, statistics: Mapping[str, Array], x: Sequence[Site], y: Sequence[Site]) -> list[str]:
        """What is wrong with the images that are learned from, and sites that are not finite."""
        learned = statistics["learned"]
        lacking = [f"`{label}`" for label in np.flatnonzero(learned == 0)]
        if len(lacking) > len(learned) - 2:
            return [f"`{self.own.train}` has images of fewer than two classes to learn from"]
        reasons = []
        if lacking:
            more = f" and {len(lacking) - NAMED} more" if len(lacking) > NAMED else ""
            reasons.append(
                f"`{self.own.train}` has no image to learn from of {len(lacking)} of {len(learned)} classes, which "
                f"no probe answers: {', '.join(lacking[:NAMED])}{more}"
            )
        if len(self.own.ridges) > 1 and not statistics["held"] > 0:
            return [*reasons, f"`{self.own.train}` has no image left that is held out, to choose the ridge"]
        for site, trained, measured in zip(x, statistics["train"], statistics["right"], strict=True):
            count = len(self.readout.tokens(site))
            for values, where in ((trained, f" in `{self.own.train}`"), (measured, "")):
                if np.isnan(values[:count]).any():
                    reasons.append(f"`{site.name}` has values that are not finite{where}: no probe")
                    break
        return reasons
