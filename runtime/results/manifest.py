"""The manifest of a run: what ran, on what, with which outcome. Owns its fields and their types; free of torch.

Does not own who fills it (`vitdsl.runtime.run.manifest`), or how a folder is read (`folder`). What is not known
before a run ends has a default, which a manifest that is still `started`, or of a run that failed, may keep.
"""

from math import inf, isnan
from typing import Any, Final, Literal

from pydantic import Field

from vitdsl.runtime.results.provenance import Earlier, Sealed, Written
from vitdsl.runtime.results.record import Number, Record
from vitdsl.runtime.results.split import Split
from vitdsl.runtime.results.verdicts import Verdict

SCHEMA: Final = "vitdsl.run/3"
FLOAT32: Final = "float32"
PRECISION: Final = "precision"
"""The trust checks that say what less than exact arithmetic does to numbers."""
Status = Literal["started", "success", "failed", "interrupted"]


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
    """What happens to an image before a model sees it, in timm's terms.

    Of a transform that was handed over in Python, `sha256` is the hash of what it makes of a few images.
    """

    input_size: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str
    crop_pct: float
    crop_mode: str
    sha256: str = ""


class ModelRecord(Record):
    """One model, or one variant of a swept one; `coordinates` are the swept fields.

    `without` names the units that it was trained without, `family` the file of timm that its architecture is of,
    `unfollowed` why it was read by hooks on its modules; empty where it has a graph.
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
    title: str = ""
    family: str = ""
    unfollowed: str = ""


class DataRecord(Record):
    """One stream of images that was read; `what` says in plain words what they are."""

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
    of: str = ""
    transform: dict[str, Any] = {}
    what: str = ""
    class_names: tuple[str, ...] = ()


class ConditionRecord(Record):
    """One model under one ablation instance; `baseline` has no ablation, and NaN as its depth."""

    id: str
    ablation: str
    kind: str
    sites: tuple[str, ...]
    depth: Number
    coordinates: dict[str, Any]


class MetricRecord(Record):
    """One metric: its kind, what it says of itself, keys of works to cite, and the groups of results that it gave."""

    kind: str
    version: int
    title: str
    what: str
    page: str
    params: dict[str, Any]
    reference: str
    groups: tuple[str, ...]
    data: str
    cites: tuple[str, ...] = ()


class AblationRecord(Record):
    """One ablation: its kind, and what it says of itself."""

    kind: str
    params: dict[str, Any]
    what: str
    page: str
    title: str = ""
    cites: tuple[str, ...] = ()


class Work(Record):
    """What was computed of one model for one image of one stream: merged, and separately.

    `conditions` are those that were compiled into so many `graphs`, `folded` the batch norms in them that were folded.
    """

    data: str
    model: str
    conditions: tuple[str, ...]
    flops_merged: float
    flops_separate: float
    saved: float
    folded: int = 0
    graphs: int = 1


class Reused(Record):
    """How many of a pass' image blocks were in the store already."""

    found: int
    of: int


class Predicted(Record):
    """What a run was predicted to take, without starting Python.

    Attributes:
        seconds: In all, the report included.
        memory: Bytes at most.
        calibrated_at: When the speed of the machine was measured.
        parts: Seconds by part, as `times.parts` names them, of `drawing`, and of `training`, there among `models`.
        unknown: What is left out: kinds and trainings whose work cannot be told.
    """

    seconds: float
    memory: float
    calibrated_at: str
    parts: dict[str, float]
    unknown: tuple[str, ...] = ()


class Check(Record):
    """One trust check: what, of which model, whether it holds, the number and its bound, and a sentence.

    A check that is `required` stops the run where it does not hold. `about` says which group or how many conditions
    it looked at, so that what several processes checked is said once. `conditions` are those that it speaks of, as the
    group's results or, without a group, the model name them; none where it holds of the model under any. `parts` are
    the numbers that its sentence is made from, so that checks of some conditions and of others are said in one. Both go
    into no manifest.
    """

    check: str
    model: str
    ok: bool
    value: Number
    tolerance: Number
    text: str
    required: bool = True
    about: str = ""
    conditions: tuple[str, ...] = Field(default=(), exclude=True)
    parts: tuple[tuple[str, float, float], ...] = Field(default=(), exclude=True)


def inexact(dtype: str, fast: bool) -> str:
    """What is less exact than float32 as models write it, as it was asked for: `--dtype bf16`; empty for nothing."""
    asked = (f"--dtype {dtype}" if dtype != FLOAT32 else "", "--fast" if fast else "")
    return " ".join(filter(None, asked))


class Manifest(Record):
    """What ran, on what, with which outcome.

    Attributes:
        show: The claim or the metric whose figure opens the report; empty for the first claim's.
        spec: Hashes of the study.
        fast: Whether batch norms were folded into convolutions.
        git: None where the study is in no repository.
        written: Hashes of the claims and of the rest, and of each part.
        earlier: The earlier run of this study that had other claims; None where none had.
        seal: The seal beside the study; None without one.
        warnings: What the user should know.
        results_sha256: Hash of `results.nc`; None before it is written.
        timings: Seconds of each stage, by name.
        predicted: What it was predicted to take; None where the machine was not calibrated, or processes shared it.
        peak: Bytes of memory that its process had at most; None where the system does not say.
        split: The passes of which not all conditions ran together.
    """

    schema_: Literal["vitdsl.run/3"] = Field(
        default=SCHEMA, validation_alias="schema", serialization_alias="schema"
    )
    vitdsl: str
    study: str
    title: str
    question: str
    show: str = ""
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
    fast: bool = False
    seed: int
    warnings: tuple[str, ...]
    written: Written | None = None
    earlier: Earlier | None = None
    seal: Sealed | None = None
    results_sha256: str | None = None
    timings: dict[str, float] = Field(default_factory=dict)
    predicted: Predicted | None = None
    peak: float | None = None
    trust: tuple[Check, ...] = ()
    work: tuple[Work, ...] = ()
    split: tuple[Split, ...] = ()
    reused: dict[str, Reused] = Field(default_factory=dict)
    data: dict[str, DataRecord] = Field(default_factory=dict)
    claims: dict[str, Verdict] = Field(default_factory=dict)
    models: dict[str, ModelRecord] = Field(default_factory=dict)
    conditions: dict[str, tuple[ConditionRecord, ...]] = Field(default_factory=dict)
    metrics: dict[str, MetricRecord] = Field(default_factory=dict)
    ablations: dict[str, AblationRecord] = Field(default_factory=dict)

    @property
    def inexact(self) -> str:
        """What is less exact than float32 as models write it, as it was asked for; empty for nothing."""
        return inexact(self.dtype, self.fast)

    @property
    def most_moved(self) -> Check | None:
        """The trust check of the group that this moved most, beside what it may be; None where nothing was inexact."""
        checks = [check for check in self.trust if check.check == PRECISION]
        return max(checks, key=_part, default=None)


def _part(check: Check) -> float:
    """What a number moved of what it may; of one that is undefined on one side alone, infinite."""
    return inf if isnan(check.value) else check.value / check.tolerance
