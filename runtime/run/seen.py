"""What a group sees of a batch under one view, whether images or random numbers went through the models.

Owns which reads stand on which side. Does not own where they come from (`execute`, `dry`).
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from vitdsl.runtime.metrics._base import Observer, Reads, Seen
from vitdsl.runtime.plan.plan import Group, View


def seen_under(
    view: View,
    group: Group[Observer],
    reads: Callable[[str, str], Reads],
    rows: range,
    fitted: Reads,
    answers: Mapping[str, Any],
) -> Seen:
    """What a group sees of a batch under one view.

    Args:
        view: The view.
        group: The group.
        reads: Gives what it reads on a side, x or y, under a condition.
        rows: Positions of the images.
        fitted: What its own fit gave.
        answers: Labels, with what belongs to them; for kinds that take labels.
    """
    x = reads("x", view.x)
    seen = Seen(x, rows=rows, paired=group.paired, fitted=fitted, **(answers if group.kind.labels else {}))
    if group.kind.inputs.of == "models":
        return replace(seen, intact=reads("y", view.y))
    same = group.y is group.x and view.y == view.x and not group.paired
    return replace(seen, y=x if same else reads("y", view.y))
