"""What a study is: the typed form of a study file, version 1 of the language.

Owns the fields, their types and their defaults. Does not own: reading YAML (`reader`), turning pydantic's
errors into ours (`schema`), names that refer to one another (`references`), what a kind's own parameters are
(each kind's file in the runtime).
"""

from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    PlainSerializer,
    StringConstraints,
    Tag,
    ValidationError,
)
from pydantic_core import PydanticCustomError

if TYPE_CHECKING:
    from pydantic._internal._model_construction import ModelMetaclass
else:
    ModelMetaclass = type(BaseModel)

LANGUAGE_VERSION = 1
BASELINE = "baseline"
OWN = "own"

Slug = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
"""A name that the author chooses: lower case letters, digits and underscores, a letter first."""


def _one_as_list(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


def _not_true(value: Any) -> Any:
    """`true` equals 1 in Python, and is no version."""
    if isinstance(value, bool):
        raise PydanticCustomError("literal_error", "Input should be 1", {"expected": "1"})
    return value


def _list_as_one(value: tuple[str, ...]) -> str | list[str]:
    return value[0] if len(value) == 1 else list(value)


OneOrMany = Annotated[
    tuple[str, ...],
    Field(strict=False, min_length=1),
    BeforeValidator(_one_as_list, json_schema_input_type=str | list[str]),
    PlainSerializer(_list_as_one, return_type=str | list[str]),
]
"""One name or selector, or a list of them."""

Role = Literal["output", "stream", "branch", "skip", "attention", "heads", "input"]
Axes = dict[str, Annotated[list[Any], Field(min_length=1)]]


def _form(value: Any) -> str:
    """Which branch of a union a value is meant for, by its shape: `map`, `list` or `one`."""
    if isinstance(value, (dict, BaseModel)):
        return "map"
    return "list" if isinstance(value, (list, tuple)) else "one"


Tokens = Annotated[
    Annotated[Literal["all", "cls", "spatial", "mean"], Tag("one")]
    | Annotated[list[int], Field(min_length=1), Tag("list")],
    Discriminator(lambda value: "list" if _form(value) == "list" else "one"),
]


class _ClearErrors(ModelMetaclass):
    """Building an entry in Python fails in the words of the language, as reading a file does."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().__call__(*args, **kwargs)
        except ValidationError as error:
            from vitdsl.dsl.diagnostics import StudyError
            from vitdsl.dsl.schema import translated
            from vitdsl.dsl.source import SourceMap

            raise StudyError(translated(error, cast(type[BaseModel], cls), kwargs, SourceMap())) from None


class Entry(BaseModel, metaclass=_ClearErrors):
    """A mapping in a study: unknown keys are errors, types are not coerced, values do not change."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, populate_by_name=True)


class KindEntry(Entry):
    """An entry whose kind adds fields of its own; they are checked by the kind when the study is bound."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True, populate_by_name=True)

    @property
    def params(self) -> dict[str, Any]:
        """The fields that belong to the kind, as written."""
        return dict(self.model_extra or {})


class Data(KindEntry):
    """A stream of images, the same for every model that sees it."""

    source: str = Field(description="Where the images come from; see `vitdsl list sources`.")
    images: int | None = Field(
        default=None, ge=1, description="How many images to take after shuffling; null takes all of them."
    )
    batch: int = Field(
        default=64, ge=1, description="Images per batch; also the batch of the minibatch estimators."
    )
    shuffle: bool = Field(
        default=True, description="Shuffle once from the seed; false keeps the sorted order."
    )
    seed: int | None = Field(default=None, ge=0, description="Seed of the shuffle; null takes the study's.")
    image_blocks: int = Field(
        default=32, ge=2, le=32, description="At most this many groups of batches, the unit of resampling."
    )
    preprocess: str = Field(
        default=OWN,
        description="`own`: each model's preprocessing; the name of a model: that model's, for all.",
    )
    vary: Axes = Field(default_factory=dict, description="Axes of a sweep: a field's path and its values.")


class WeightsFile(Entry):
    """Weights from a local checkpoint."""

    file: str = Field(description="Path of a .safetensors, .pth or .pt file, relative to the study.")


class WeightsHub(Entry):
    """Weights from a repository of the Hugging Face hub."""

    hub: str = Field(description="Repository id, such as `timm/vit_base_patch16_224.augreg_in21k`.")


def _weights_form(value: Any) -> str:
    if isinstance(value, (WeightsFile, WeightsHub)):
        return "weights.file" if isinstance(value, WeightsFile) else "weights.hub"
    if isinstance(value, dict):
        return "weights.hub" if "hub" in value and "file" not in value else "weights.file"
    return "weights.name"


Weights = Annotated[
    Annotated[Literal["pretrained", "random"], Tag("weights.name")]
    | Annotated[WeightsFile, Tag("weights.file")]
    | Annotated[WeightsHub, Tag("weights.hub")],
    Discriminator(_weights_form),
]


class Augment(Entry):
    """Training augmentation, in the terms of timm's training transform; the default changes nothing."""

    scale: tuple[float, float] = Field(
        default=(1.0, 1.0),
        strict=False,
        description="Range of the random crop's area, as a share of the image.",
    )
    ratio: tuple[float, float] = Field(
        default=(1.0, 1.0), strict=False, description="Range of the crop's aspect."
    )
    hflip: float = Field(default=0.0, ge=0, le=1, description="Probability of a horizontal flip.")
    vflip: float = Field(default=0.0, ge=0, le=1, description="Probability of a vertical flip.")
    color_jitter: float = Field(default=0.0, ge=0, description="Strength of colour jitter.")
    auto_augment: str | None = Field(
        default=None, description="timm's policy, such as `rand-m9-mstd0.5-inc1`."
    )
    erase: float = Field(default=0.0, ge=0, le=1, description="Probability of random erasing.")


class Train(Entry):
    """How a model is trained inside the study, from its `weights` (random unless given) on."""

    recipe: str | None = Field(
        default=None,
        description="A shipped recipe's name or a `./recipe.yaml`; fields given here override it.",
    )
    data: Data | None = Field(
        default=None, description="The training images; required unless the recipe has them."
    )
    fraction: float = Field(
        default=1.0, gt=0, le=1, description="Share of the training images to use, by class."
    )
    epochs: int = Field(default=30, ge=1, description="Passes over the training images.")
    optimizer: str = Field(default="adamw", description="A name that timm's optimizer factory takes.")
    learning_rate: float = Field(default=1e-3, gt=0, description="Peak learning rate.")
    weight_decay: float = Field(default=0.05, ge=0, description="Weight decay.")
    schedule: Literal["cosine", "step", "linear", "constant"] = Field(
        default="cosine", description="After warm-up."
    )
    warmup_epochs: int = Field(default=0, ge=0, description="Epochs of linear warm-up.")
    label_smoothing: float = Field(
        default=0.0, ge=0, lt=1, description="Label smoothing of the cross entropy."
    )
    clip_grad: float | None = Field(
        default=None, gt=0, description="Largest gradient norm; null does not clip."
    )
    augment: Augment = Field(default_factory=Augment, description="Training augmentation.")
    seed: int | None = Field(
        default=None, ge=0, description="Seed of initialisation and order; null: the study's."
    )
    without: OneOrMany | None = Field(
        default=None, description="Ablations that hold during training, by name; they hold at every use too."
    )


class Model(Entry):
    """A model: a timm architecture and where its weights come from."""

    arch: str = Field(description="A timm architecture, such as `vit_small_patch16_224`.")
    options: dict[str, Any] = Field(
        default_factory=dict, description="Keyword arguments of timm's `create_model`."
    )
    weights: Weights | None = Field(
        default=None,
        description="`pretrained`, `random`, `{file: path}` or `{hub: id}`; required without `train`.",
    )
    seed: int | None = Field(
        default=None, ge=0, description="Seed of random weights; null takes the study's."
    )
    input_size: int | None = Field(
        default=None,
        ge=1,
        description="Pixels of the square input, for models that take any size; null takes the model's own.",
    )
    train: Train | None = Field(default=None, description="Train the model inside the study.")
    vary: Axes = Field(default_factory=dict, description="Axes of a sweep: a field's path and its values.")


class Layer(Entry):
    """A named set of sites of one model."""

    of: str = Field(description="The model.")
    at: OneOrMany = Field(description="Selectors over its sites.")
    role: Role = Field(default="output", description="Which tensor of the site to read.")
    tokens: Tokens = Field(
        default="all",
        description="Which tokens: all, the class token, the spatial ones, their mean, or indices.",
    )


class Ablation(KindEntry):
    """A declared change at sites of one model."""

    kind: str = Field(description="What is changed; see `vitdsl list ablations`.")
    of: str = Field(description="The model.")
    at: OneOrMany | None = Field(
        default=None, description="Selectors over the places that the kind can change."
    )
    each: bool = Field(
        default=False, description="true: one condition per matched place; false: all at once."
    )
    vary: Axes = Field(default_factory=dict, description="Axes of a sweep: a field's path and its values.")


class Metric(KindEntry):
    """What to measure, of which models or layers, under which conditions."""

    kind: str = Field(description="What is measured; see `vitdsl list metrics`.")
    title: str | None = Field(default=None, description="A heading for the report.")
    of: OneOrMany | None = Field(default=None, description="The models, for a metric of models.")
    at: OneOrMany | None = Field(
        default=None, description="Selectors that narrow the sites of a metric of models."
    )
    x: str | None = Field(default=None, description="The layers, for a metric of layers.")
    y: str | None = Field(
        default=None, description="The layers to compare with; none compares x with itself."
    )
    against: Literal["baseline"] | None = Field(
        default=None, description="Compare each condition with the intact model at the same sites."
    )
    under: OneOrMany | None = Field(
        default=None,
        description="`baseline` or names of ablations; null takes every condition of the models.",
    )
    data: str | None = Field(
        default=None, description="Which images; may be left out where the study has one entry."
    )


class Range(Entry):
    """A closed range of a numeric coordinate."""

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
    Discriminator(_form),
]

