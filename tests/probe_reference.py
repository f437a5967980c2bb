"""The reference of linear probes: scikit-learn's ridge on whole rows; images split one by one."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import Ridge

from vitdsl.runtime.metrics._base import Array

Labels = npt.NDArray[np.int64]


def split(labels: Labels, shots: int | None, held_out: int | None) -> tuple[list[int], list[int]]:
    """Rows that are learned from and rows that are held out, image by image."""
    learned, held, seen = [], [], dict.fromkeys(range(labels.max() + 1), 0)
    for row, label in enumerate(labels):
        out = held_out is not None and row % held_out == held_out - 1
        if shots is not None and seen[label] < shots or shots is None and not out:
            learned.append(row)
        elif out:
            held.append(row)
        seen[label] += 1
    return learned, held


def reference(
    train: Array,
    labels: Labels,
    test: Array,
    wanted: Labels,
    ridges: Sequence[float],
    *,
    shots: int | None = None,
    held_out: int = 10,
    classes: int,
) -> dict[str, float]:
    """One probe: features `[image, feature]` of both streams, scikit-learn's solver on standardised rows."""
    learned, held = split(labels, shots, held_out if len(ridges) > 1 else None)
    x = train[learned]
    mean, scale = x.mean(0), x.std(0) + 1e-5

    def rows(features: Array) -> Array:
        return np.concatenate([(features - mean) / scale, np.full((len(features), 1), 100.0)], 1)

    def right(scores: Array, of: Labels) -> float:
        return float((scores.argmax(1) == of).mean())

    best = (-1.0, 0.0)
    for ridge in sorted(ridges):
        model = Ridge(alpha=ridge, fit_intercept=False, solver="cholesky")
        model.fit(rows(x), 2 * np.eye(classes)[labels[learned]] - 1)
        share = right(model.predict(rows(train[held])), labels[held]) if held else 0.0
        if share >= best[0]:
            best, chosen = (share, ridge), model
    scores = chosen.predict(rows(test))
    at = np.arange(len(test))
    own = scores[at, wanted]
    scores_of_others = scores.copy()
    scores_of_others[at, wanted] = -np.inf
    return {
        "accuracy": right(scores, wanted),
        "margin": float((own - scores_of_others.max(1)).mean()),
        "train_accuracy": right(chosen.predict(rows(x)), labels[learned]),
        "ridge": best[1],
    }
