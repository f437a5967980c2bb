"""Takeaways: what a figure shows, said from its numbers. Templates only; nothing here judges beyond them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vitdsl.reports.figure_effect import effect_lines, intact
from vitdsl.reports.figure_lines import token_lines
from vitdsl.reports.figure_matrix import best_match
from vitdsl.reports.labels import estimate, interval, listing, number, plural, sentence, unit
from vitdsl.reports.parts import BASELINE, Array, Part

NOTHING = "No number of this figure is defined."


def at(part: Part, *index: int) -> str:
    """One number with its interval and unit."""
    value, low, high = (float(a.values[index]) for a in (part.array, *part.bounds))
    return estimate(value, low, high, part.units)


def place(part: Part, i: int) -> str:
    """Which change condition i is."""
    if part.conditions[i] == BASELINE:
        return "intact"
    site, ablation = (str(part.of_condition(name, "")[i]) for name in ("ablated_site", "ablation"))
    return f"{ablation} at {site}" if site and ablation else part.conditions[i]


def effect(parts: Sequence[Part]) -> str:
    """The extreme condition of each model, its mean, and the intact model."""
    said = []
    for part in parts:
        values = np.asarray(part.array.values, np.float64)
        known = [i for i in part.ablated if np.isfinite(values[i])]
        base = intact(part)
        if not known:
            if np.isfinite(base):
                said.append(f"{part.model}: {at(part, part.conditions.index(BASELINE))} for the intact model.")
            continue
        reference = base if np.isfinite(base) else float(np.mean(values[known]))
        far = max(known, key=lambda i: abs(values[i] - reference))
        mean = f"mean over its {plural(len(known), 'condition')} {number(float(values[known].mean()))}"
        start = f"; intact {number(base)}" if np.isfinite(base) and abs(base) > 1e-12 else ""
        amount = "largest change: " if start else ""
        said.append(f"{part.model}: {amount}{at(part, far)} with {place(part, far)}; {mean}{start}.")
    return f"{sentence(parts[0].name)}. " + " ".join(said) if said else NOTHING


def thirds(part: Part) -> tuple[float, float]:
    """Mean similarity of the first with the last third of the sites, and of neighbouring sites."""
    values = np.asarray(part.array.values[0], np.float64)
    third = max(1, len(values) // 3)
    near = np.array([values[i, i + 1] for i in range(min(values.shape) - 1)])
    return _mean(values[:third, -third:]), _mean(near)


def matrix(parts: Sequence[Part]) -> str:
    """How alike first and last sites are, and where the best matches across models lie."""
    said = []
    for part in parts:
        if not part.defined:
            continue
        if "model_x" not in part.dataset.attrs:
            far, near = thirds(part)
            said.append(
                f"{part.model}: mean {number(far)} between the first and the last third of its sites, "
                f"{number(near)} between neighbours."
            )
        else:
            said.append(match(part))
    return " ".join(said) or NOTHING


def match(part: Part) -> str:
    """Where in y the sites of x find their best match."""
    x, y = (str(part.dataset.attrs.get(key, key[-1])) for key in ("model_x", "model_y"))
    depth, matched, value = best_match(part)
    if not np.isfinite(value).any():
        return ""
    early, late = depth <= 1 / 3, depth > 2 / 3
    if not early.any():
        early = depth == depth.min()
    if not late.any():
        late = depth == depth.max()
    return (
        f"The first third of {x} is most like {y} at depth {number(_mean(matched[early]), 2)} (mean), the last "
        f"third at {number(_mean(matched[late]), 2)}; the best match falls from {number(_mean(value[early]))} "
        f"to {number(_mean(value[late]))}."
        if _mean(value[late]) < _mean(value[early])
        else f"The first third of {x} is most like {y} at depth {number(_mean(matched[early]), 2)} (mean), the "
        f"last third at {number(_mean(matched[late]), 2)}; the best match is {number(_mean(value[early]))} and "
        f"{number(_mean(value[late]))}."
    )


def paired(parts: Sequence[Part]) -> str:
    """How far the last site moves under each model's conditions."""
    said = []
    for part in parts:
        values = np.asarray(part.array.values[:, -1], np.float64)
        known = [i for i in part.ablated if np.isfinite(values[i])]
        if not known:
            continue
        low, high = min(known, key=lambda i: values[i]), max(known, key=lambda i: values[i])
        last = part.names()[-1]
        span = f"{at(part, low, -1)} with {place(part, low)}"
        if high != low:
            span += f" to {at(part, high, -1)} with {place(part, high)}"
        said.append(f"{part.model}, at {last}: from {span}.")
    return f"{sentence(parts[0].name)}. " + " ".join(said) if said else NOTHING


