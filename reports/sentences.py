"""Takeaways: what a figure shows, said from its numbers. Templates only; nothing here judges beyond them."""

from collections.abc import Sequence

import numpy as np

from vitdsl.reports.figure_effect import effect_lines, intact
from vitdsl.reports.figure_lines import token_lines
from vitdsl.reports.figure_matrix import best_match
from vitdsl.reports.labels import estimate, listing, number, plural, sentence, short, unit
from vitdsl.reports.parts import BASELINE, Array, Part
from vitdsl.runtime.results.manifest import Estimate, Side, Verdict

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
    """The mean effect of single changes beside each other; the largest change of each model."""
    said = []
    for part in parts:
        values = np.asarray(part.array.values, np.float64)
        known = [i for i in part.ablated if np.isfinite(values[i])]
        base = intact(part)
        if not known:
            if np.isfinite(base):
                said.append(f"{part.model}: {at(part, part.conditions.index(BASELINE))}, intact.")
            continue
        reference = base if np.isfinite(base) else float(np.mean(values[known]))
        far = max(known, key=lambda i: abs(values[i] - reference))
        moved = f"from {number(base)} intact to " if np.isfinite(base) and abs(base) > 1e-12 else ""
        said.append(f"{part.model}: largest change {moved}{at(part, far)}, with {place(part, far)}.")
    return _told((strongest(parts) or [f"{sentence(parts[0].name)}."])[0], said)


