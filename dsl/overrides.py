"""`--set a.b=c`: one value laid on a study from outside the file.

Owns the form of an argument. Its value is typed by the schema later, like any other.
"""

import json
import re
from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any

from pydantic import BaseModel

from vitdsl.dsl.diagnostics import Diagnostic, StudyError
from vitdsl.dsl.lines import Lines
from vitdsl.dsl.merging import merge
from vitdsl.dsl.nodes import Field, Fields, Node, Scalar, at
from vitdsl.dsl.reader import FINITE, read
from vitdsl.dsl.scalars import NumberError, resolve
from vitdsl.dsl.shape import sections
from vitdsl.dsl.source import dotted
from vitdsl.dsl.text import UNPRINTABLE, did_you_mean, shown, ticked

_PART = re.compile(r'"([^"]*)"|([^."=]+)')


def as_arguments(overrides: Sequence[str] | Mapping[str, Any]) -> tuple[str, ...]:
    """Overrides in the form of the command line."""
    if isinstance(overrides, str):
        return (overrides,)
    if isinstance(overrides, Mapping):
        return tuple(f"{path}={json.dumps(value, ensure_ascii=False)}" for path, value in overrides.items())
    return tuple(overrides)


def overridden(
    root: Node,
    arguments: Sequence[str],
    texts: MutableMapping[str, str],
    labels: MutableMapping[str, str],
    language: type[BaseModel],
) -> Node:
    """The document with every argument laid on it, in order.

    Args:
        root: The document.
        arguments: Each `path=value`.
        texts: Takes each argument as a file of its own, so that a caret can point into it.
        labels: Takes `--set` for each.
        language: The type of a whole study.

    Raises:
        StudyError: An argument has no `=`, no such path, or a value that cannot be read.
    """
    problems: list[Diagnostic] = []
    for number, argument in enumerate(arguments, 1):
        name = "--set" if len(arguments) == 1 else f"--set #{number}"
        texts[name], labels[name] = argument, "--set"
        try:
            over = _parsed(root, argument, name, sections(language))
        except StudyError as error:
            problems += error.diagnostics
            continue
        root = merge(root, over, language)
    if problems:
        raise StudyError(problems)
    return root


def _parsed(root: Node, argument: str, name: str, named: Sequence[str]) -> Node:
    """The argument as a document that holds one value; `named` are the sections with names of the author's."""
    lines = Lines(argument, name)
    bad = UNPRINTABLE.search(argument)
    if bad:
        message = f"control character U+{ord(bad.group()):04X} in `--set`"
        raise StudyError(
            Diagnostic("VD012", message, lines.span(bad.start(), bad.end()), help=("remove it",))
        )
    keys, offset = _path(argument, lines)
    value = _value(argument, offset, lines, name)
    _check_path(root, keys, value, lines, named)
    node = value
    for key, start, end in reversed(keys):
        node = Fields(
            {key: Field(lines.span(start, end), node)}, lines.span(start, len(argument)), 1 + node.size
        )
    return node


def _path(argument: str, lines: Lines) -> tuple[list[tuple[str, int, int]], int]:
    """The keys before the first `=`, each with its offsets, and where the value starts."""
    keys: list[tuple[str, int, int]] = []
    offset = 0
    while True:
        found = _PART.match(argument, offset)
        if not found:
            break
        keys.append(((found.group(1) or found.group(2) or "").strip(), found.start(), found.end()))
        offset = found.end()
        if argument[offset : offset + 1] == "=":
            return keys, offset + 1
        if argument[offset : offset + 1] != ".":
            break
        offset += 1
    span = lines.span(min(offset, max(len(argument) - 1, 0)), len(argument))
    message = f"`--set {shown(argument)}` is not of the form `path=value`"
    raise StudyError(Diagnostic("VD016", message, span, help=("for example `--set models.vit.seed=1`",)))


def _value(argument: str, offset: int, lines: Lines, name: str) -> Node:
    """A list, mapping or quoted text as YAML; anything else is one scalar, with all its `=`, `#` and `:`."""
    rest = argument[offset:]
    text = rest.strip()
    start = offset + len(rest) - len(rest.lstrip()) if text else offset
    if text.startswith(("[", "{", '"', "'")):
        node = read(" " * start + text, name, argument)
        if node is not None:
            return node
    span = lines.span(start, start + len(text))
    try:
        return Scalar(resolve(text), text, True, span)
    except NumberError as error:
        raise StudyError(Diagnostic("VD011", f"`{shown(text)}` is {error}", span, help=(FINITE,))) from None


def _check_path(
    root: Node, keys: list[tuple[str, int, int]], value: Node, lines: Lines, named: Sequence[str]
) -> None:
    """Refuse to name a new entry by accident: `models.vti.seed=1` is a slip, not a new model."""
    path: tuple[str, ...] = ()
    for index, (key, start, end) in enumerate(keys):
        last = index == len(keys) - 1
        chosen = len(path) == 1 and path[0] in named
        there = at(root, (*path, key)) is not None
        new_entry = last and isinstance(value, Fields)
        if chosen and not there and not new_entry:
            parent = at(root, path)
            known = list(parent.fields) if isinstance(parent, Fields) else []
            hint = did_you_mean(key, known) or (f"there are {ticked(known)}" if known else "")
            message = f"`--set` names `{shown(key)}`, which `{dotted(path)}` does not have"
            span = lines.span(start, end)
            raise StudyError(Diagnostic("VD018", message, span, "no such entry", (hint,) if hint else ()))
        path = (*path, key)
