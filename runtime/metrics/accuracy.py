"""Accuracy of a model's predictions, and how far a condition moves them from the intact model's.

What it measures:
    The share of images whose label has the largest logit (top1) or is among the five largest (top5), the
    cross entropy (loss); what a condition costs against the intact model on the same images (drop); how often
    both predict the same class (agreement) and how far their probabilities are apart (kl).
Formula:
    drop = top1(intact) - top1(condition); kl = mean over images of sum_c p(c) log(p(c) / q(c)), p the intact
    model's probabilities, q the condition's, in nats.
Shapes:
    Logits `[batch, class]`, labels `[batch]`.
Range:
    top1, top5 and agreement 0 to 1; drop -1 to 1; loss and kl from 0. Chance for top1 is 1 / classes when
    classes are balanced. Of equal logits the first class is predicted. top5 is undefined for five classes or
    fewer; everything is undefined where a logit is not finite.
Cost:
    Nothing beside the forward pass.
Reference:
    Definitions. For skips: Raghu et al. 2021 (arXiv 2108.08810), Section 5.
Limits:
    A condition applied to a trained model moves it off the distribution that it was trained for; training
    without the part is another experiment.

Example:
    metrics:
      accuracy: {kind: accuracy, of: [vit, resnet]}
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from vitdsl.runtime.graph.site import Site
from vitdsl.runtime.graph.tap import Reducer
from vitdsl.runtime.metrics._base import Array, Metric, Seen, Value
from vitdsl.runtime.metrics._gram import accumulator
from vitdsl.runtime.metrics._output import OUTPUT


class Accuracy(Metric):
    """Top-1, top-5, loss, and their distance from the intact model."""

    name = "accuracy"
    labels = True
    degrees = dict.fromkeys(
        ("images", "broken", "broken_intact", "top1", "top5", "intact", "loss", "agreement", "kl"), 1
    )
    VALUES: ClassVar[Mapping[str, Value]] = {
        "top1": Value((), "top-1 accuracy", "1", "higher", (0.0, 1.0), share="images"),
        "drop": Value(
            (), "top-1 accuracy lost against the intact model", "1", "lower", (-1.0, 1.0), True, "images"
        ),
        "top5": Value((), "top-5 accuracy", "1", "higher", (0.0, 1.0), share="images"),
        "loss": Value((), "cross entropy", "nat", "lower", (0.0, None)),
        "agreement": Value(
            (), "same prediction as the intact model", "1", "higher", (0.0, 1.0), True, "images"
        ),
        "kl": Value((), "KL divergence from the intact model", "nat", "lower", (0.0, None), True),
    }
    reference = "Raghu et al. 2021, Section 5"
    cites = ("raghu2021",)

    def refuse(self, site: Site) -> str | None:
        """Needs one vector of logits for each image."""
        if site.layout == "vector":
            return None
        return f"the model's output for one image has shape {list(site.shape)}, not one logit for each class"

    def line(self, value: str, sites: Sequence[Site]) -> tuple[float, str] | None:
        """Chance, where classes are balanced."""
        hits = {"top1": 1, "top5": 5}.get(value, 0)
        classes = sites[0].shape[-1]
        return (hits / classes, "chance") if 0 < hits < classes else None

    def line_seen(
        self, value: str, statistics: Mapping[str, Array], sites: Sequence[Site]
    ) -> tuple[float, str] | None:
        """The largest drop that still leaves chance."""
        if value != "drop":
            return None
        intact = float((statistics["intact"] / statistics["images"]).ravel()[0])
        return (intact - 1 / sites[0].shape[-1], "down to chance") if np.isfinite(intact) else None

    def reducer(self) -> Reducer:
        """The logits."""
        return OUTPUT

    def observe(self, seen: Seen) -> dict[str, Tensor]:
        """Counts and sums over images."""
        assert seen.intact is not None and seen.labels is not None
        labels = seen.labels
        here, intact = seen.x[0][0], seen.intact[0][0]
        exact = accumulator(here.device)
        here, intact = here.to(exact), intact.to(exact)
        rank = _rank(here, labels)
        predicted, predicted_intact = here.argmax(1), intact.argmax(1)
        log_q, log_p = F.log_softmax(here, 1), F.log_softmax(intact, 1)
        divergence = (log_p.exp() * (log_p - log_q)).sum(1).clamp_min(0)
        top5 = (rank < 5).to(exact) * (1.0 if here.shape[1] > 5 else float("nan"))
        each = {
            "images": torch.ones_like(divergence),
            "broken": (~here.isfinite()).any(1),
            "broken_intact": (~intact.isfinite()).any(1),
            "top1": predicted == labels,
            "top5": top5,
            "intact": predicted_intact == labels,
            "loss": F.nll_loss(log_q, labels, reduction="none"),
            "agreement": predicted == predicted_intact,
            "kl": divergence,
        }
        return {name: seen.by_group(value.to(exact)) for name, value in each.items()}

    def estimate(self, statistics: Mapping[str, Array], sites: Sequence[Site]) -> dict[str, Array]:
        """Means over images; NaN where a logit was not finite, since such an image has no prediction."""
        n = statistics["images"]
        fine = np.where(statistics["broken"] > 0, np.nan, 1.0)
        both = np.where(statistics["broken_intact"] > 0, np.nan, fine)
        return {
            **{name: fine * statistics[name] / n for name in ("top1", "top5", "loss")},
            **{name: both * statistics[name] / n for name in ("agreement", "kl")},
            "drop": both * (statistics["intact"] - statistics["top1"]) / n,
        }

    def undefined(self, statistics: Mapping[str, Array], x: Sequence[Site], y: Sequence[Site]) -> list[str]:
        """Logits that are not finite, and top-5 of five classes or fewer."""
        reasons = []
        for name, whose in (("broken", "the model's"), ("broken_intact", "the intact model's")):
            if statistics[name] > 0:
                count = f"{statistics[name]:.0f} of {statistics['images']:.0f} images"
                reasons.append(f"{whose} logits are not finite for {count}, which have no prediction")
        if np.isnan(statistics["top5"]):
            reasons.append("top5 is undefined for five classes or fewer")
        return reasons


def _rank(logits: Tensor, labels: Tensor) -> Tensor:
    """How many classes come before the label, `[batch]`; of equal logits, the first class, as in `argmax`."""
    own = logits.gather(1, labels[:, None])
    before = torch.arange(logits.shape[1], device=logits.device) < labels[:, None]
    return ((logits > own) | ((logits == own) & before)).sum(1)
