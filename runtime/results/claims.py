"""Claims: typed comparisons of two quantities, and the verdict that the interval gives. Free of torch.

The verdict comes from the 95 % interval of the difference, estimated on the same images where both sides come
from one stream: supported where the whole interval agrees with the claim, refuted where none of it does,
undecided otherwise. `by: 0.1` asks of `greater` and `less` a difference of at least 0.1, without `by` one
that is not 0, and of `close` one of at most 0.1.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import xarray as xr

from vitdsl.dsl.diagnostics import Diagnostic
from vitdsl.dsl.loaded import Loaded
from vitdsl.dsl.study import Claim, Quantity, Range
from vitdsl.runtime.results.intervals import interval
from vitdsl.runtime.results.manifest import Estimate, Side, Verdict
from vitdsl.runtime.results.quantities import Evaluated, read, select
from vitdsl.runtime.results.select import QuantityProblem, only_intact

Word = Literal["supported", "refuted", "undecided"]
SUPPORTED: Word = "supported"
REFUTED: Word = "refuted"
UNDECIDED: Word = "undecided"
NONE = float("nan")
"""Where an interval of a number that somebody wrote would end: there is none."""
TRENDS = ("increasing", "decreasing")
TREND_TAKES = ("slope", "spearman")
LABELS = {"value": "no such value", "where": "not there", "along": "not along this", "take": "not a trend"}
"""What stands under the caret, by the field of a quantity."""
ROUNDING = 1e-12
"""Share of the larger side below which a difference is float rounding."""


def claim_problems(loaded: Loaded, frames: Mapping[str, xr.Dataset]) -> list[Diagnostic]:
    """Claims about something that the results will not have (VD250), before anything is computed."""
    problems = []
    for name, claim in loaded.study.claims.items():
        for side, quantity in _sides(claim).items():
            try:
                if claim.is_ in TRENDS and quantity.take not in TREND_TAKES:
                    raise QuantityProblem(
                        ("take",),
                        f"`is: {claim.is_}` asks for a trend, which `take: {quantity.take}` is not",
                        (f"take one of: {', '.join(TREND_TAKES)}",),
                    )
                if all(only_intact(data, quantity.value) for data in select(quantity, frames)):
                    raise QuantityProblem(
                        ("value",),
                        f"`{quantity.value}` compares conditions with the intact model, and only that is kept",
                        ("keep ablations with `where`, or take another value",),
                    )
            except QuantityProblem as problem:
                problems.append(
                    loaded.problem(
                        "VD250",
                        ("claims", name, side, *problem.path),
                        problem.message,
                        label=LABELS.get(str(problem.path[0]), ""),
                        help=problem.help,
                        key=problem.key,
                        secondary_paths=((("metrics", quantity.metric), "the metric"),),
                    )
                )
    return problems


def judge(claim: Claim, groups: Mapping[str, xr.Dataset]) -> Verdict:
    """A claim's verdict, both sides and their difference."""
    quantities = _sides(claim)
    left = read(quantities["left"], groups)
    right = read(quantities["right"], groups) if "right" in quantities else None
    fixed = float(claim.right) if isinstance(claim.right, (int, float)) else 0.0
    other = right.value if right else fixed
    difference = left.value - other
    low, high = _interval(difference, [(1, left), *([(-1, right)] if right else [])])
    noise = ROUNDING * max(abs(left.value), abs(other), claim.by)
    verdict, reason = verdict_of(claim.is_, claim.by, difference, low, high, noise)
    for name, evaluated in (("left", left), ("right", right)):
        if evaluated is not None and evaluated.undefined:
            verdict = UNDECIDED
            reason = f"{evaluated.undefined} of the {evaluated.cells} numbers on the {name} are undefined"
    return Verdict(
        say=claim.say,
        verdict=verdict,
        reason=reason,
        is_=claim.is_,
        by=claim.by,
        left=_side(left, in_words(quantities["left"])),
        right=_side(right, in_words(quantities["right"]))
        if right
        else None
        if claim.is_ in TRENDS
        else Side(value=fixed, low=NONE, high=NONE, text=f"{fixed:g}", units=left.units),
        difference=Estimate(value=difference, low=low, high=high),
    )


def in_words(quantity: Quantity) -> str:
    """A quantity in words: `mean of accuracy.drop where model = vit`."""
    where = ", ".join(f"{key} {_wanted_in_words(value)}" for key, value in quantity.where.items())
    along = f" along {quantity.along}" if quantity.along else ""
    return f"{quantity.take} of {quantity.metric}.{quantity.value}{along}" + (
        f" where {where}" if where else ""
    )


def _sides(claim: Claim) -> dict[str, Quantity]:
    left = claim.left
    if claim.is_ in TRENDS and left.take == "mean":
        left = left.model_copy(update={"take": "slope"})
    sides = {"left": left}
    if isinstance(claim.right, Quantity):
        sides["right"] = claim.right
    return sides


def _interval(value: float, terms: Sequence[tuple[int, Evaluated]]) -> tuple[float, float]:
    """The interval of a signed sum of quantities.

    Without an image block of a stream, all quantities of that stream change together: what they have in common
    cancels. Different streams are independent, so that their variances add.
    """
    squares = 0.0
    for stream in dict.fromkeys(name for _, found in terms for name in found.streams):
        changes, sizes = np.zeros(()), np.empty(0)
        for sign, found in terms:
            if stream in found.streams:
                part = found.streams[stream]
                if len(part.replicates) != len(part.sizes):
                    return float("nan"), float("nan")
                changes, sizes = changes + sign * (part.replicates - found.value), part.sizes
        low, high = interval(0.0, changes, sizes)
        squares += ((high - low) / 2) ** 2
    reach = float(np.sqrt(squares))
    return value - reach, value + reach


def verdict_of(
    relation: str, by: float, difference: float, low: float, high: float, noise: float = 0.0
) -> tuple[Word, str]:
    """The verdict on a difference with its interval, and the reason where it is undecided.

    Args:
        relation: `greater`, `less`, `close`, `increasing` or `decreasing`.
        by: The margin.
        difference: Left minus right.
        low: Its interval's lower end.
        high: Its interval's upper end.
        noise: Differences up to this are rounding: on the margin, and nothing at all without one.
    """
    if not np.isfinite(difference):
        return UNDECIDED, "a quantity is undefined" if np.isnan(difference) else "a quantity is infinite"
    if np.isnan(low) or np.isnan(high):
        return UNDECIDED, (
            "there is no interval: there are fewer than two image blocks (take more images or smaller batches), or "
            "the quantity is undefined without one of them"
        )
    if relation == "close":
        inside = -by - noise <= low and high <= by + noise
        outside = high < -by - noise or low > by + noise
    else:
        if relation in ("less", "decreasing"):
            low, high = -high, -low
        inside = low > noise and low >= by - noise
        outside = high <= noise or high < by - noise
    if inside:
        return SUPPORTED, ""
    return (REFUTED, "") if outside else (UNDECIDED, "the 95 % interval holds both answers")


def _side(found: Evaluated, text: str) -> Side:
    low, high = _interval(found.value, [(1, found)])
    return Side(value=found.value, low=low, high=high, text=text, units=found.units)


def _wanted_in_words(value: Any) -> str:
    if isinstance(value, Range):
        if value.from_ is None or value.to is None:
            return f"up to {value.to:g}" if value.from_ is None else f"from {value.from_:g}"
        return f"{value.from_:g} to {value.to:g}"
    return "= " + (" or ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value))
