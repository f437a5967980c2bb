"""Claims: typed comparisons of two quantities, and the verdict that the interval gives. Free of torch.

The verdict comes from the 95 % interval of the difference (`differences`): supported where the whole interval agrees
with the claim, refuted where none of it does, undecided otherwise. `by: 0.1` asks of `greater` and `less` a difference
of at least 0.1, without `by` one that is not 0, and of `close` one of at most 0.1. Of a study with many claims, each
must show more (`holm`).
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np
import xarray as xr

from vitdsl.dsl.diagnostics import Diagnostic
from vitdsl.dsl.loaded import Loaded
from vitdsl.dsl.study import Claim, Quantity, Range
from vitdsl.runtime.results.differences import Difference, Over, moves, of_images
from vitdsl.runtime.results.holm import adjusted
from vitdsl.runtime.results.intervals import LEVEL
from vitdsl.runtime.results.quantiles import normal
from vitdsl.runtime.results.quantities import Evaluated, read, select
from vitdsl.runtime.results.select import QuantityProblem, only_intact
from vitdsl.runtime.results.verdicts import Estimate, Side, Source, Verdict

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
ALPHA = 1 - LEVEL
LEAST_P, BISECTIONS = 1e-9, 40
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


def judge_all(claims: Mapping[str, Claim], groups: Mapping[str, xr.Dataset]) -> dict[str, Verdict]:
    """The verdicts of a study's claims, adjusted for how many each family has (Holm)."""
    found = {name: judge(claim, groups) for name, claim in claims.items()}
    families: dict[str, list[str]] = {}
    for name, claim in claims.items():
        families.setdefault(claim.family, []).append(name)
    for names in families.values():
        for name, p in zip(names, adjusted([found[name].p for name in names]), strict=True):
            found[name] = _in_family(found[name], p, len(names))
    return found


def _in_family(found: Verdict, p: float, claims: int) -> Verdict:
    lost = found.raw != UNDECIDED and p > ALPHA
    reason = (
        f"{found.raw} by itself (p = {found.p:.2g}), but not among the {claims} claims of its family "
        f"(Holm: p = {p:.2g}, and {ALPHA:g} is the limit)"
    )
    return found.updated(
        p_adjusted=p,
        claims=claims,
        verdict=UNDECIDED if lost else found.verdict,
        reason=reason if lost else found.reason,
    )


def judge(claim: Claim, groups: Mapping[str, xr.Dataset]) -> Verdict:
    """A claim's verdict by itself, both sides and their difference."""
    quantities = _sides(claim)
    left = read(quantities["left"], groups)
    right = read(quantities["right"], groups) if "right" in quantities else None
    fixed = float(claim.right) if isinstance(claim.right, (int, float)) else 0.0
    difference = Difference(left, right, fixed)
    over = _over(claim, difference)
    noise = ROUNDING * max(abs(left.value), abs(right.value if right else fixed), claim.by)

    def at(level: float) -> tuple[Word, str]:
        low, high = difference.ends(over, level)
        return verdict_of(claim.is_, claim.by, difference.value, low, high, noise)

    verdict, reason = at(LEVEL)
    if verdict != UNDECIDED and over == ("images",) and not any(map(moves, difference.sides)):
        verdict, reason = UNDECIDED, "no image moves it, so that its interval has no width"
    for name, evaluated in (("left", left), ("right", right)):
        if evaluated is not None and evaluated.undefined:
            verdict = UNDECIDED
            reason = f"{evaluated.undefined} of the {evaluated.cells} numbers on the {name} are undefined"
    low, high = difference.ends(over)
    return Verdict(
        say=claim.say,
        verdict=verdict,
        raw=verdict,
        reason=reason,
        is_=claim.is_,
        by=claim.by,
        left=_side(left, quantities["left"]),
        right=_side(right, quantities["right"])
        if right
        else None
        if claim.is_ in TRENDS
        else Side(value=fixed, low=NONE, high=NONE, text=f"{fixed:g}", units=left.units),
        difference=Estimate(value=difference.value, low=low, high=high),
        over=over,
        sources=tuple(_source(difference, one) for one in _known(difference)),
        trainings=difference.trainings,
        p=1.0 if verdict == UNDECIDED else _p(at),
        family=claim.family,
        effect=_effect(difference),
        images=_images_to_decide(claim, difference, noise)
        if verdict == UNDECIDED and over == ("images",)
        else None,
    )


