"""Two runs beside each other: whether they can be compared, and all that differs. Free of torch.

Owns the whole, its one sentence, and its form as JSON. Does not own its parts: fields of the studies (`diff_fields`),
facts of the runs (`diff_facts`), numbers (`diff_numbers`); nor how any of it is shown.
"""

from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal

from vitdsl.dsl.text import counted, ticked
from vitdsl.runtime.results import diff_facts
from vitdsl.runtime.results.diff_facts import ABSENT, TOPICS, Fact
from vitdsl.runtime.results.diff_fields import FieldChange, field_changes
from vitdsl.runtime.results.diff_intervals import ALPHA
from vitdsl.runtime.results.diff_numbers import Alone, Matched, Number, alone, matched
from vitdsl.runtime.results.folder import Run
from vitdsl.runtime.results.manifest import Manifest
from vitdsl.runtime.results.writing import finite

SCHEMA = "vitdsl.diff/1"
Answer = Literal["same", "comparable", "comparable in part", "not comparable"]


@dataclass(frozen=True)
class ClaimChange:
    """A claim whose verdict is another, or that one run alone has (None in the other)."""

    name: str
    say: str
    a: str | None
    b: str | None
    rewritten: bool


@dataclass(frozen=True)
class Diff:
    """Two runs beside each other.

    Attributes:
        a: The first run.
        b: The second.
        answer: Whether their numbers can be compared.
        facts: What bears on the numbers, the same or not.
        fields: Fields of the resolved studies that differ.
        environment: The machines, the same or not.
        others: Metrics of one name that are not the same number, with why.
        values: Numbers that both have.
        only: What one of them has.
        claims: Claims whose verdict changed, or that one of them has.
    """

    a: Run
    b: Run
    answer: Answer
    facts: tuple[Fact, ...]
    fields: tuple[FieldChange, ...]
    environment: tuple[Fact, ...]
    others: dict[str, str]
    values: tuple[Matched, ...]
    only: tuple[Alone, ...]
    claims: tuple[ClaimChange, ...]

    @property
    def moved(self) -> int:
        """How many numbers moved beyond their intervals."""
        return sum(int(one.moved.sum()) for one in self.values)

    @cached_property
    def numbers(self) -> list[Number]:
        """The numbers that moved, those first that moved most against their own interval in A."""

        def size(one: Number) -> float:
            _, low, high = one.a
            return abs(one.difference[0]) / (high - low) if high > low else 0.0

        every = (number for one in self.values for number in one.numbers(one.moved))
        return sorted(every, key=lambda one: (-size(one), one.p_adjusted, one.path))

    def differing(self) -> dict[str, list[Fact]]:
        """What differs, by topic."""
        return {
            topic: found
            for topic in TOPICS
            if (found := [one for one in self.facts if one.topic == topic and not one.same])
        }

    def agreeing(self) -> list[str]:
        """What is the same in both, by topic; of what neither has, nothing."""
        there = dict.fromkeys(one.topic for one in self.facts)
        return [topic for topic in TOPICS if topic in there and topic not in self.differing()]


def diff(a: Run, b: Run) -> Diff:
    """Compare two runs.

    Raises:
        StudyError: A resolved study is not YAML any more.
    """
    first, second = a.manifest, b.manifest
    others = {
        name: why
        for name, metric in first.metrics.items()
        if name in second.metrics and (why := diff_facts.why_another(metric, second.metrics[name]))
    }
    left, right = (
        {path: data for path, data in run.groups.items() if path.partition("/")[0] not in others}
        for run in (a, b)
    )
    same = {name: diff_facts.same_images(first, second, name) for name in first.data}
    values = tuple(matched(left, right, same))
    facts, fields = diff_facts.facts(first, second), field_changes(a, b)
    environment = diff_facts.environment(first, second)
    only, claims = alone(left, right), _claims(first, second)
    nothing = all(one.same for one in (*facts, *environment)) and not (fields or others or only or claims)
    answer: Answer = "comparable in part" if others else "comparable"
    if nothing and not any(one.differs.any() for one in values):
        answer = "same"
    elif not values:
        answer = "not comparable"
    return Diff(
        a,
        b,
        answer,
        tuple(facts),
        tuple(fields),
        tuple(environment),
        others,
        values,
        tuple(only),
        tuple(claims),
    )


def _claims(a: Manifest, b: Manifest) -> list[ClaimChange]:
    found = []
    for name in dict.fromkeys((*a.claims, *b.claims)):
        left, right = a.claims.get(name), b.claims.get(name)
        before, after = (one.verdict if one else None for one in (left, right))
        if before != after:
            words = [one.say for one in (right, left) if one and one.say]
            rewritten = left is not None and right is not None and _written(a, name) != _written(b, name)
            found.append(ClaimChange(name, words[0] if words else name, before, after, rewritten))
    return found


