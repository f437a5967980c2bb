"""What is said of one mistake in a document: pydantic's complaint in the words of the language.

Owns the messages of the schema phase (VD1xx). Does not own which complaints are mistakes of their own (`schema`),
the words for values (`expected`), nor names that refer to one another (`references`).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from vitdsl.dsl.diagnostics import Diagnostic
from vitdsl.dsl.expected import found_words, hints, wanted_words
from vitdsl.dsl.nodes import Path
from vitdsl.dsl.shape import description, entries, entry_at, fields_of, shape_at, words_of
from vitdsl.dsl.source import SourceMap, dotted
from vitdsl.dsl.text import Hints, shown, ticked
from vitdsl.dsl.words import LANGUAGE_VERSION, OTHER_WORDS, bare

NOTHING = object()
NEAR = 20
"""So many keys above an unknown one may be what it should stand inside."""

_SLUG = "a name is lower case letters, digits and underscores, a letter first, at most 64"
_BOUNDS = {
    "greater_than": ("more than", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than": ("less than", "lt"),
    "less_than_equal": ("at most", "le"),
}


@dataclass(frozen=True)
class Beside:
    """What stands around the parameters of a kind, in the same mapping.

    Attributes:
        noun: What to call it: "metric `cka`".
        fields: The fields that every entry of the section has.
    """

    noun: str
    fields: tuple[str, ...] = ()


class Complaints:
    """Puts the errors of one piece of data into words."""

    def __init__(
        self, model: type[BaseModel], data: Any, source: SourceMap, at: Path, beside: Beside | None
    ) -> None:
        self._beside = beside
        self._model = model
        self._language: type[BaseModel] | None = getattr(model, "whole_study", None)
        self._data = data
        self._source = source
        self._at = at
        self._hints = Hints()

    def about(self, path: Path, is_key: bool, group: Sequence[ErrorDetails]) -> Diagnostic:
        """What is wrong at a path, from all the errors there."""
        error = group[0]
        kind, context = error["type"], error.get("ctx", {})
        if is_key:
            return self._bad_name(path, str(path[-1]), key=True)
        if kind == "missing":
            return self._missing(path)
        if kind == "extra_forbidden":
            return self._unknown(path)
        if kind == "literal_error":
            return self._choice(path, str(context["expected"]), error["input"])
        if kind in _BOUNDS:
            words, bound = _BOUNDS[kind]
            limit = f"{words} {context[bound]}"
            found = self._written(path, error["input"])
            return self._problem(
                "VD105",
                path,
                f"{self._name(path)} must be {limit}, not {found.removeprefix('the number ')}",
                limit,
            )
        if kind == "string_pattern_mismatch":
            return self._bad_name(path, str(error["input"]), key=False)
        if kind in ("too_short", "too_long"):
            return self._length(path, kind, context)
        return self._wrong_type(path, group)

    def _missing(self, path: Path) -> Diagnostic:
        parent, name = path[:-1], path[-1]
        if isinstance(name, int):
            return self._problem("VD107", parent, f"{self._name(parent)} has too few items", "too few items")
        entry = entry_at(parent, self._model)
        about = description(entry, name) if entry else ""
        subject = self._name(parent)
        hint = f"add `{name}:` - {about}" if about else f"add `{name}:`"
        if not parent and name == "vitdsl":
            hint = f"make `vitdsl: {LANGUAGE_VERSION}` the first line: the version of the language"
        return self._problem(
            "VD101",
            parent,
            f"{subject} lacks `{name}`",
            f"`{name}` is required here",
            [hint],
            key=bool(parent),
        )

    def _unknown(self, path: Path) -> Diagnostic:
        parent, name = path[:-1], str(path[-1])
        entry = entry_at(parent, self._model) or self._model
        if isinstance(_follow(self._data, parent), dict) and set(_follow(self._data, parent)) == {
            "file",
            "hub",
        }:
            return self._problem(
                "VD104",
                path,
                "weights take either `file` or `hub`, not both",
                "one of the two",
                ["keep one of them"],
            )
        known = list(fields_of(entry))
        if entry is self._language:
            known += ["extends"]
        noun = words_of(entry).noun or "this entry"
        if not parent and self._beside is not None:
            noun = self._beside.noun
            known += self._beside.fields
        named = parent or self._at
        where = f" in {self._name(parent)}" if named else "" if entry is self._language else f" in {noun}"
        ours = OTHER_WORDS.get(name)
        hint = self._outdented(parent, name)
        hint = hint or (f"here it is called `{ours}`" if ours in known else self._hints(name, known))
        hint = hint or _belongs(name, entry, self._language)
        return self._problem(
            "VD103",
            path,
            f"unknown key `{shown(name)}`{where}",
            f"not a field of {noun}",
            [hint or f"{noun} takes {ticked(known)}"],
            key=True,
        )

    def _outdented(self, parent: Path, name: str) -> str:
        """Where an unknown key stands under one that has nothing, as what should be inside it."""
        mapping = _follow(self._data, parent)
        beside = list(mapping) if isinstance(mapping, dict) and name in mapping else [name]
        here = beside.index(name)
        for above in reversed(beside[max(0, here - NEAR) : here]):
            shape = shape_at((*parent, above), self._model)
            if shape is not None and _follow(self._data, (*parent, above)) is None:
                inside = shape.values is not None or bool(shape.entries)
                return f"indent it further than `{above}:`, to stand inside it" if inside else ""
            if shape is not None:
                break
        return ""

    def _choice(self, path: Path, expected: str, value: object) -> Diagnostic:
        allowed = re.findall(r"'([^']*)'", expected) or [expected]
        forms = self._forms(path)
        listed = ticked(allowed) + (f", or {forms}" if forms else "")
        hint = self._hints(value, allowed) if isinstance(value, str) else ""
        found = self._written(path, value)
        message = f"{self._name(path)} cannot be {found}"
        if isinstance(value, str) and value in allowed:
            hint, listed = f"write `{value}` without quotes", ""
        lines = [hint, f"it takes {listed}" if listed else ""]
        return self._problem("VD104", path, message, "not one of the values", lines)

    def _forms(self, path: Path) -> str:
        """The mapping forms that a place takes beside its words."""
        name = path[-1] if path else ""
        return {"weights": "`{file: path}` or `{hub: id}`", "tokens": "a list of indices"}.get(str(name), "")

    def _bad_name(self, path: Path, name: str, *, key: bool) -> Diagnostic:
        better = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_").lstrip("0123456789_")[:64]
        hint = f"write `{better}`" if better else "take a name such as `vit_s`"
        return self._problem("VD106", path, f"`{shown(name)}` cannot be a name", _SLUG, [hint], key=key)

    def _length(self, path: Path, kind: str, context: Mapping[str, Any]) -> Diagnostic:
        if kind == "too_long":
            count = f"takes {context['max_length']} items, not {context['actual_length']}"
            return self._problem("VD107", path, f"{self._name(path)} {count}", "too many items")
        about = "a study needs at least one" if len(self._at + path) == 1 else "it needs at least one item"
        hint = "give it values, or remove it" if "vary" in path[:-1] else ""
        return self._problem("VD107", path, f"{self._name(path)} is empty", about, [hint], key=False)

    def _wrong_type(self, path: Path, group: Sequence[ErrorDetails]) -> Diagnostic:
        value = group[0]["input"]
        shape = shape_at(path, self._model)
        kinds = [error["type"] for error in group]
        if kinds == ["tuple_type"] and shape is not None and shape.values is not None and shape.values.number:
            kinds = ["numbers_type"]
        wanted = wanted_words(kinds, entry_at(path, self._model), self._forms(path))
        found = found_words(value, self._source.text(self._at + path))
        return self._problem(
            "VD102",
            path,
            f"{self._name(path)} takes {wanted}, not {found}",
            f"{wanted} goes here",
            [*hints(value, self._source.text(self._at + path), set(kinds)), self._example(path)],
        )

    def _example(self, path: Path) -> str:
        """A small entry, where one is expected and something else stands."""
        shape = shape_at(path, self._model)
        name = path[-1] if path else ""
        example = words_of(shape.entries[0]).example if shape is not None and shape.entries else ""
        if example:
            return f"such as `{name}: {example}`" if isinstance(name, str) else ""
        within = shape.values.entries if shape is not None and shape.values is not None else ()
        example = words_of(within[0]).example if within else ""
        return f"give each entry a name, such as `{name}: {{some_name: {example}}}`" if example else ""

    def _written(self, path: Path, value: object) -> str:
        return found_words(value, self._source.text(self._at + path))

    def _name(self, path: Path) -> str:
        full = self._at + path
        return f"`{shown(dotted(full))}`" if full else _the(words_of(self._model).noun or "an entry")

    def _problem(
        self,
        code: str,
        path: Path,
        message: str,
        label: str = "",
        help_: Sequence[str] = (),
        *,
        key: bool = False,
    ) -> Diagnostic:
        lines = [line for line in help_ if line] or [self._purpose(path)]
        return self._source.problem(code, self._at + path, message, label=label, help=lines, key=key)

    def _purpose(self, path: Path) -> str:
        """What the field at a path is for, where nothing better can be said."""
        for end in range(len(path), 0, -1):
            entry = entry_at(path[: end - 1], self._model)
            about = description(entry, str(path[end - 1])) if entry else ""
            if about:
                return f"`{path[end - 1]}`: {about}"
        return ""


def _the(noun: str) -> str:
    """`a study` as `the study`."""
    return noun if bare(noun) == noun else f"the {bare(noun)}"


def inner(value: Any, part: str | int) -> Any:
    """What lies under a key or at a position of plain data or an entry; NOTHING where nothing does."""
    if isinstance(value, BaseModel) and isinstance(part, str) and part in type(value).model_fields:
        return getattr(value, part)
    if isinstance(value, Mapping) and part in value:
        return value[part]
    if isinstance(value, (list, tuple)) and isinstance(part, int) and part < len(value):
        return value[part]
    return NOTHING


def _follow(value: Any, path: Path) -> Any:
    for part in path:
        value = inner(value, part)
    return value


def _belongs(name: str, here: type[BaseModel], language: type[BaseModel] | None) -> str:
    """Where else a key would be right."""
    others = (entry for entry in (entries(language) if language else ()) if entry is not here)
    homes = [words_of(entry).home for entry in others if name in fields_of(entry)]
    known = [home for home in homes if home]
    return f"`{name}` belongs under {' or '.join(known)}" if known else ""
