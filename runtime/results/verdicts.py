"""What claims came to, as the manifest has it. Free of torch. Does not own how a verdict is found (`claims`)."""

from typing import Literal

from pydantic import Field

from vitdsl.runtime.results.record import Number, Record


class Estimate(Record):
    """A number with its 95 % interval; the ends are NaN where there is none."""

    value: Number
    low: Number
    high: Number


class Side(Estimate):
    """One side of a claim: the quantity, in words, with its unit; and of which metric it is which value."""

    text: str
    units: str
    metric: str = ""
    quantity: str = ""


class Source(Record):
    """One source of variance of a difference: its 95 % interval over images, seeds or units alone.

    `count` is how many of them there are; of units, on the side that has fewer.
    """

    over: Literal["images", "seeds", "units"]
    count: int
    low: Number
    high: Number


class Verdict(Record):
    """What a claim came to.

    Attributes:
        verdict: Adjusted for how many claims its family has.
        raw: The verdict of the claim by itself.
        right: None for a trend, which is of the left side alone.
        difference: Left minus right, with the interval that the verdict comes from.
        over: What that interval is over.
        sources: Each source of variance that can be told, alone.
        trainings: How many trainings each of its models has, at least.
        p: The smallest error rate (both directions) at which it would still be decided; 1 where it is not.
        p_adjusted: The same among the claims of its family (Holm).
        claims: How many claims the family has.
        effect: The difference in standard deviations over single images; NaN where unknown.
        images: About how many images would decide it; None where it is decided, or more images would not help.
    """

    say: str
    verdict: Literal["supported", "refuted", "undecided"]
    raw: Literal["supported", "refuted", "undecided"]
    reason: str
    is_: Literal["greater", "less", "close", "increasing", "decreasing"] = Field(
        validation_alias="is", serialization_alias="is"
    )
    by: float
    left: Side
    right: Side | None
    difference: Estimate
    over: tuple[Literal["images", "seeds", "units"], ...] = ("images",)
    sources: tuple[Source, ...] = ()
    trainings: int = 1
    p: Number = 1.0
    p_adjusted: Number = 1.0
    family: str = ""
    claims: int = 1
    effect: Number = float("nan")
    images: int | None = None
