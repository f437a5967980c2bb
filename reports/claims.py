"""Claims on the page: verdict, sentence, and a strip with the interval beside what the claim needs."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from vitdsl.reports import sentences
from vitdsl.reports.labels import sentence, short
from vitdsl.runtime.results.qualifications import background, qualifications
from vitdsl.runtime.results.verdicts import Verdict

WIDTH, PAD = 360.0, 12.0
DASH = "\N{EN DASH}"
WORDS = {"supported": "Supported", "refuted": "Refuted", "undecided": "Undecided"}


@dataclass(frozen=True)
class Strip:
    """Positions in pixels: the interval, the estimate, the threshold(s) and where the claim holds."""

    low: float
    value: float
    high: float
    holds: tuple[float, float]
    marks: tuple[tuple[float, str], ...]


@dataclass(frozen=True)
class ClaimView:
    """A claim as the page shows it; `left`, `right` and `difference` with their intervals."""

    name: str
    say: str
    verdict: str
    word: str
    text: str
    reason: str
    strip: Strip | None
    left: str
    right: str
    difference: str
    qualified: tuple[str, ...] = ()

    @property
    def number(self) -> str:
        """What the verdict is of: the difference, or the one side of a trend."""
        return self.left if self.difference == DASH else self.difference


def views(claims: Mapping[str, Verdict]) -> list[ClaimView]:
    """All claims, in the study's order."""
    return [
        ClaimView(
            name,
            found.say or name,
            found.verdict,
            WORDS[found.verdict],
            sentences.claim(found),
            found.reason,
            strip(found),
            sentences.quantity(found.left),
            sentences.against(found) or DASH,
            sentences.difference(found) if found.right else DASH,
            tuple(sentence(said) for said in [*qualifications(found), *background(found)]),
        )
        for name, found in claims.items()
    ]


def counted(verdicts: Iterable[str]) -> str:
    """How many claims came to what: `2 supported, 1 undecided`; empty without claims."""
    counts = Counter(verdicts)
    return ", ".join(f"{counts[key]} {word.lower()}" for key, word in WORDS.items() if counts[key])


def strip(found: Verdict) -> Strip | None:
    """The drawing of a claim, or None where its interval is not known."""
    relation, margin = found.is_, found.by
    shown = found.left if relation in ("increasing", "decreasing") else found.difference
    low, value, high = shown.low, shown.value, shown.high
    if not all(map(math.isfinite, (low, value, high))):
        return None
    marks = {"close": (-margin, margin), "less": (-margin,), "decreasing": (-margin,)}.get(
        relation, (margin,)
    )
    span = [low, high, 0.0, *marks]
    room = (max(span) - min(span)) or 1.0
    left, right = min(span) - 0.12 * room, max(span) + 0.12 * room

    def at(x: float) -> float:
        return round(PAD + (WIDTH - 2 * PAD) * (x - left) / (right - left), 1)

    holds = {"close": (-margin, margin), "less": (left, -margin), "decreasing": (left, -margin)}.get(
        relation, (margin, right)
    )
    named = tuple((at(mark), short(mark)) for mark in dict.fromkeys(marks))
    if len(named) == 2 and named[1][0] - named[0][0] < 60:
        named = ((named[0][0], ""), (named[1][0], f"\N{PLUS-MINUS SIGN}{short(margin)}"))
    if all(abs(mark) > 1e-12 for mark in marks) and all(abs(at(0.0) - x) > 40 for x, _ in named):
        named += ((at(0.0), "0"),)
    return Strip(at(low), at(value), at(high), (at(holds[0]), at(holds[1])), named)
