"""What a language allows at a path, read off the pydantic models; its root, the type of a study, comes from outside.

Owns the questions that did-you-mean, sweeps, overrides and merging ask of the models: which fields an entry
has, whether its keys are free, what to call it. Does not own the models (`study`, `entries`).
"""

import types
import typing
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from vitdsl.dsl.words import Words


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


def shape_at(path: Sequence[str | int], model: type[BaseModel]) -> Shape | None:
    """What may stand at a path; None where nothing may."""
    shape: Shape | None = Shape((model,))
    for part in path:
        if shape is None or shape.anything:
            return shape
        shape = _below(shape, part)
    return shape


def entry_at(path: Sequence[str | int], model: type[BaseModel]) -> type[BaseModel] | None:
    """The entry type at a path, if an entry stands there."""
    shape = shape_at(path, model)
    return shape.entries[0] if shape and shape.entries else None


def is_free(path: Sequence[str | int], model: type[BaseModel]) -> bool:
    """Whether the last key of the path is one that the author chose, or a kind's: an entry of a map."""
    if not path or not isinstance(path[-1], str):
        return False
    above = shape_at(path[:-1], model)
    if above is None or above.anything or above.values is not None:
        return True
    return not any(path[-1] in fields_of(entry) for entry in above.entries)


@cache
def sections(language: type[BaseModel]) -> tuple[str, ...]:
    """The parts of a study in which authors name entries."""
    return tuple(name for name, shape in fields_of(language).items() if shape.values and shape.values.entries)


@cache
def optional_sections(language: type[BaseModel]) -> frozenset[str]:
    """The sections that a study can do without."""
    required = {written(name, field) for name, field in language.model_fields.items() if field.is_required()}
    return frozenset(sections(language)) - required


@cache
def entries(language: type[BaseModel]) -> tuple[type[BaseModel], ...]:
    """Every entry type from the top of a study down, each once, in the order of the fields."""
    found: dict[type[BaseModel], None] = {language: None}
    for shape in fields_of(language).values():
        for here in (shape, shape.values):
            for entry in here.entries if here else ():
                found |= dict.fromkeys(entries(entry))
    return tuple(found)


def words_of(model: type[BaseModel]) -> Words:
    """How messages speak of an entry; empty words for a model that says nothing."""
    found = getattr(model, "in_words", None)
    return found if isinstance(found, Words) else Words()


def _below(shape: Shape, part: str | int) -> Shape | None:
    if shape.values is not None:
        return shape.values
    for entry in shape.entries:
        found = fields_of(entry).get(str(part))
        if found is not None:
            return found
    free = any(entry.model_config.get("extra") == "allow" for entry in shape.entries)
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
