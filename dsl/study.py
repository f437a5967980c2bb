"""What a study is: the typed form of a study file, version 1 of the language.

Owns the fields of the whole, and is where other packages find the entries. Does not own: the entries
(`entries`), reading YAML (`reader`), turning pydantic's errors into ours (`schema`), names that refer to one
another (`references`).
"""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

from vitdsl.dsl.claim_entries import Claim, Coordinate, Quantity, Range, Reference, Take
from vitdsl.dsl.emit import to_yaml
from vitdsl.dsl.entries import (
    Ablation,
    Augment,
    Data,
    Layer,
    Metric,
    Model,
    Train,
)
from vitdsl.dsl.entry import Entry, KindEntry
from vitdsl.dsl.field_types import Axes, OneOrMany, Role, Slug, Tokens
from vitdsl.dsl.hashing import study_hash
from vitdsl.dsl.phases import loaded_of
from vitdsl.dsl.preprocess_entry import Preprocess
from vitdsl.dsl.weights_entry import Weights, WeightsFile, WeightsHub
from vitdsl.dsl.words import BASELINE, LANGUAGE_VERSION, OWN, Words

__all__ = [
    "BASELINE", "LANGUAGE_VERSION", "OWN", "Ablation", "Augment", "Axes", "Claim", "Coordinate", "Data", "Entry",
    "KindEntry", "Layer", "Metric", "Model", "OneOrMany", "Preprocess", "Quantity", "Range", "Reference", "Role",
    "Slug", "Study", "Take", "Tokens", "Train", "Weights", "WeightsFile", "WeightsHub",
]  # fmt: skip


def _not_true(value: Any) -> Any:
    """`true` equals 1 in Python, and is no version."""
    if isinstance(value, bool):
        raise PydanticCustomError("literal_error", "Input should be 1", {"expected": "1"})
    return value


class Study(Entry):
    """A study: one YAML file."""

    in_words: ClassVar[Words] = Words("a study", home="the top of a study")

    vitdsl: Annotated[Literal[1], BeforeValidator(_not_true)] = Field(description="Version of the language.")
    study: Slug = Field(description="The study's name; names the run folder.")
    title: str | None = Field(default=None, description="Heading of the report; null takes the name.")
    question: str | None = Field(default=None, description="What the study asks.")
    show: str | None = Field(
        default=None,
        description="The claim or the metric whose figure opens the report; null takes the first claim.",
    )
    seed: int = Field(default=0, ge=0, description="The one seed that others default to.")
    folder_was: str | None = Field(
        default=None,
        description="What `folder` said where the study was written; a run's resolved study has it.",
    )
    folder: str | None = Field(
        default=None,
        description="Where relative paths start, from the study's own folder; null is that folder.",
    )
    max_conditions: int = Field(default=512, ge=1, description="More conditions than this are refused.")
    data: dict[Slug, Data] = Field(min_length=1, description="Streams of images.")
    models: dict[Slug, Model] = Field(min_length=1, description="Models.")
    layers: dict[Slug, Layer] = Field(default_factory=dict, description="Named sets of sites.")
    ablations: dict[Slug, Ablation] = Field(default_factory=dict, description="Declared changes.")
    metrics: dict[Slug, Metric] = Field(min_length=1, description="What to measure.")
    claims: dict[Slug, Claim] = Field(default_factory=dict, description="What is claimed.")

    in_part: ClassVar["type[Study]"]
    """A study in part: without the entries that cannot be read."""

    @property
    def hash(self) -> str:
        """The sha256 of what the study computes; titles, order and formatting do not change it."""
        return study_hash(self)

    def to_yaml(self) -> str:
        """The study as a study file."""
        return to_yaml(self)

    def check(self) -> None:
        """Check the names across the study, as `load` does for a file.

        Raises:
            StudyError: With everything that is wrong.
        """
        loaded_of(self)


class _InPart(Study):
    """What is left of a study where some of it cannot be read; for checks only."""

    vitdsl: Literal[1] = 1
    study: Slug = "unread"
    data: dict[Slug, Data] = Field(default_factory=dict)
    models: dict[Slug, Model] = Field(default_factory=dict)
    metrics: dict[Slug, Metric] = Field(default_factory=dict)


Entry.whole_study = Study
Study.in_part = _InPart
