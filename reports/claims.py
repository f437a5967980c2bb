"""Claims on the page: verdict, sentence, and a strip with the interval beside what the claim needs."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vitdsl.reports import sentences
from vitdsl.reports.labels import short

WIDTH, PAD = 360.0, 12.0
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
    """A claim as the page shows it."""

    name: str
    say: str
    verdict: str
    word: str
    text: str
    reason: str
    strip: Strip | None


def views(claims: Mapping[str, Mapping[str, Any]]) -> list[ClaimView]:
    """All claims, in the study's order."""
    return [
        ClaimView(
            name,
            str(entry.get("say") or name),
            str(entry.get("verdict")) if entry.get("verdict") in WORDS else "undecided",
            WORDS.get(str(entry.get("verdict")), str(entry.get("verdict") or "Undecided")),
            sentences.claim(entry),
            str(entry.get("reason") or ""),
            strip(entry),
        )
        for name, entry in claims.items()
    ]


def strip(entry: Mapping[str, Any]) -> Strip | None:
    """The drawing of a claim, or None where its interval is not known."""
    relation, margin = str(entry.get("is", "")), float(entry.get("by") or 0.0)
    trend = relation in ("increasing", "decreasing")
    shown = entry.get("left") if trend else entry.get("difference")
    ends = [(shown or {}).get(key) for key in ("low", "value", "high")]
    if any(end is None or not math.isfinite(end) for end in ends):
        return None
    low, value, high = (float(end) for end in ends if end is not None)
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
