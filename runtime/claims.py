"""Claims: typed comparisons of two quantities, and the verdict that the interval gives. Free of torch.

The verdict comes from the 95 % interval of the difference, estimated on the same images where both sides come from
one stream: supported where the whole interval agrees with the claim, refuted where none of it does, undecided
otherwise.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from vitdsl.dsl.diagnostics import Diagnostic
from vitdsl.dsl.load import Loaded
from vitdsl.dsl.study import Claim, Quantity, Range
from vitdsl.runtime.intervals import interval
from vitdsl.runtime.quantities import QuantityProblem, Reading, read, select

SUPPORTED, REFUTED, UNDECIDED = "supported", "refuted", "undecided"
TRENDS = ("increasing", "decreasing")


def claim_problems(loaded: Loaded, frames: Mapping[str, xr.Dataset]) -> list[Diagnostic]:
    """Claims about something that the results will not have (VD250), before anything is computed."""
    problems = []
    for name, claim in loaded.study.claims.items():
        for side, quantity in _sides(claim).items():
            try:
                select(quantity, frames)
            except QuantityProblem as problem:
                problems.append(
                    loaded.problem(
                        "VD250",
                        ("claims", name, side, *problem.path),
                        problem.message,
                        help=problem.help,
                        secondary_paths=((("metrics", quantity.metric), "the metric"),),
                    )
                )
    return problems


def judge(claim: Claim, groups: Mapping[str, xr.Dataset]) -> dict[str, Any]:
    """A claim's verdict, both sides and their difference, ready for the manifest."""
    quantities = _sides(claim)
    left = read(quantities["left"], groups)
    right = read(quantities["right"], groups) if "right" in quantities else None
    fixed = float(claim.right) if isinstance(claim.right, (int, float)) else 0.0
    other = right.value if right else fixed
    difference = left.value - other
    low, high = _difference_interval(left, right, difference)
    verdict, reason = _verdict(claim, difference, low, high)
    for side, reading in (("left", left), ("right", right)):
        if reading is not None and reading.undefined:
            verdict = UNDECIDED
            reason = f"{reading.undefined} of the {reading.cells} numbers on the {side} are undefined"
    return {
        "say": claim.say,
        "verdict": verdict,
        "reason": reason,
        "is": claim.is_,
        "by": claim.by,
        "left": _side(left, describe(quantities["left"])),
        "right": _side(right, describe(quantities["right"]))
        if right
        else None
        if claim.is_ in TRENDS
        else {"value": fixed, "low": None, "high": None, "text": f"{fixed:g}", "units": left.units},
        "difference": {"value": difference, "low": low, "high": high},
    }


def describe(quantity: Quantity) -> str:
    """A quantity in words: `mean of accuracy.drop where model = vit`."""
    where = ", ".join(f"{key} {_told(value)}" for key, value in quantity.where.items())
    along = f" along {quantity.along}" if quantity.along else ""
    return f"{quantity.take} of {quantity.metric}.{quantity.value}{along}" + (f" where {where}" if where else "")


def _sides(claim: Claim) -> dict[str, Quantity]:
    left = claim.left
    if claim.is_ in TRENDS and left.take == "mean":
        left = left.model_copy(update={"take": "slope"})
    sides = {"left": left}
    if isinstance(claim.right, Quantity):
        sides["right"] = claim.right
    return sides


def _difference_interval(left: Reading, right: Reading | None, difference: float) -> tuple[float, float]:
    if right is None or left.data == right.data:
        replicates = left.replicates - (right.replicates if right else 0.0)
        fixed = 0.0 if right else difference - left.value
        return interval(difference, replicates + fixed, left.sizes)
    spans = [interval(side.value, side.replicates, side.sizes) for side in (left, right)]
    reach = float(np.hypot(*((high - low) / 2 for low, high in spans)))
    return difference - reach, difference + reach


def _verdict(claim: Claim, difference: float, low: float, high: float) -> tuple[str, str]:
    if np.isnan(difference):
        return UNDECIDED, "a quantity is undefined"
    if np.isnan(low) or np.isnan(high):
        return UNDECIDED, "there are too few image blocks for an interval; take more images or smaller batches"
    by = claim.by
    if claim.is_ == "close":
        inside, outside = -by <= low and high <= by, high < -by or low > by
    elif claim.is_ in ("greater", "increasing"):
        inside, outside = low > by, high < by
    else:
        inside, outside = high < -by, low > -by
    if inside:
        return SUPPORTED, ""
    return (REFUTED, "") if outside else (UNDECIDED, "the 95 % interval holds both answers")


def _side(reading: Reading, text: str) -> dict[str, Any]:
    low, high = interval(reading.value, reading.replicates, reading.sizes)
    return {"value": reading.value, "low": low, "high": high, "text": text, "units": reading.units}


def _told(value: Any) -> str:
    if isinstance(value, Range):
        if value.from_ is None or value.to is None:
            return f"up to {value.to:g}" if value.from_ is None else f"from {value.from_:g}"
        return f"{value.from_:g} to {value.to:g}"
    return "= " + (" or ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value))