Take = Literal[
    "mean", "median", "min", "max", "sum", "spread", "first", "last", "slope", "spearman", "argmin", "argmax"
]


class Quantity(Entry):
    """A number read from a metric's results."""

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
    Discriminator(lambda value: "map" if _form(value) == "map" else "one"),
]


class Claim(Entry):
    """A typed comparison of two quantities, written before looking; the run gives the verdict."""

    say: str = Field(description="The claim in words.")
    left: Quantity = Field(description="The quantity that the claim is about.")
    is_: Literal["greater", "less", "close", "increasing", "decreasing"] = Field(
        validation_alias="is",
        serialization_alias="is",
        description="How left stands to right; increasing and decreasing take no right.",
    )
    right: Reference | None = Field(default=None, description="A quantity or a number.")
    by: float = Field(default=0.0, ge=0, description="The margin: by how much at least, or how close.")


class Study(Entry):
    """A study: one YAML file."""

    vitdsl: Annotated[Literal[1], BeforeValidator(_not_true)] = Field(description="Version of the language.")
    study: Slug = Field(description="The study's name; names the run folder.")
    title: str | None = Field(default=None, description="Heading of the report; null takes the name.")
    question: str | None = Field(default=None, description="What the study asks.")
    seed: int = Field(default=0, ge=0, description="The one seed that others default to.")
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

    @property
    def hash(self) -> str:
        """The sha256 of what the study computes; titles, order and formatting do not change it."""
        from vitdsl.dsl.hashing import study_hash

        return study_hash(self)

    def to_yaml(self) -> str:
        """The study as a study file."""
        from vitdsl.dsl.emit import to_yaml

        return to_yaml(self)

    def check(self) -> None:
        """Check the names across the study, as `load` does for a file.

        Raises:
            StudyError: With everything that is wrong.
        """
        from vitdsl.dsl.load import Loaded

        Loaded.of(self)