def _written(run: Manifest, name: str) -> object:
    """A claim as it was written, by hash; None where the run does not say."""
    return run.written.claims.get(name) if run.written else None


def verdict(found: Diff) -> str:
    """The first sentence: whether they can be compared, what is the same, what is not."""
    if found.answer == "same":
        one = found.a.path.resolve() == found.b.path.resolve()
        return "The same run: nothing differs." if one else "The same: nothing differs but when they ran."
    if found.answer == "not comparable":
        reasons = [f"metric `{name}`: {why}" for name, why in found.others.items()]
        return f"Not comparable: {'; '.join(reasons) or 'no metric of one has numbers in the other'}."
    word = "Comparable in part" if found.others else "Comparable"
    same = [
        f"same {topic}"
        for topic in found.agreeing()
        if topic in ("data", "weights", "preprocessing", "kinds")
    ]
    differs = list(found.differing())
    if not differs:
        machines = [one for one in found.environment if not one.same]
        differs = ["the study" if found.fields else "", "the environment" if machines else ""]
    said = ", ".join(filter(None, differs))
    return f"{word}: {', '.join(same) or 'nothing of note is the same'}; differs in: {said or 'its numbers alone'}."


def cautions(found: Diff) -> list[str]:
    """What must be known before numbers of the two are compared, a sentence each."""
    said = [f"Metric `{name}` is not compared: {why}." for name, why in found.others.items()]
    differing = found.differing()
    trained = [one.name for one in differing.get("weights", ()) if ABSENT not in (one.a, one.b)]
    if trained:
        said.append(
            f"Other weights of {ticked(trained)}: intervals are over images, and say nothing of how far two trainings "
            "of one recipe differ."
        )
    streams = [one.name for one in differing.get("data", ()) if ABSENT not in (one.a, one.b)]
    if streams:
        said.append(
            f"Other images in {ticked(streams)}: the two runs are taken as independent, which is too careful where "
            "they share images."
        )
    return said


def about_numbers(found: Diff) -> list[str]:
    """How many numbers were compared and how, how many moved, and what allows for so many; a sentence each."""
    compared = sum(one.compared for one in found.values)
    if not compared:
        return ["No number is in both."]
    kinds = [
        f"{count:,} {words}"
        for how, words in (
            ("paired", "by the interval of the paired difference (the same images)"),
            ("both", "by the intervals of both (other images)"),
            ("", "without an interval"),
        )
        if (count := sum(one.compared for one in found.values if one.how == how))
    ]
    said = [f"{counted(compared, 'number')} compared: {', '.join(kinds)}."]
    differ = sum(int(one.differs.sum()) for one in found.values)
    if not differ:
        return [*said, "None differs by more than rounding."]
    by_itself, untold, outside = (
        sum(int(getattr(one, name).sum()) for one in found.values) for name in ("alone", "untold", "outside")
    )
    said.append(f"{differ:,} differ by more than rounding.")
    considered = f"moved beyond the 95 % interval of the difference, all {compared:,} considered (Holm)"
    said.append(
        f"{found.moved:,} {considered}; {outside:,} of these left their own interval in A."
        if found.moved
        else f"None {considered}."
    )
    if by_itself:
        said.append(
            f"{by_itself:,} more moved by themselves and not among so many; chance alone would give about "
            f"{ALPHA * compared:,.0f}."
        )
    if untold:
        said.append(
            f"No interval tells whether {counted(untold, 'number')} of these would differ for other images."
        )
    return said


def as_json(found: Diff) -> dict[str, Any]:
    """All of it, ready for JSON; of the numbers, those that moved."""
    shown: dict[str, Any] = {
        "schema": SCHEMA,
        "a": _run(found.a),
        "b": _run(found.b),
        "answer": found.answer,
        "verdict": verdict(found),
        "cautions": cautions(found),
        "same": found.agreeing(),
        "differs": [asdict(one) for facts in found.differing().values() for one in facts],
        "study": [asdict(one) for one in found.fields],
        "environment": [asdict(one) for one in found.environment if not one.same],
        "numbers": {
            "said": about_numbers(found),
            "compared": sum(one.compared for one in found.values),
            "moved": [asdict(one) for one in found.numbers],
            "values": [
                {
                    "path": one.path, "value": one.value, "how": one.how, "compared": one.compared,
                    **{name: int(getattr(one, name).sum()) for name in ("differs", "moved", "alone", "untold")},
                }
                for one in found.values
            ],
        },
        "only": [asdict(one) for one in found.only],
        "claims": [asdict(one) for one in found.claims],
    }  # fmt: skip
    answer: dict[str, Any] = finite(shown)
    return answer


def _run(run: Run) -> dict[str, str]:
    return {"folder": str(run.path), "study": run.manifest.study, "started_at": run.manifest.started_at}
