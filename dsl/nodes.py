"""A YAML document as a tree of values that know where they stand.

Owns the nodes and the ways through them. Does not own reading text (`reader`), how two trees merge (`merging`) or
what the values mean (`study`).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from vitdsl.dsl.diagnostics import Span

Path = tuple[str | int, ...]
"""The way from the top of a document to a value: keys and list positions."""


@dataclass(frozen=True, slots=True)
class Scalar:
    """A text, number, truth value or null; `text` is how it was written, without quotes."""

    value: str | int | float | bool | None
    text: str
    plain: bool
    span: Span

    @property
    def size(self) -> int:
        """How many nodes it counts for."""
        return 1


@dataclass(frozen=True, slots=True)
class Items:
    """A list."""

    items: "tuple[Node, ...]"
    span: Span
    size: int


@dataclass(frozen=True, slots=True)
class Field:
    """A key with its span, and the value under it."""

    key: Span
    value: "Node"


@dataclass(frozen=True, slots=True)
class Fields:
    """A mapping, in the order written."""

    fields: dict[str, Field]
    span: Span
    size: int


Node = Scalar | Items | Fields


def plain(node: Node) -> Any:
    """The tree as plain dicts, lists and scalars."""
    if isinstance(node, Fields):
        return {key: plain(field.value) for key, field in node.fields.items()}
    if isinstance(node, Items):
        return [plain(item) for item in node.items]
    return node.value


def child(node: Node, part: str | int) -> Node | None:
    """The value under a key or at a list position, if there is one."""
    if isinstance(node, Fields) and isinstance(part, str):
        field = node.fields.get(part)
        return field.value if field else None
    if isinstance(node, Items) and isinstance(part, int) and 0 <= part < len(node.items):
        return node.items[part]
    return None


def at(node: Node, path: Path) -> Node | None:
    """The value at the end of a path, if there is one."""
    found: Node | None = node
    for part in path:
        if found is None:
            return None
        found = child(found, part)
    return found


def walk(node: Node, path: Path = ()) -> Iterator[tuple[Path, Node]]:
    """Every value below and including `node`, with its path, in order."""
    yield path, node
    if isinstance(node, Fields):
        for key, field in node.fields.items():
            yield from walk(field.value, (*path, key))
    elif isinstance(node, Items):
        for index, item in enumerate(node.items):
            yield from walk(item, (*path, index))


def with_fields(node: Fields, fields: dict[str, Field]) -> Fields:
    """The same mapping with other fields."""
    return Fields(fields, node.span, 1 + sum(field.value.size for field in fields.values()))


def replaced(node: Node, path: Path, value: Node | None) -> Node:
    """The tree with the value of an existing key replaced, or the key removed."""
    if not isinstance(node, Fields):
        return node
    key, rest = str(path[0]), path[1:]
    fields = dict(node.fields)
    if rest:
        fields[key] = Field(fields[key].key, replaced(fields[key].value, rest, value))
    elif value is None:
        del fields[key]
    else:
        fields[key] = Field(fields[key].key, value)
    return with_fields(node, fields)
