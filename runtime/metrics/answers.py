"""What a classifier answers for single images: its likeliest classes, and how sure it says it is.

What it measures:
    The classes that a model with a head puts first, image by image, with their probabilities. It needs no labels.
Formula:
    p = softmax of the logits of an image. class = indices of the `classes` largest logits, the largest first, of equal
    ones the first class first; confidence = their p.
Shapes:
    Logits `[batch, class]`. class and confidence `[image, rank]`, images labelled with their position in the stream
    (`images.csv` has their ids), ranks from 1.
Range:
    class from 0; confidence 0 to 1. Even answers have the confidence 1 / classes.
Cost:
    Nothing beside the forward pass.
Reference:
    Definitions.
Limits:
    A confidence is what the model says, not how often it is right: networks are often too sure (Guo et al. 2017, arXiv
    1706.04599). With random weights an answer means nothing. An image whose logits are not finite has no answer.

Example:
    metrics:
      answers: {kind: answers, of: vit, under: baseline, images: 1}
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from vitdsl.dsl.study import Entry
from vitdsl.runtime.graph.site import Site
from vitdsl.runtime.graph.tap import Reducer
from vitdsl.runtime.metrics._base import Array, Metric, Seen, Value
from vitdsl.runtime.metrics._gram import accumulator
from vitdsl.runtime.metrics._output import OUTPUT


class Params(Entry):
    """Fields of its own."""

    images: int = Field(4, ge=1, le=64, description="Of how many images, the first of the stream.")
    classes: int = Field(5, ge=1, le=100, description="How many classes are given, the likeliest first.")


class Answers(Metric):
    """The likeliest classes of single images."""

    name = "answers"
    Params = Params
    degrees: ClassVar[Mapping[str, int]] = {"images": 1}
    examples = ("logits", "kept")
    VALUES: ClassVar[Mapping[str, Value]] = {
        "class": Value(("image", "rank"), "index of the class", range=(0.0, None), interval=False),
        "confidence": Value(("image", "rank"), "probability of the class", range=(0.0, 1.0), interval=False),
    }
    reference = "Definitions"

    def refuse(self, site: Site) -> str | None:
        """Needs one vector of logits for each image, of as many classes as are asked for."""
        if site.layout != "vector":
            return (
                f"the model's output for one image has shape {list(site.shape)}, not one logit for each class"
            )
        if site.shape[-1] < _fields(self).classes:
            return f"it has {site.shape[-1]} classes; write `classes: {site.shape[-1]}` or fewer"
        return None

    def coordinates(self, sites: Sequence[Site]) -> dict[str, Sequence[str | int]]:
        """Images by their position, ranks from 1."""
        fields = _fields(self)
        return {"image": list(range(fields.images)), "rank": list(range(1, fields.classes + 1))}

    def reducer(self) -> Reducer:
        """The logits."""
        return OUTPUT

    def observe(self, seen: Seen) -> dict[str, Tensor]:
        """The logits of the first images of the stream, each at its place."""
        logits = seen.x[0][0]
        logits = logits.to(accumulator(logits.device))
        first, images = seen.rows.start, _fields(self).images
        few = range(first, max(first, min(seen.rows.stop, images)))
        placed, kept = logits.new_zeros(images, logits.shape[1]), logits.new_zeros(images)
        placed[few.start : few.stop] = logits[: len(few)]
        kept[few.start : few.stop] = 1.0
        return {
            "images": seen.by_group(torch.ones_like(logits[:, 0])),
            "logits": placed,
            "kept": kept,
        }

    def estimate(self, statistics: Mapping[str, Array], sites: Sequence[Site]) -> dict[str, Array]:
        """Sorted probabilities; NaN for images that are not there or whose logits are not finite.

        An answer is that of its image, whichever other images are left out.
        """
        logits = statistics["logits"]
        fine = np.isfinite(logits).all(-1) & (statistics["kept"] > 0)
        known = np.where(fine[..., None], logits, 0.0)
        powers = np.exp(known - known.max(-1, keepdims=True))
        order = np.argsort(-known, axis=-1, kind="stable")[..., : _fields(self).classes]
        confidence = np.take_along_axis(powers / powers.sum(-1, keepdims=True), order, -1)
        found = {"class": order, "confidence": confidence}
        lead = statistics["images"].shape
        return {
            name: np.broadcast_to(np.where(fine[..., None], value, np.nan), (*lead, *value.shape[-2:])).copy()
            for name, value in found.items()
        }

    def undefined(self, statistics: Mapping[str, Array], x: Sequence[Site], y: Sequence[Site]) -> list[str]:
        """Images that are not there, and those whose logits are not finite."""
        kept = statistics["kept"] > 0
        broken = int((~np.isfinite(statistics["logits"]).all(-1) & kept).sum())
        reasons = [f"the logits of {broken} images are not finite: no answer"] if broken else []
        if not kept.all():
            reasons.append(f"the stream has {int(kept.sum())} images: fewer than `images`")
        return reasons


def _fields(kind: Answers) -> Params:
    assert isinstance(kind.params, Params)
    return kind.params
