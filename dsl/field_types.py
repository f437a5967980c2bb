"""The types that fields of several entries share: names, one or many of them, roles, tokens, axes."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Discriminator, Field, PlainSerializer, StringConstraints, Tag

Slug = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
"""A name that the author chooses: lower case letters, digits and underscores, a letter first."""


def _one_as_list(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


def _list_as_one(value: tuple[str, ...]) -> str | list[str]:
    return value[0] if len(value) == 1 else list(value)


OneOrMany = Annotated[
    tuple[str, ...],
    Field(strict=False, min_length=1),
    BeforeValidator(_one_as_list, json_schema_input_type=str | list[str]),
    PlainSerializer(_list_as_one, return_type=str | list[str]),
]
"""One name or selector, or a list of them."""

Role = Literal[
    "output",
    "stream",
    "branch",
    "skip",
    "attention",
    "heads",
    "input",
    "image",
    "embedding",
    "position",
    "pool",
]
Axes = dict[str, Annotated[list[Any], Field(min_length=1)]]


def form(value: Any) -> str:
    """Which branch of a union a value is meant for, by its shape: `map`, `list` or `one`."""
    if isinstance(value, (dict, BaseModel)):
        return "map"
    return "list" if isinstance(value, (list, tuple)) else "one"


Tokens = Annotated[
    Annotated[Literal["all", "cls", "spatial", "mean"], Tag("one")]
    | Annotated[list[int], Field(min_length=1), Tag("list")],
    Discriminator(lambda value: "list" if form(value) == "list" else "one"),
]

ChangedTokens = Annotated[
    Annotated[Literal["all", "cls", "spatial"], Tag("one")]
    | Annotated[list[int], Field(min_length=1), Tag("list")],
    Discriminator(lambda value: "list" if form(value) == "list" else "one"),
]
"""Tokens that can be changed one by one: all of those that can be read but their mean."""

Pixels = Annotated[int, Field(ge=1)]
InputSize = Annotated[
    Annotated[Pixels, Tag("one")] | Annotated[tuple[Pixels, Pixels], Field(strict=False), Tag("list")],
    Discriminator(lambda value: "list" if form(value) == "list" else "one"),
]
"""The side of a square, or height and width."""
