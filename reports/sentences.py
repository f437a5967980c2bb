"""What sentences of the page share: a number with its interval, a claim, a lead with details.

Templates only; nothing here judges beyond the numbers. What a figure says is in the figure's file.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from vitdsl.reports.labels import estimate, sentence, short
from vitdsl.reports.parts import Array, Part
from vitdsl.runtime.results.intervals import PLAIN, Scale, interval, scale_of
from vitdsl.runtime.results.trainings import over_trainings
from vitdsl.runtime.results.verdicts import Estimate, Side, Verdict

NOTHING = "No number of this figure is defined."
MOST_DETAILS = 16


def at(part: Part, *index: int) -> str:
    """One number with its interval and unit."""
    value, low, high = (float(a.values[index]) for a in (part.array, *part.bounds))
    return estimate(value, low, high, part.units)


def derived(part: Part, read: Callable[[Array], Array], dims: Sequence[str] = ()) -> str:
    """A number that is made of several of a part, such as a mean, with its unit and interval: as those of the part.

    Args:
        part: The part.
        read: Makes it of values `[..., condition, *dims]`, over all axes but the leading ones.
        dims: The order of the dims; by default the part's own.
    """
    scale = replace(scale_of(part.dataset[part.value].attrs), count=False)
    return estimate(*_derived(part, read, dims, scale), part.units)


def way(part: Part, change: Callable[[Array], Array], dims: Sequence[str] = ()) -> int:
    """Which way a change between two numbers of a part goes: 1 up, -1 down, 0 where its interval holds no change.

    Where there is no interval, its sign is all that is known of it; 0, too, where a number is undefined.

    Args:
        part: The part.
        change: The second number less the first, as `derived` reads numbers.
        dims: The order of the dims, as there.
    """
    value, low, high = _derived(part, change, dims, PLAIN)
    clear = not np.isfinite((low, high)).all() or low > 0 or high < 0
    return int(np.sign(value)) if clear and np.isfinite(value) else 0


def _derived(
    part: Part, read: Callable[[Array], Array], dims: Sequence[str], scale: Scale
) -> tuple[float, float, float]:
    """A number of a part and the ends of its interval; NaN where there is none."""
    order = [part.array.dims.index(dim) - part.array.ndim for dim in ("condition", *dims)]
    order = order if dims else list(range(-part.array.ndim, 0))

    def ordered(values: Array) -> Array:
        return np.moveaxis(values, order, range(-len(order), 0))

    value = float(read(ordered(np.asarray(part.array.values, np.float64))))
    without, each = part.replicates, part.trainings
    if without is None or not np.isfinite(value):
        return value, np.nan, np.nan
    low, high = (float(end) for end in interval(value, read(ordered(without)), part.left_out, scale))
    if each is not None:
        seeds = over_trainings(read(ordered(each)))
        low, high = value - float(np.hypot(value - low, seeds)), value + float(np.hypot(high - value, seeds))
    return value, low, high


def claim(found: Verdict) -> str:
    """Both numbers, the difference and its interval, in one sentence or two."""
    left, right, relation, margin = found.left, found.right, found.is_, found.by
    said = f"{sentence(left.text or 'the quantity')} is {quantity(left)}"
    if relation in ("increasing", "decreasing"):
        sign = "above" if relation == "increasing" else "below"
        bound = margin if relation == "increasing" else -margin
        return f"{said}; the claim needs its whole interval {sign} {short(bound)}."
    if right is None:
        return f"{said}."
    name = right.text or "the other quantity"
    said += f", against {short(right.value)}" if _fixed(right) else f"; {name} is {quantity(right)}"
    wanted = {
        "greater": f"above {short(margin)}",
        "less": f"below {short(-margin)}",
        "close": f"within \N{PLUS-MINUS SIGN}{short(margin)}",
    }[relation]
    said = f"{said}. The difference is {difference(found)}"
    return f"{said}; the claim needs its whole interval {wanted}."


def against(found: Verdict) -> str:
    """The right side of a claim: its number as it was written, or as it was measured; empty for a trend."""
    right = found.right
    if right is None:
        return ""
    return short(right.value) if _fixed(right) else quantity(right)


def _fixed(right: Estimate) -> bool:
    """Whether a side is a number that the claim gives."""
    return bool(np.isfinite(right.value) and (np.isnan(right.low) or right.low == right.high == right.value))


def quantity(found: Side) -> str:
    """A quantity of a claim with its interval and unit."""
    return _estimate(found, found.units)


def difference(found: Verdict) -> str:
    """The difference of a claim with its interval, in the unit of its sides."""
    return _estimate(found.difference, found.left.units)


def _estimate(found: Estimate, units: str) -> str:
    low, high = (None, None) if found.low == found.high else (found.low, found.high)
    return estimate(found.value, low, high, units)


def lead_and_details(lead: str, said: Sequence[str]) -> str:
    """A lead and its details, one on each line."""
    if len(said) == 1 and ":" not in lead:
        return f"{lead.removesuffix('.')}; {said[0]}"
    return "\n".join([lead, *cut(said)]) if said else NOTHING


def cut(said: Sequence[str]) -> tuple[str, ...]:
    """As many details as anyone reads, and how many more there are."""
    more = len(said) - MOST_DETAILS
    return (
        tuple(said)
        if more <= 0
        else (*said[:MOST_DETAILS], f"{more:,} more are left out here; the data has all.")
    )


def means(values: Array, axes: int | tuple[int, ...]) -> Array:
    """Means of the defined values over some axes; NaN where none is."""
    known = np.isfinite(values)
    count = known.sum(axes)
    total = np.where(known, values, 0.0).sum(axes)
    return np.asarray(np.where(count > 0, total / np.maximum(count, 1), np.nan))


def mean(values: Array) -> float:
    """The mean of the defined values; NaN where none is."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")