def thirds(part: Part) -> tuple[float, float]:
    """Mean similarity of the first with the last third of the sites, and of neighbouring sites."""
    values = np.asarray(part.array.transpose("condition", "site_x", "site_y").values[0], np.float64)
    third = max(1, len(values) // 3)
    near = np.array([values[i, i + 1] for i in range(min(values.shape) - 1)])
    return _mean(values[:third, -third:]), _mean(near)


def matrix(parts: Sequence[Part]) -> str:
    """How alike first and last sites are, and where the best matches across models lie."""
    within = [part for part in parts if part.defined and len(part.models) == 1]
    across = [part for part in parts if part.defined and len(part.models) == 2]
    name = sentence(parts[0].name)
    found = [(part.model, *thirds(part)) for part in within]
    lead = ""
    if found:
        far = listing([f"{number(far)} in {model}" for model, far, _ in found])
        near = listing([f"{number(near)} in {model}" for model, _, near in found])
        lead = f"{name}, mean between the first and the last third of the sites: {far}; "
        lead += f"between neighbours: {near}."
    said = [text for text in map(match, across) if text]
    return "\n".join([lead, *said] if lead else said) or NOTHING


def match(part: Part) -> str:
    """Where in y the sites of x find their best match."""
    x, y = part.models
    depth, matched, value = best_match(part)
    if not np.isfinite(value).any():
        return ""
    early, late = depth <= 1 / 3, depth > 2 / 3
    early = early if early.any() else depth == depth.min()
    late = late if late.any() else depth == depth.max()
    first, last = _mean(value[early]), _mean(value[late])
    verb = "falls" if last < first else "rises"
    places = [number(_mean(matched[part_]), 2) for part_ in (early, late)]
    return (
        f"The first third of {x} is most like {y} at depth {places[0]} (mean), the last third at {places[1]}"
        f"; the best match {verb} from {number(first)} to {number(last)}."
    )


def paired(parts: Sequence[Part]) -> str:
    """How far the last site moves under each model's conditions."""
    said, spans = [], []
    for part in parts:
        values = np.asarray(part.array.values[:, -1], np.float64)
        known = [i for i in part.ablated if np.isfinite(values[i])]
        if not known:
            continue
        low, high = min(known, key=lambda i: values[i]), max(known, key=lambda i: values[i])
        spans.append(f"{number(float(values[low]))} to {number(float(values[high]))} in {part.model}")
        last = part.names()[-1]
        said.append(
            f"{part.model}, at {last}: lowest {at(part, low, -1)} with {place(part, low)}, "
            f"highest {at(part, high, -1)} with {place(part, high)}."
        )
    return _told(f"{sentence(parts[0].name)}, at the last site: {listing(spans)}.", said)


def profile(parts: Sequence[Part]) -> str:
    """First, last and largest value of each group."""
    said = []
    for part in parts:
        values = np.asarray(part.array.values[0], np.float64)
        known = np.flatnonzero(np.isfinite(values))
        if len(known):
            names = part.names()
            top = known[values[known].argmax()]
            first, last = (f"{at(part, 0, i)} at {names[i]}" for i in (known[0], known[-1]))
            said.append(
                f"{part.model}: {first}, {last}; largest {number(float(values[top]))} at {names[top]}."
            )
    return _told(f"{sentence(parts[0].name)}, first, last and largest.", said)


def tokens(parts: Sequence[Part]) -> str:
    """First half against second half, for each token and kind of branch."""
    said = []
    for part in parts:
        words = []
        for line in token_lines(part):
            middle = (np.nanmin(line.x) + np.nanmax(line.x)) / 2
            first, second = _mean(line.y[line.x <= middle]), _mean(line.y[line.x > middle])
            words.append(f"{line.label} {number(first)} \N{RIGHTWARDS ARROW} {number(second)}")
        if words:
            said.append(f"{part.model}: {'; '.join(words)}.")
    return _told(
        f"{sentence(parts[0].name)}, mean of the first half \N{RIGHTWARDS ARROW} of the second half.", said
    )


def heads(parts: Sequence[Part]) -> str:
    """The range over heads at the first and the last site, beside the reference level."""
    said = []
    for part in parts:
        values = np.asarray(part.array.isel(condition=0).transpose("site", "head").values, np.float64)
        known = [i for i in range(len(values)) if np.isfinite(values[i]).any()]
        ends = list(dict.fromkeys((known[0], known[-1]))) if known else []
        words = []
        for i in ends:
            low, high = (number(float(end(values[i]))) for end in (np.nanmin, np.nanmax))
            span = " ".join(filter(None, (f"{low} to {high}", unit(part.units))))
            words.append(f"{span} at {part.names()[i]}")
        level = part.attr("baseline_line", None)
        if words and level is not None:
            label = str(part.attr("baseline_label", "reference"))
            words.append(f"{number(float(level))} {unit(part.units)}".rstrip() + f" is {label}")
        if words:
            said.append(f"{part.model}: {'; '.join(words)}.")
    return _told(f"{sentence(parts[0].name)}, from the lowest head to the highest.", said)


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
    return _told(f"{sentence(parts[0].name)}.", said)


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
    fixed = np.isfinite(right.value) and (np.isnan(right.low) or right.low == right.high == right.value)
    name = right.text or "the other quantity"
    said += f", against {short(right.value)}" if fixed else f"; {name} is {quantity(right)}"
    wanted = {
        "greater": f"above {short(margin)}",
        "less": f"below {short(-margin)}",
        "close": f"within \N{PLUS-MINUS SIGN}{short(margin)}",
    }[relation]
    said = f"{said}. The difference is {quantity(found.difference)}"
    return f"{said}; the claim needs its whole interval {wanted}."


def quantity(found: Estimate) -> str:
    """A quantity of a claim with its interval."""
    low, high = (None, None) if found.low == found.high else (found.low, found.high)
    return estimate(found.value, low, high, found.units if isinstance(found, Side) else "")


def strongest(parts: Sequence[Part]) -> list[str]:
    """The findings worth the page's head: the mean effect of each model beside the others."""
    lines = effect_lines(parts)
    means = sorted(((_mean(line.y), line.label) for line in lines), reverse=True)
    known = [(value, label) for value, label in means if np.isfinite(value)]
    if not known:
        return []
    words = [f"{number(value)} for {label}" for value, label in known]
    return [f"{sentence(parts[0].name)}, mean over single changes: {listing(words)}."]


def _told(lead: str, said: Sequence[str]) -> str:
    """A lead and its details, one on each line."""
    if len(said) == 1 and ":" not in lead:
        return f"{lead.removesuffix('.')}; {said[0]}"
    return "\n".join([lead, *said]) if said else NOTHING


def _mean(values: Array) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")
