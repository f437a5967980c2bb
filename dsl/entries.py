"""What stands in a study: images, models, layers, ablations and metrics in typed form.

Owns the fields of these entries, their types and defaults, and how messages speak of them. Does not own: claims
(`claim_entries`), the study around them (`study`), what an entry is (`entry`), what a kind's own parameters are
(each kind's file in the runtime).
"""

from typing import Any, ClassVar, Literal

from pydantic import Field

from vitdsl.dsl.entry import Entry, KindEntry
from vitdsl.dsl.field_types import Axes, ChangedTokens, InputSize, OneOrMany, Role, Tokens
from vitdsl.dsl.preprocess_entry import Preprocess
from vitdsl.dsl.transform_entry import Transform
from vitdsl.dsl.weights_entry import Weights
from vitdsl.dsl.words import BASELINE, OWN, Words


class Data(KindEntry):
    """A stream of images, the same for every model that sees it."""

    in_words: ClassVar[Words] = Words(
        "a data entry", home="`data.<name>`", example="{source: folder, path: ./images}"
    )

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
        default=32,
        ge=2,
        le=1024,
        description="At most this many groups of batches: the unit of resampling, and of what processes share.",
    )
    preprocess: str = Field(
        default=OWN,
        description="`own`: each model's preprocessing; the name of a model: that model's, for all.",
    )
    of: str | None = Field(
        default=None,
        description="Stand beside the images of another data entry, in its order; without `source`, the same images.",
    )
    transform: Transform | None = Field(default=None, description="What changes in the images of `of`.")
    thumbnails: int = Field(
        default=10,
        ge=0,
        le=24,
        description="How many images the report opens with, small; 0 keeps images of this entry out of it.",
    )
    vary: Axes = Field(default_factory=dict, description="Axes of a sweep: a field's path and its values.")


class Augment(Entry):
    """Training augmentation, in the terms of timm's training transform; the default changes nothing."""

    in_words: ClassVar[Words] = Words("`augment`", home="`models.<name>.train.augment`")

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

    in_words: ClassVar[Words] = Words("`train`", home="`models.<name>.train`", example="{recipe: digits_vit}")

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
    """A model: an architecture and where its weights come from; or a module of one's own."""

    in_words: ClassVar[Words] = Words(
        "a model", home="`models.<name>`", example="{arch: resnet50, weights: pretrained}"
    )

    arch: str = Field(
        default="",
        description="A timm architecture, such as `vit_small_patch16_224`; or `package.module:function` of a plugin.",
    )
    given: bool = Field(
        default=False,
        description="true: a module that is handed over in Python, `vitdsl.run(..., models={name: module})`.",
    )
    title: str | None = Field(
        default=None, description="What figures and tables call it; null takes its name."
    )
    features: str | None = Field(
        default=None,
        description="Features that were computed elsewhere: a .safetensors or .npz file with ids, or a folder of them.",
    )
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
    input_size: InputSize | None = Field(
        default=None,
        description="Pixels of the square input, or [height, width], for models that take any size; null takes "
        "the model's own.",
    )
    preprocess: Preprocess | None = Field(
        default=None, description="What differs from the architecture's own preprocessing of images."
    )
    train: Train | None = Field(default=None, description="Train the model inside the study.")
    vary: Axes = Field(default_factory=dict, description="Axes of a sweep: a field's path and its values.")

    @property
    def what(self) -> str:
        """What it is: its architecture, or where it comes from instead."""
        return self.arch or (f"features of {self.features}" if self.features else "given in Python")


class Layer(Entry):
    """A named set of sites of one model."""

    in_words: ClassVar[Words] = Words(
        "a layer", home="`layers.<name>`", example='{of: some_model, at: "blocks.*"}'
    )

    of: str = Field(description="The model.")
    at: OneOrMany = Field(description="Selectors over its sites.")
    role: Role = Field(default="output", description="Which tensor of the site to read.")
    tokens: Tokens = Field(
        default="all",
        description="Which tokens: all, the class token, the spatial ones, their mean, or indices.",
    )


class Ablation(KindEntry):
    """A declared change at sites of one model."""

    in_words: ClassVar[Words] = Words(
        "an ablation",
        home="`ablations.<name>`",
        example='{kind: remove_skip, of: some_model, at: "blocks.*.attn"}',
    )

    kind: str = Field(description="What is changed; see `vitdsl list ablations`.")
    title: str | None = Field(
        default=None, description="What figures and tables call it; null takes its name."
    )
    of: str = Field(description="The model.")
    at: OneOrMany | None = Field(
        default=None, description="Selectors over the places that the kind can change."
    )
    role: Role | None = Field(
        default=None, description="Which tensor of a place is changed; null takes the kind's own."
    )
    tokens: ChangedTokens = Field(
        default="all",
        description="Which tokens are changed: all, the class token, the spatial ones, or indices.",
    )
    each: bool = Field(
        default=False, description="true: one condition per matched place; false: all at once."
    )
    vary: Axes = Field(default_factory=dict, description="Axes of a sweep: a field's path and its values.")


class Metric(KindEntry):
    """What to measure, of which models or layers, under which conditions."""

    in_words: ClassVar[Words] = Words(
        "a metric", home="`metrics.<name>`", example="{kind: accuracy, of: some_model}"
    )

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
    against: str | None = Field(
        default=None,
        description="`baseline`: compare each condition with the intact model at the same sites; a data entry: with "
        "the same model and condition on the images there that stand beside those of `data`, site by site; with `y`, "
        "every layer of `x` with every layer of `y` on the images there.",
    )
    under: OneOrMany | None = Field(
        default=None,
        description="`baseline` or names of ablations; null takes every condition of the models.",
    )
    data: str | None = Field(
        default=None, description="Which images; may be left out where the study has one entry."
    )

    @property
    def against_data(self) -> str | None:
        """The data entry that is compared with, None for the intact model or nothing."""
        return None if self.against == BASELINE else self.against
