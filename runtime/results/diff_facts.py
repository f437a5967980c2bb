"""What two runs have in common and what not: data, weights, models, kinds, machine. Free of torch.

Owns which facts decide what can be compared. Does not own the numbers (`diff_numbers`) or the sentence that stands
first (`diff`).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from vitdsl.runtime.results.manifest import Manifest, MetricRecord
from vitdsl.runtime.results.record import as_json

SHORT = 12
"""Characters of a hash that are shown."""
ABSENT = "none"
ENVIRONMENT = "environment"
Topic = Literal[
    "data", "weights", "architectures", "preprocessing", "kinds", "parameters of metrics", "ablations", "seed",
    "device", "dtype", "fast", "vitdsl",
]  # fmt: skip
TOPICS: tuple[Topic, ...] = Topic.__args__  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Fact:
    """One thing that both runs say of themselves, as each says it."""

    topic: str
    name: str
    a: str
    b: str

    @property
    def same(self) -> bool:
        """Whether both say the same."""
        return self.a == self.b

    @property
    def in_words(self) -> str:
        """What it is about: `data probe`, `dtype`, `torch`."""
        return self.name if self.topic == ENVIRONMENT else f"{self.topic} {self.name}".strip()


def facts(a: Manifest, b: Manifest) -> list[Fact]:
    """Facts that bear on the numbers; names that one run alone has are `none` in the other."""
    found: list[Fact] = []

    def each(topic: Topic, of: Callable[[Manifest], Mapping[str, Any]], say: Callable[[Any], str]) -> None:
        left, right = of(a), of(b)
        for name in dict.fromkeys((*left, *right)):
            sides = (say(side[name]) if name in side else ABSENT for side in (left, right))
            found.append(Fact(topic, name, *sides))

    each("data", lambda run: run.data, lambda one: f"{one.images:,} images, {_short(one.content_sha256)}")
    each("weights", lambda run: run.models, lambda one: f"{one.weights.source}, {_short(one.weights.sha256)}")
    each("architectures", lambda run: run.models, lambda one: _said({"arch": one.arch, **one.options}))
    each("preprocessing", lambda run: run.models, lambda one: _said(as_json(one.preprocessing)))
    each("kinds", lambda run: run.metrics, lambda one: f"{one.kind}, version {one.version}")
    each("parameters of metrics", lambda run: run.metrics, lambda one: _said(one.params))
    each("ablations", lambda run: run.ablations, lambda one: _said({"kind": one.kind, **one.params}))
    for topic in ("seed", "device", "dtype", "vitdsl"):
        found.append(Fact(topic, "", *(str(getattr(run, topic)) for run in (a, b))))
    found.append(Fact("fast", "", *("yes" if run.fast else "no" for run in (a, b))))
    return found


def environment(a: Manifest, b: Manifest) -> list[Fact]:
    """The machines and what was installed there."""

    def said(run: Manifest) -> dict[str, str]:
        known: dict[str, Any] = as_json(run.environment)
        packages = known.pop("packages")
        git = run.git and f"{run.git.commit[:SHORT]}{', with uncommitted changes' if run.git.dirty else ''}"
        every = {**known, **packages, "git commit": git or ABSENT}
        return {name: ABSENT if value in (None, [], "") else _plain(value) for name, value in every.items()}

    left, right = said(a), said(b)
    return [
        Fact(ENVIRONMENT, name, left.get(name, ABSENT), right.get(name, ABSENT))
        for name in dict.fromkeys((*left, *right))
    ]


def why_another(a: MetricRecord, b: MetricRecord) -> str:
    """Why a metric of one name is not the same number in both runs; nothing where it is."""
    if a.kind != b.kind:
        return f"it is of kind `{a.kind}` in A and of kind `{b.kind}` in B"
    if a.version != b.version:
        return f"its kind `{a.kind}` has version {a.version} in A and version {b.version} in B"
    names = [
        name for name in dict.fromkeys((*a.params, *b.params)) if a.params.get(name) != b.params.get(name)
    ]
    if names:
        sides = (_said({name: one.params.get(name) for name in names}) for one in (a, b))
        return "it is {} in A and {} in B".format(*sides)
    return ""


def same_images(a: Manifest, b: Manifest, stream: str) -> bool:
    """Whether a stream has the same images in the same order in both runs."""
    left, right = a.data.get(stream), b.data.get(stream)
    if left is None or right is None:
        return False
    return (left.images, left.content_sha256) == (right.images, right.content_sha256)


def _short(text: str) -> str:
    return f"SHA-256 {text[:SHORT]}"


def _said(known: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}: {_plain(value)}" for name, value in known.items())


def _plain(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_plain, value)) if value else "none"
    if isinstance(value, Mapping):
        return "{" + _said(value) + "}"
    return str(value)
