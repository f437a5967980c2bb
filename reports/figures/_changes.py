"""What the conditions of a part change: lines of values against the depth of the changed site, and words."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from vitdsl.reports.figures._lines import Line, distinct
from vitdsl.reports.parts import Array, Part
from vitdsl.reports.sentences import derived, mean, means


def effect_lines(parts: Sequence[Part], *, column: int | None = None) -> list[Line]:
    """One line for each model and ablation whose conditions change one site each.

    Args:
        parts: Values over conditions; with `column`, over conditions and sites.
        column: Which site to read.
    """
    return distinct([line for line, _, _ in _effects(parts, column)])


def _effects(parts: Sequence[Part], column: int | None) -> list[tuple[Line, Part, np.ndarray]]:
    """The lines, with the part of each and its conditions."""
    lines: list[tuple[Line, Part, np.ndarray]] = []
    models = list(dict.fromkeys(part.model for part in parts))
    for part in parts:
        values, low, high = (
            np.asarray(a.values if column is None else a.values[:, column], np.float64)
            for a in (part.array, *part.bounds)
        )
        depth = np.array([float(d) for d in part.of_condition("ablated_depth", np.nan)])
        kinds = np.array(changes(part))
        here = [a for a in dict.fromkeys(kinds) if (np.isfinite(depth) & (kinds == a)).any()]
        several = len(here) > 1
        metrics = len({p.metric for p in parts if p.model == part.model}) > 1
        for ablation in here:
            keep = np.isfinite(depth) & (kinds == ablation)
            change = str(ablation) if several else ""
            words = [
                part.model if len(models) > 1 or not change else "",
                change,
                part.metric if metrics else "",
            ]
            line = Line(
                ", ".join(filter(None, words)),
                depth[keep],
                values[keep],
                low[keep],
                high[keep],
                part.hue,
                len(lines),
                len(lines),
                names=tuple(str(s) for s in np.array(part.of_condition("ablated_site", ""))[keep]),
            )
            lines.append((line, part, np.flatnonzero(keep & np.isfinite(values))))
    return lines


@dataclass(frozen=True)
class MeanEffect:
    """The mean over the conditions of a line: in words `said`, with its interval.

    `label` is what the line is called, `change` its condition where it has only one: then there is no mean to speak of.
    """

    value: float
    said: str
    label: str
    change: str = ""


def mean_effects(parts: Sequence[Part]) -> list[MeanEffect]:
    """The mean of each line."""
    found = _effects(parts, None)
    labels = [line.label for line in distinct([line for line, _, _ in found])]
    return [
        MeanEffect(
            mean(line.y),
            derived(part, partial(_mean, keep=keep)),
            label,
            part.condition(int(keep[0])) if len(keep) == 1 else "",
        )
        for (line, part, keep), label in zip(found, labels, strict=True)
    ]


def _mean(values: Array, *, keep: np.ndarray) -> Array:
    return means(values[..., keep], -1)


def changes(part: Part) -> list[str]:
    """What each condition changes, as far as a group's conditions differ in it.

    The ablation, the last part of the site's path where that names a kind of unit (`attn`, `mlp`) rather than counting,
    and what was swept.
    """
    ablations = [part.called.ablation(str(a)) for a in part.of_condition("ablation", "")]
    ends = [str(s).rpartition(".")[2] for s in part.of_condition("ablated_site", "")]
    counts = Counter(end for end in ends if end)
    named = 2 <= len(counts) <= 4 and min(counts.values()) > 1 and not any(end.isdigit() for end in counts)
    several = len({a for a in ablations if a}) > 1
    variants = [part.variant(i) for i in range(len(part.conditions))]
    return [
        ", ".join(
            filter(
                None,
                (
                    " ".join(filter(None, (ablation if several or not named else "", end if named else ""))),
                    variant,
                ),
            )
        )
        for ablation, end, variant in zip(ablations, ends, variants, strict=True)
    ]
