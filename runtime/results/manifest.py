"""The manifest of a run: what ran, on what, with which outcome. Owns its fields and their types; free of torch.

Does not own who fills it (`vitdsl.runtime.run.manifest`), or how a folder is read (`folder`). What is not known
before a run ends has a default, which a manifest that is still `started`, or of a run that failed, may keep. JSON
has no NaN and no infinity: both are null in the file, and a `Number` that is null is read as NaN.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from vitdsl.runtime.results.writing import finite

SCHEMA: Final = "vitdsl.run/3"
Status = Literal["started", "success", "failed", "interrupted"]
Number = Annotated[float, BeforeValidator(lambda value: float("nan") if value is None else value)]
"""A number, or NaN where it is undefined: null in the file."""


class Record(BaseModel):
    """A part of the manifest: unknown fields are errors, types are not coerced, values do not change."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, populate_by_name=True)


class Hashes(Record):
    """The study: `hash` of what it computes, `source_sha256` of the text as written."""

    hash: str
    source_sha256: str


class Git(Record):
    """The commit of the study's folder, and whether something was changed since."""

    commit: str
    dirty: bool


class Environment(Record):
    """The machine, and versions of what computed."""

    python: str
    packages: dict[str, str]
    platform: str
    cpu: str
    cores: int | None
    threads: int
    cuda: str | None
    gpus: tuple[str, ...]


class WeightsUsed(Record):
    """Where weights come from: the source, the hash of the loaded state, and what more there is to say."""

    source: str
    sha256: str
    detail: dict[str, Any]


class PreprocessingRecord(Record):
    """What happens to an image before a model sees it, in timm's terms."""

    input_size: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str
    crop_pct: float
    crop_mode: str


class ModelRecord(Record):
    """One model, or one variant of a swept one; `coordinates` are the swept fields.

    `without` names the units that it was trained without.
    """

    arch: str
    options: dict[str, Any]
    parameters: int
    weights: WeightsUsed
    preprocessing: PreprocessingRecord
    coordinates: dict[str, Any]
    prefix_tokens: int
    sites: int
    units: int
    without: tuple[str, ...]


class DataRecord(Record):
    """One stream of images that was read."""

    source: str
    params: dict[str, Any]
    images: int
    available: int
    classes: int | None
    labelled: bool
    batch: int
    batches: int
    image_blocks: int
    shuffled: bool
    seed: int
    ids_sha256: str
    content_sha256: str


class ConditionRecord(Record):
    """One model under one ablation instance; `baseline` has no ablation, and NaN as its depth."""

    id: str
    ablation: str
    kind: str
    sites: tuple[str, ...]
    depth: Number
    coordinates: dict[str, Any]


class MetricRecord(Record):
    """One metric: its kind, what it says of itself, and the groups of results that it gave."""

    kind: str
    version: int
    title: str
    what: str
    page: str
    params: dict[str, Any]
    reference: str
    groups: tuple[str, ...]
    data: str


class AblationRecord(Record):
    """One ablation: its kind, and what it says of itself."""

    kind: str
    params: dict[str, Any]
    what: str
    page: str


class Work(Record):
    """What was computed of one model for one image of one stream: merged, and separately.

    `conditions` are those that were compiled into the one graph.
    """

    data: str
    model: str
    conditions: tuple[str, ...]
    flops_merged: float
    flops_separate: float
    saved: float


class Reused(Record):
    """How many of a pass' image blocks were in the store already."""

    found: int
    of: int


class Check(Record):
    """One trust check: what, of which model, whether it holds, the number and its bound, and a sentence.

    A check that is `required` stops the run where it does not hold. `about` says which group or how many conditions
    it looked at, so that what several processes checked is said once.
    """

    check: str
    model: str
    ok: bool
    value: Number
    tolerance: Number
    text: str
    required: bool = True
    about: str = ""


class Estimate(Record):
    """A number with its 95 % interval; the ends are NaN where there is none."""

    value: Number
    low: Number
    high: Number


class Side(Estimate):
    """One side of a claim: the quantity, in words, with its unit."""

    text: str
    units: str


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

    def updated(self, **changes: Any) -> Self:
        """The verdict with other values in some fields, checked again."""
        return self.model_validate({**dict(self), **changes})


class Manifest(Record):
    """What ran, on what, with which outcome.

    Attributes:
        spec: Hashes of the study.
        git: None where the study is in no repository.
        warnings: What the user should know.
        results_sha256: Hash of `results.nc`; None before it is written.
        timings: Seconds of each stage, by name.
    """

    schema_: Literal["vitdsl.run/3"] = Field(
        default=SCHEMA, validation_alias="schema", serialization_alias="schema"
    )
    vitdsl: str
    study: str
    title: str
    question: str
    run_id: str
    status: Status
    reason: str = ""
    started_at: str
    ended_at: str | None = None
    seconds: float | None = None
    argv: tuple[str, ...]
    overrides: tuple[str, ...]
    spec: Hashes
    git: Git | None
    environment: Environment
    device: str
    dtype: str
    seed: int
    warnings: tuple[str, ...]
    results_sha256: str | None = None
    timings: dict[str, float] = Field(default_factory=dict)
    trust: tuple[Check, ...] = ()
    work: tuple[Work, ...] = ()
    reused: dict[str, Reused] = Field(default_factory=dict)
    data: dict[str, DataRecord] = Field(default_factory=dict)
    claims: dict[str, Verdict] = Field(default_factory=dict)
    models: dict[str, ModelRecord] = Field(default_factory=dict)
    conditions: dict[str, tuple[ConditionRecord, ...]] = Field(default_factory=dict)
    metrics: dict[str, MetricRecord] = Field(default_factory=dict)
    ablations: dict[str, AblationRecord] = Field(default_factory=dict)

    def updated(self, **changes: Any) -> Self:
        """The manifest with other values in some fields, checked again."""
        return self.model_validate({**dict(self), **changes})


def as_json(value: Record | Mapping[str, Record] | Sequence[Record]) -> Any:
    """A record, or several, as the file has them."""
    if isinstance(value, Record):
        return finite(value.model_dump(by_alias=True))
    if isinstance(value, Mapping):
        return {key: as_json(one) for key, one in value.items()}
    return [as_json(one) for one in value]