def profile(parts: Sequence[Part]) -> str:
    """First, last and largest value of each group."""
    said = []
    for part in parts:
        values = np.asarray(part.array.values[0], np.float64)
        known = np.flatnonzero(np.isfinite(values))
        if len(known):
            top = known[values[known].argmax()]
            said.append(
                f"{part.model}: {at(part, 0, known[0])} at {part.names()[known[0]]}, {at(part, 0, known[-1])} at "
                f"{part.names()[known[-1]]}; largest {number(float(values[top]))} at {part.names()[top]}."
            )
    return f"{sentence(parts[0].name)}. " + " ".join(said) if said else NOTHING


def tokens(parts: Sequence[Part]) -> str:
    """First half against second half, for each token and kind of branch."""
    said = []
    for part in parts:
        words = []
        for line in token_lines(part):
            middle = (np.nanmin(line.x) + np.nanmax(line.x)) / 2
            first, second = _mean(line.y[line.x <= middle]), _mean(line.y[line.x > middle])
            words.append(f"{line.label} {number(first)} to {number(second)}")
        if words:
            said.append(f"{part.model}: {listing(words)}.")
    return f"{sentence(parts[0].name)}, mean of the first half to mean of the second half. " + " ".join(said)


def heads(parts: Sequence[Part]) -> str:
    """The range over heads at the first and the last site, beside the reference level."""
    said = []
    for part in parts:
        values = np.asarray(part.array.isel(condition=0).transpose("site", "head").values, np.float64)
        known = [i for i in range(len(values)) if np.isfinite(values[i]).any()]
        ends = list(dict.fromkeys((known[0], known[-1]))) if known else []
        words = [
            f"{part.names()[i]} spans {number(float(np.nanmin(values[i])))} to "
            f"{number(float(np.nanmax(values[i])))} {unit(part.units)}".rstrip()
            for i in ends
        ]
        level = part.attr("baseline_line", None)
        if words and level is not None:
            label = str(part.attr("baseline_label", "reference"))
            words.append(f"{label} would give {number(float(level))} {unit(part.units)}".rstrip())
        if words:
            said.append(f"{part.model}: {listing(words)}.")
    return f"{sentence(parts[0].name)} over the heads. " + " ".join(said) if said else NOTHING


def table(parts: Sequence[Part]) -> str:
    """The range of the values."""
    said = []
    for part in parts:
        values = part.array.values[np.isfinite(part.array.values)]
        if len(values):
            said.append(
                f"{part.model}: {plural(len(values), 'number')} from {number(float(values.min()))} to "
                f"{number(float(values.max()))}."
            )
    return f"{sentence(parts[0].name)}. " + " ".join(said) if said else NOTHING


def claim(entry: Mapping[str, Any]) -> str:
    """Both numbers, the difference and its interval, in one sentence or two."""
    left, right = entry.get("left") or {}, entry.get("right")
    said = f"{sentence(str(left.get('text') or 'the quantity'))} is {quantity(left)}"
    relation, margin = str(entry.get("is", "")), float(entry.get("by") or 0.0)
    if relation in ("increasing", "decreasing"):
        sign = "above" if relation == "increasing" else "below"
        bound = margin if relation == "increasing" else -margin
        return f"{said}; the claim needs its whole interval {sign} {number(bound)}."
    if right is None:
        return f"{said}."
    fixed = right.get("low") is None or right.get("low") == right.get("high") == right.get("value")
    name = str(right.get("text") or "the other quantity")
    said += f", against {number(right.get('value'))}" if fixed else f"; {name} is {quantity(right)}"
    difference = entry.get("difference") or {}
    wanted = {
        "greater": f"above {number(margin)}",
        "less": f"below {number(-margin)}",
        "close": f"within \N{PLUS-MINUS SIGN}{number(margin)}",
    }.get(relation, relation)
    return f"{said}. The difference is {quantity(difference)}; the claim needs its whole interval {wanted}."


def quantity(entry: Mapping[str, Any]) -> str:
    """A quantity of a claim with its interval."""
    low, high = entry.get("low"), entry.get("high")
    span = "" if low == high else interval(low, high)
    return " ".join(filter(None, (number(entry.get("value")), span)))


def strongest(parts: Sequence[Part]) -> list[str]:
    """The findings worth the page's head: the mean effect of each model beside the others."""
    lines = effect_lines(parts)
    means = sorted(((_mean(line.y), line.label) for line in lines), reverse=True)
    known = [(value, label) for value, label in means if np.isfinite(value)]
    if not known:
        return []
    words = [f"{number(value)} for {label}" for value, label in known]
    return [f"{sentence(parts[0].name)}, mean over single changes: {listing(words)}."]


def _mean(values: Array) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")
