"""What the language allows at a path, read off the pydantic models.

Owns the questions that did-you-mean, sweeps, overrides and merging ask of the models: which fields an entry
has, whether its keys are free. Does not own the models (`study`).
"""

import types
import typing
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from vitdsl.dsl.study import (
    Ablation,
    Augment,
    Claim,
    Data,
    KindEntry,
    Layer,
    Metric,
    Model,
    Quantity,
    Range,
    Study,
    Train,
    WeightsFile,
    WeightsHub,
)

SECTIONS = ("data", "models", "layers", "ablations", "metrics", "claims")
OPTIONAL_SECTIONS = frozenset({"layers", "ablations", "claims"})

NOUNS: dict[type[BaseModel], str] = {
    Study: "a study",
    Data: "a data entry",
    Model: "a model",
    WeightsFile: "weights from a file",
    WeightsHub: "weights from the hub",
    Train: "`train`",
    Augment: "`augment`",
    Layer: "a layer",
    Ablation: "an ablation",
    Metric: "a metric",
    Claim: "a claim",
    Quantity: "a quantity",
    Range: "a range",
}
HOMES: dict[type[BaseModel], str] = {
    Study: "the top of a study",
    Data: "`data.<name>`",
    Model: "`models.<name>`",
    Train: "`models.<name>.train`",
    Augment: "`models.<name>.train.augment`",
    Layer: "`layers.<name>`",
    Ablation: "`ablations.<name>`",
    Metric: "`metrics.<name>`",
    Claim: "`claims.<name>`",
    Quantity: "a quantity (`left` or `right` of a claim)",
}
"""The entries that authors meet, in words."""


EXAMPLES: dict[type[BaseModel], str] = {
    Data: "{source: folder, path: ./images}",
    Model: "{arch: resnet50, weights: pretrained}",
    Train: "{recipe: digits_vit}",
    Layer: '{of: some_model, at: "blocks.*"}',
    Ablation: '{kind: remove_skip, of: some_model, at: "blocks.*.attn"}',
    Metric: "{kind: accuracy, of: some_model}",
    Claim: "{say: ..., left: {metric: ..., value: ...}, is: greater, right: 0.5}",
    Quantity: "{metric: accuracy, value: top1}",
}
"""A small entry of each type, for help."""

OTHER_WORDS = {
    "name": "study",
    "description": "question",
    "type": "kind",
    "lr": "learning_rate",
    "wd": "weight_decay",
    "batch_size": "batch",
    "n": "images",
    "dataset": "data",
    "backbone": "arch",
    "architecture": "arch",
    "checkpoint": "weights",
    "kwargs": "options",
    "experiments": "ablations",
    "inherit": "extends",
    "include": "extends",
}
"""What other programs call our fields."""


@dataclass(frozen=True)
class Shape:
    """What may stand at a place.

    Attributes:
        entries: The entry types that may stand here; empty for scalars and lists.
        values: What stands under each key, where the keys are free; None where they are not.
        anything: Whether any value may stand here and below.
        nullable: Whether null is a value here.
        number: Whether a number stands here.
    """

    entries: tuple[type[BaseModel], ...] = ()
    values: "Shape | None" = None
    anything: bool = False
    nullable: bool = False
    number: bool = False


def written(name: str, field: FieldInfo) -> str:
    """What a field is called in a study file, where Python's name differs."""
    return field.validation_alias if isinstance(field.validation_alias, str) else name


@cache
def fields_of(model: type[BaseModel]) -> dict[str, Shape]:
    """The fields of an entry by the name they have in a study file."""
    hints = typing.get_type_hints(model, include_extras=True)
    return {written(name, field): _shape(hints[name]) for name, field in model.model_fields.items()}


@cache
def description(model: type[BaseModel], name: str) -> str:
    """What a field is for, in one line."""
    for key, field in model.model_fields.items():
        if written(key, field) == name:
            return field.description or ""
    return ""


def shape_at(path: Sequence[str | int], model: type[BaseModel] = Study) -> Shape | None:
    """What may stand at a path; None where nothing may."""
    shape: Shape | None = Shape((model,))
    for part in path:
        if shape is None or shape.anything:
            return shape
        shape = _below(shape, part)
    return shape


def entry_at(path: Sequence[str | int], model: type[BaseModel] = Study) -> type[BaseModel] | None:
    """The entry type at a path, if an entry stands there."""
    shape = shape_at(path, model)
    return shape.entries[0] if shape and shape.entries else None


def is_free(path: Sequence[str | int], model: type[BaseModel] = Study) -> bool:
    """Whether the last key of the path is one that the author chose, or a kind's: an entry of a map."""
    if not path or not isinstance(path[-1], str):
        return False
    above = shape_at(path[:-1], model)
    if above is None or above.anything or above.values is not None:
        return True
    return not any(path[-1] in fields_of(entry) for entry in above.entries)


def removable(path: tuple[str | int, ...]) -> bool:
    """Whether null removes what a base has at this path, instead of being a value."""
    return is_free(path) or (len(path) == 1 and path[0] in OPTIONAL_SECTIONS)


def whole(path: tuple[str | int, ...]) -> bool:
    """Whether a mapping at this path is one value: one form of weights does not merge with another."""
    return len(path) == 3 and path[0] == "models" and path[2] == "weights"


def _below(shape: Shape, part: str | int) -> Shape | None:
    if shape.values is not None:
        return shape.values
    for entry in shape.entries:
        found = fields_of(entry).get(str(part))
        if found is not None:
            return found
    free = any(issubclass(entry, KindEntry) for entry in shape.entries)
    return Shape(anything=True) if free else None


def _shape(hint: Any) -> Shape:
    origin, args = get_origin(hint), get_args(hint)
    if hint is Any:
        return Shape(anything=True)
    if origin is Annotated:
        return _shape(args[0])
    if origin in (Union, types.UnionType):
        parts = [_shape(arg) for arg in args if arg is not type(None)]
        return Shape(
            tuple(entry for part in parts for entry in part.entries),
            next((part.values for part in parts if part.values), None),
            any(part.anything for part in parts),
            type(None) in args,
        )
    if origin is dict:
        return Shape(values=_shape(args[1]))
    if origin in (list, tuple):
        return Shape(values=_shape(args[0]))
    if isinstance(hint, type) and issubclass(hint, BaseModel):
        return Shape((hint,))
    return Shape(number=hint in (int, float))
