"""What a study claims: quantities read from the results, and comparisons of two of them.

Owns the fields of these entries and how messages speak of them. Does not own how a quantity is read or a
verdict found (the runtime).
"""

from typing import Annotated, ClassVar, Literal

from pydantic import Discriminator, Field, Tag

from vitdsl.dsl.entry import Entry
from vitdsl.dsl.field_types import form
from vitdsl.dsl.words import Words


class Range(Entry):
    """A closed range of a numeric coordinate."""

    in_words: ClassVar[Words] = Words("a range")

    from_: float | None = Field(
        default=None,
        validation_alias="from",
        serialization_alias="from",
        description="Lower end; null is open.",
    )
    to: float | None = Field(default=None, description="Upper end; null is open.")


Coordinate = Annotated[
    Annotated[str | bool | int | float, Tag("one")]
    | Annotated[list[str | int | float], Field(min_length=1), Tag("list")]
    | Annotated[Range, Tag("map")],
    Discriminator(form),
]

Take = Literal[
    "mean", "median", "min", "max", "sum", "spread", "first", "last", "slope", "spearman", "argmin", "argmax"
]


class Quantity(Entry):
    """A number read from a metric's results."""

    in_words: ClassVar[Words] = Words(
        "a quantity",
        home="a quantity (`left` or `right` of a claim)",
        example="{metric: accuracy, value: top1}",
    )

    metric: str = Field(description="The metric's name in this study.")
    value: str = Field(description="Which of its values; see `vitdsl explain KIND`.")
    where: dict[str, Coordinate] = Field(
        default_factory=dict, description="Coordinates to keep: a value, a list, or {from:, to:}."
    )
    take: Take = Field(default="mean", description="How what is left becomes one number.")
    along: str | None = Field(
        default=None, description="The coordinate of slope, spearman, argmin and argmax; null takes `depth`."
    )


Reference = Annotated[
    Annotated[float, Tag("one")] | Annotated[Quantity, Tag("map")],
    Discriminator(lambda value: "map" if form(value) == "map" else "one"),
]


class Claim(Entry):
    """A typed comparison of two quantities, written before looking; the run gives the verdict."""

    in_words: ClassVar[Words] = Words(
        "a claim",
        home="`claims.<name>`",
        example="{say: ..., left: {metric: ..., value: ...}, is: greater, right: 0.5}",
    )

    say: str = Field(description="The claim in words.")
    left: Quantity = Field(description="The quantity that the claim is about.")
    is_: Literal["greater", "less", "close", "increasing", "decreasing"] = Field(
        validation_alias="is",
        serialization_alias="is",
        description="How left stands to right; increasing and decreasing take no right.",
    )
    right: Reference | None = Field(default=None, description="A quantity or a number.")
    by: float = Field(default=0.0, ge=0, description="The margin: by how much at least, or how close.")
    over: Literal["images", "seeds", "units"] | None = Field(
        default=None,
        description="What the interval is over; null: images, and seeds where they vary.",
    )
    family: str = Field(
        default="", description="Claims of one family share the error rate; null: all of the study."
    )
