"""What less than exact arithmetic does to each metric: stated in every run that uses it, on its first batch.

Autocast (`--dtype`) and a faster graph (`--fast`) change numbers by rounding, and what becomes of rounding differs from
metric to metric. So the first batch goes through the exact float32 graph as well, every group is estimated from both,
and the largest differences are a trust check. Fits are those that the run has made. Does not own what `--fast` is
(`compile`), or the other checks (`trust`).
"""

from collections.abc import Mapping, Sequence

import numpy as np

from vitdsl.runtime.data.stream import Batch
from vitdsl.runtime.metrics._base import Array, Metric, Observer, Value
from vitdsl.runtime.plan.plan import Group
from vitdsl.runtime.progress import Progress
from vitdsl.runtime.results.manifest import PRECISION, Check
from vitdsl.runtime.run.execute import Runner
from vitdsl.runtime.run.statistics import Statistics
from vitdsl.runtime.run.trust import EQUAL
from vitdsl.runtime.run.walk import run_batch

Sums = Mapping[str, Statistics[Observer]]
SAID = 3
"""So many values of a group are said one by one, those that move most."""


def check_precision(
    runner: Runner, exact: Runner, how: str, batch: Batch, sums: Sums, progress: Progress
) -> list[Check]:
    """One check for each group of results: the largest difference of its values from exact ones, on one batch.

    A value may move by as much of its scale as outputs may of theirs. None of these checks stops a run: a number near a
    threshold, or made of few images, can move by much.

    Args:
        runner: What the run computes with.
        exact: The same groups and models, in float32 and without what is faster.
        how: What is not exact, as it was asked for: `--dtype bf16`.
        batch: The first batch.
        sums: What it gave, by the path of each group.
        progress: Told where memory is full.
    """
    again: Sums = {group.path: Statistics(group, 1) for group in exact.groups}
    run_batch(exact, batch, again, progress=progress)
    ours, theirs = _estimates(runner, sums), _estimates(exact, again)
    return [
        _check(group, how, runner.dtype, ours[group.path], theirs[group.path])
        for group in runner.groups
        if group.path in ours
    ]


def _estimates(runner: Runner, sums: Sums) -> dict[str, dict[str, Array]]:
    """The values of each group that gives results, from one batch."""
    estimates = {}
    for group in runner.groups:
        kind = group.kind
        if isinstance(kind, Metric) and values_of(group):
            values = kind.estimate(sums[group.path].totals(), group.x.sites)
            estimates[group.path] = {name: np.asarray(values[name], np.float64) for name in values_of(group)}
    return estimates


def values_of(group: Group[Observer]) -> dict[str, Value]:
    """The values of a group that are compared: not those that are read off single images."""
    kind = group.kind
    assert isinstance(kind, Metric)
    values = kind.values(paired=group.paired).items()
    return {name: value for name, value in values if value.interval and not value.example}


def _check(
    group: Group[Observer], how: str, dtype: str, ours: Mapping[str, Array], theirs: Mapping[str, Array]
) -> Check:
    bounds = {name: EQUAL[dtype] * scale(theirs[name], value) for name, value in values_of(group).items()}
    moved = {name: largest_difference(ours[name], theirs[name]) for name in bounds}
    parts = [(name, moved[name], bounds[name]) for name in moved]
    return moves(how, group.path, group.x.model, parts, [view.id for view in group.views])


def moves(
    how: str, path: str, model: str, parts: Sequence[tuple[str, float, float]], conditions: Sequence[str]
) -> Check:
    """What less than exact arithmetic moves in a group: a value that has several parts moved by the largest.

    Args:
        how: What is not exact, as it was asked for.
        path: The group.
        model: Its model.
        parts: Names of values, by how much each moved, and by how much it may.
        conditions: Under which it did.
    """
    order = sorted(parts, key=lambda part: part[1] / part[2], reverse=True)
    worst, most, bound = order[0]
    moved = {name: max(more for other, more, _ in parts if other == name) for name, *_ in order}
    ok = most <= bound
    return Check(
        check=PRECISION,
        model=model,
        ok=ok,
        value=most,
        tolerance=bound,
        text=_sentence(how, path, {name: more for name, more in moved.items() if more})
        + ("" if ok else f"; of {worst}, {bound:.3g} was expected at most"),
        required=False,
        about=path,
        conditions=tuple(conditions),
        parts=tuple(parts),
    )


def _sentence(how: str, path: str, moved: Mapping[str, float]) -> str:
    """What moved, by how much; first what moved most beside what it may."""
    if not moved:
        return f"`{how}` leaves every value of `{path}` as it is on the first batch"
    said = [
        f"{name} by at most {most:.3g}" if np.isfinite(most) else f"{name} from or to what is not defined"
        for name, most in list(moved.items())[:SAID]
    ]
    rest = len(moved) - SAID
    more = f", and {rest} more by a smaller part of what they may" if rest > 0 else ""
    return f"`{how}` moves `{path}` on the first batch: {', '.join(said)}{more}"


def largest_difference(ours: Array, theirs: Array) -> float:
    """Largest absolute difference; infinite where one is a number and the other is none. 0 of nothing."""
    with np.errstate(invalid="ignore"):
        apart = np.abs(ours - theirs)
    apart[(ours == theirs) | (np.isnan(ours) & np.isnan(theirs))] = 0.0
    apart[np.isnan(apart)] = np.inf
    return float(apart.max(initial=0.0))


def scale(exact: Array, value: Value) -> float:
    """What differences of a value are compared with: the width of its range, or its largest number."""
    low, high = value.range
    if low is not None and high is not None:
        return high - low
    finite = np.abs(exact[np.isfinite(exact)])
    return max(float(finite.max(initial=0.0)), 1e-30)
