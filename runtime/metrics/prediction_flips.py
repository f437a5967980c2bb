"""Which images change their answer under which condition.

What it measures:
    How often a condition changes the model's answer, in which direction, and for which images: those that change it
    most are listed, with both answers and how sure the model was of them.
Formula:
    An image's answer is the class with the largest logit (of equal ones the first), its confidence the softmax
    probability of that class. flips = share of images whose answer is not the intact model's; to_wrong = share of
    images that the intact model has right and the condition wrong; to_right = the reverse; the other flips go from one
    wrong answer to another. confidence_drop = mean over images of p(a) - q(a), a the intact model's answer, p its
    probabilities and q the condition's. For a flip from a to b, strength = (p(a) - q(a) + q(b) - p(b)) / 2: the
    probability that moved from one answer to the other.
Shapes:
    Logits `[batch, class]`, labels `[batch]`. image `[rank]`: positions in the stream of the `listed` flips of largest
    strength, the strongest first (of equal ones the earlier image), with before, after and label (numbers of classes)
    and confidence_before, confidence_after and strength; NaN where there are fewer flips. `images.csv` has the id of
    each position.
Range:
    flips, to_wrong, to_right, confidences and strength 0 to 1; confidence_drop -1 to 1. Everything is undefined where a
    logit is not finite.
Cost:
    Nothing beside the forward pass. Nine numbers are kept of each image and condition.
Reference:
    Definitions. Flips of single examples: Hooker et al. 2019 (arXiv 1911.05248), there between many trained models.
Limits:
    The listed images are extremes of one model: they show what happens, not what is typical, and have no intervals. A
    flip between two answers that were nearly as likely says little, which strength shows.

Example:
    metrics:
      flips: {kind: prediction_flips, of: vit}
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import Tensor

from vitdsl.dsl.study import Entry
from vitdsl.runtime.graph.site import Site
from vitdsl.runtime.graph.tap import Reducer
from vitdsl.runtime.metrics._base import Array, Metric, Seen, Value
from vitdsl.runtime.metrics._gram import accumulator
from vitdsl.runtime.metrics._output import OUTPUT

KEPT = ("image", "label", "before", "after", "p_before", "q_before", "p_after", "q_after", "finite")
"""Of each image: its position and label, both answers, what the intact model and the condition give to either, and
whether all logits are finite."""


class Params(Entry):
    """Fields of its own."""

    listed: int = Field(8, ge=1, le=1000, description="How many images are listed for each condition.")


class PredictionFlips(Metric):
    """Changed answers, and the images that change theirs most."""

    name = "prediction_flips"
    Params = Params
    labels = True
    rows = ("answers",)
    VALUES: ClassVar[Mapping[str, Value]] = {
        "flips": Value(
            (),
            "images whose answer changes against the intact model",
            "1",
            "lower",
            (0.0, 1.0),
            True,
            "images",
        ),
        "to_wrong": Value(
            (), "right answers that the condition makes wrong", "1", "lower", (0.0, 1.0), True, "images"
        ),
        "to_right": Value(
            (), "wrong answers that the condition makes right", "1", "higher", (0.0, 1.0), True, "images"
        ),
        "confidence_drop": Value(
            (), "probability lost by the intact model's answer", "1", "lower", (-1.0, 1.0), True
        ),
        "image": Value(
            ("rank",),
            "images with the strongest flips",
            range=(0.0, None),
            relative=True,
            interval=False,
            pictured_by="strength",
        ),
        "label": Value(("rank",), "label of the image", range=(0.0, None), relative=True, interval=False),
        "before": Value(
            ("rank",), "answer of the intact model", range=(0.0, None), relative=True, interval=False
        ),
        "after": Value(
            ("rank",), "answer under the condition", range=(0.0, None), relative=True, interval=False
        ),
        "confidence_before": Value(
            ("rank",),
            "confidence of the intact model in its answer",
            range=(0.0, 1.0),
            relative=True,
            interval=False,
        ),
        "confidence_after": Value(
            ("rank",),
            "confidence under the condition in its answer",
            range=(0.0, 1.0),
            relative=True,
            interval=False,
        ),
        "strength": Value(
            ("rank",),
            "probability moved between the answers",
            range=(0.0, 1.0),
            relative=True,
            interval=False,
        ),
    }
    reference = "Hooker et al. 2019 (arXiv 1911.05248)"
    cites = ("hooker2019",)

    def refuse(self, site: Site) -> str | None:
        """Needs one vector of logits for each image."""
        if site.layout == "vector":
            return None
        return f"the model's output for one image has shape {list(site.shape)}, not one logit for each class"

    def row_size(self, sites: Sequence[Site]) -> int:
        """What is kept of each image."""
        return len(KEPT)

    def coordinates(self, sites: Sequence[Site]) -> dict[str, Sequence[str | int]]:
        """Ranks from 1."""
        assert isinstance(self.params, Params)
        return {"rank": list(range(1, self.params.listed + 1))}

    def reducer(self) -> Reducer:
        """The logits."""
        return OUTPUT

    def observe(self, seen: Seen) -> dict[str, Tensor]:
        """Both answers to each image, `[batch, kept]`."""
        assert seen.intact is not None and seen.labels is not None
        here, intact = (read[0][0].to(accumulator(read[0][0].device)) for read in (seen.x, seen.intact))
        finite = here.isfinite().all(1) & intact.isfinite().all(1)
        before, after = intact.argmax(1, keepdim=True), here.argmax(1, keepdim=True)
        p, q = intact.softmax(1), here.softmax(1)
        columns = [
            torch.arange(seen.rows.start, seen.rows.stop, device=here.device),
            seen.labels,
            before[:, 0],
            after[:, 0],
            *(one.gather(1, answer)[:, 0] for answer in (before, after) for one in (p, q)),
            finite,
        ]
        return {"answers": torch.stack([column.to(here.dtype) for column in columns], 1)}

    def estimate(self, statistics: Mapping[str, Array], sites: Sequence[Site]) -> dict[str, Array]:
        """Shares of images, and the strongest flips; NaN throughout where an image has no answer."""
        assert isinstance(self.params, Params)
        answers = statistics["answers"]
        row = {name: answers[..., i] for i, name in enumerate(KEPT)}
        flipped = row["before"] != row["after"]
        was_right, is_right = row["before"] == row["label"], row["after"] == row["label"]
        lost = row["p_before"] - row["q_before"]
        fine = np.where((row["finite"] > 0).all(-1), 1.0, np.nan)
        with np.errstate(divide="ignore", invalid="ignore"):
            found = {
                name: fine * each.sum(-1) / np.float64(each.shape[-1])
                for name, each in {
                    "flips": flipped,
                    "to_wrong": was_right & ~is_right,
                    "to_right": ~was_right & is_right,
                    "confidence_drop": lost,
                }.items()
            }
        row["strength"] = np.where(flipped, (lost + row["q_after"] - row["p_after"]) / 2, np.nan)
        listed = strongest(row["strength"], row["image"], self.params.listed)
        names = ("image", "label", "before", "after", "strength")
        columns = {name: name for name in names} | {
            "confidence_before": "p_before",
            "confidence_after": "q_after",
        }
        for name, column in columns.items():
            values = np.take_along_axis(np.where(flipped, row[column], np.nan), listed, -1)
            gaps = [(0, 0)] * (values.ndim - 1) + [(0, self.params.listed - values.shape[-1])]
            found[name] = fine[..., None] * np.pad(values, gaps, constant_values=np.nan)
        return found

    def undefined(self, statistics: Mapping[str, Array], x: Sequence[Site], y: Sequence[Site]) -> list[str]:
        """Images without an answer. Where fewer flip than are listed, there is nothing more to list."""
        finite = statistics["answers"][..., KEPT.index("finite")]
        broken = int((finite == 0).sum())
        if broken:
            return [f"logits are not finite for {broken} of {len(finite)} images, which have no answer"]
        return []


def strongest(strength: Array, image: Array, count: int) -> npt.NDArray[np.intp]:
    """Indices of the strongest flips along the last axis, at most `count`; of equal ones the earlier image.

    Args:
        strength: `[..., image]`, NaN where nothing flips.
        image: Positions in the stream, `[..., image]`.
        count: How many.
    """
    in_order = np.argsort(image, -1, kind="stable")
    ranked = np.argsort(-np.take_along_axis(strength, in_order, -1), -1, kind="stable")
    return np.take_along_axis(in_order, ranked[..., :count], -1)