def _over(claim: Claim, difference: Difference) -> tuple[Over, ...]:
    """The sources of variance that a claim speaks over: what it says, or images, and seeds where they vary."""
    if claim.over is not None:
        return (claim.over,)
    return ("images", "seeds") if any(len(side.trainings) > 1 for side in difference.sides) else ("images",)


def _known(difference: Difference) -> list[Over]:
    """The sources of variance that can be told of a difference."""
    seeds = any(len(side.trainings) > 1 for side in difference.sides)
    units = all(side.take == "mean" and side.units_alone.size > 1 for side in difference.sides)
    return ["images", *(["seeds"] if seeds else []), *(["units"] if units else [])]  # type: ignore[list-item]


def _source(difference: Difference, over: Over) -> Source:
    low, high = difference.ends((over,))
    counts = {
        "images": max(side.images for side in difference.sides),
        "seeds": max(len(side.trainings) for side in difference.sides),
        "units": min(side.units_alone.size for side in difference.sides),
    }
    return Source(over=over, count=int(counts[over]), low=low, high=high)


def _p(at: Callable[[float], tuple[Word, str]]) -> float:
    """The smallest share of wrong intervals at which a claim is still decided, by bisection of its logarithm."""
    low, high = LEAST_P, ALPHA
    if at(1 - low)[0] != UNDECIDED:
        return low
    for _ in range(BISECTIONS):
        middle = float(np.sqrt(low * high))
        low, high = (low, middle) if at(1 - middle)[0] != UNDECIDED else (middle, high)
    return high


def _effect(difference: Difference) -> float:
    """The difference in standard deviations over single images; NaN where that is not told."""
    low, high = difference.ends(("images",))
    images = max(side.images for side in difference.sides)
    if not np.isfinite(high - low) or high <= low or images < 2:
        return NONE
    return float(difference.value / ((high - low) / 2 / normal(0.5 + LEVEL / 2) * np.sqrt(images)))


def _images_to_decide(claim: Claim, difference: Difference, noise: float) -> int | None:
    """About how many images would decide a claim if its numbers stay: an interval narrows with their root."""
    low, high = difference.ends(("images",))
    images, value = max(side.images for side in difference.sides), difference.value
    if not np.isfinite(high - low) or not high > low:
        return None
    margins = (-claim.by, claim.by) if claim.is_ == "close" else (claim.by,)
    if claim.is_ in ("less", "decreasing"):
        margins = (-claim.by,)
    gap = min(abs(value - margin) for margin in margins)
    if gap <= noise:
        return None
    reach = (high - low) / 2
    return int(np.ceil(images * max(1.0, (reach / gap) ** 2)))


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
            "there is no interval: images are fewer than two, or are in fewer than two image blocks (take more images "
            "or smaller batches), or seeds or units are fewer than two, or the quantity is undefined without some "
            "images"
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


def _side(found: Evaluated, of: Quantity) -> Side:
    low, high = of_images(found)
    text = in_words(of)
    return Side(
        value=found.value,
        low=low,
        high=high,
        text=text,
        units=found.units,
        metric=of.metric,
        quantity=of.value,
    )


def _wanted_in_words(value: Any) -> str:
    if isinstance(value, Range):
        if value.from_ is None or value.to is None:
            return f"up to {value.to:g}" if value.from_ is None else f"from {value.from_:g}"
        return f"{value.from_:g} to {value.to:g}"
    return "= " + (" or ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value))
