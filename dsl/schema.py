"""From a document to a typed study: pydantic's complaints in the words of the language.

Owns the messages of the schema phase (VD1xx). Does not own the models (`study`), nor names that refer to one
another (`references`).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from vitdsl.dsl.diagnostics import Diagnostic
from vitdsl.dsl.expected import found_words, hints, wanted_words
from vitdsl.dsl.shape import EXAMPLES, HOMES, NOUNS, OTHER_WORDS, description, entry_at, fields_of, shape_at
from vitdsl.dsl.source import SourceMap, dotted
from vitdsl.dsl.study import LANGUAGE_VERSION
from vitdsl.dsl.text import Hints, close_names, shown, ticked

M = TypeVar("M", bound=BaseModel)
Where = tuple[str | int, ...]

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


def validated(
    model: type[M], data: Any, source: SourceMap, at: Where = (), beside: Beside | None = None
) -> M | list[Diagnostic]:
    """The typed form of plain data, or everything that is wrong with it.

    Args:
        model: The entry type.
        data: Plain dicts, lists and scalars.
        source: Where they were written.
        at: Where `data` stands in the document.
        beside: For the parameters of a kind: what stands around them.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        return translated(error, model, data, source, at, beside)


def translated(
    error: ValidationError,
    model: type[BaseModel],
    data: Any,
    source: SourceMap,
    at: Where = (),
    beside: Beside | None = None,
) -> list[Diagnostic]:
    """A validation error as diagnostics, one for each mistake."""
    return _Translator(model, data, source, at, beside).all(error.errors(include_url=False))


class _Translator:
    def __init__(
        self, model: type[BaseModel], data: Any, source: SourceMap, at: Where, beside: Beside | None
    ) -> None:
        self._beside = beside
        self._model = model
        self._data = data
        self._source = source
        self._at = at
        self._hints = Hints()

    def all(self, errors: Sequence[ErrorDetails]) -> list[Diagnostic]:
        """Group the errors by place, so that a union speaks once."""
        places: dict[tuple[Where, bool], list[ErrorDetails]] = {}
        for error in errors:
            path, is_key = self._place(error)
            places.setdefault((path, is_key), []).append(error)
        above = {path[:-1] for path, _ in places}
        unknown: dict[Where, list[str]] = {}
        for (path, _), group in places.items():
            if group[0]["type"] == "extra_forbidden":
                unknown.setdefault(path[:-1], []).append(str(path[-1]))
        found = []
        for (path, is_key), group in places.items():
            if group[0]["type"] == "missing" and _misspelt(path, unknown):
                continue
            if group[0]["type"] == "too_short" and path in above:
                continue
            found.append(self._one(path, is_key, group))
        return found

    def _place(self, error: ErrorDetails) -> tuple[Where, bool]:
        """The path in the data that an error is about, without the tags of unions; whether it is a key."""
        path: list[str | int] = []
        here = self._data
        loc = list(error["loc"])
        is_key = bool(loc) and loc[-1] == "[key]"
        last = None if error["type"] != "missing" or not loc else loc.pop()
        for part in loc:
            inner = _inner(here, part)
            if inner is not _NOTHING:
                path.append(part)
                here = inner
        if last is not None:
            path.append(last)
        return tuple(path), is_key

    def _one(self, path: Where, is_key: bool, group: Sequence[ErrorDetails]) -> Diagnostic:
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

    def _missing(self, path: Where) -> Diagnostic:
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

    def _unknown(self, path: Where) -> Diagnostic:
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
        if entry is fields_root():
            known += ["extends"]
        noun = NOUNS.get(entry, "this entry")
        if not parent and self._beside is not None:
            noun = self._beside.noun
            known += self._beside.fields
        named = parent or self._at
        where = f" in {self._name(parent)}" if named else "" if entry is fields_root() else f" in {noun}"
        ours = OTHER_WORDS.get(name)
        hint = f"here it is called `{ours}`" if ours in known else self._hints(name, known)
        hint = hint or _belongs(name, entry)
        return self._problem(
            "VD103",
            path,
            f"unknown key `{shown(name)}`{where}",
            f"not a field of {noun}",
            [hint or f"{noun} takes {ticked(known)}"],
            key=True,
        )

    def _choice(self, path: Where, expected: str, value: object) -> Diagnostic:
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

    def _forms(self, path: Where) -> str:
        """The mapping forms that a place takes beside its words."""
        name = path[-1] if path else ""
        return {"weights": "`{file: path}` or `{hub: id}`", "tokens": "a list of indices"}.get(str(name), "")

    def _bad_name(self, path: Where, name: str, *, key: bool) -> Diagnostic:
        better = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_").lstrip("0123456789_")[:64]
        hint = f"write `{better}`" if better else "take a name such as `vit_s`"
        return self._problem("VD106", path, f"`{shown(name)}` cannot be a name", _SLUG, [hint], key=key)

    def _length(self, path: Where, kind: str, context: Mapping[str, Any]) -> Diagnostic:
        if kind == "too_long":
            count = f"takes {context['max_length']} items, not {context['actual_length']}"
            return self._problem("VD107", path, f"{self._name(path)} {count}", "too many items")
        about = "a study needs at least one" if len(self._at + path) == 1 else "it needs at least one item"
        hint = "give it values, or remove it" if "vary" in path[:-1] else ""
        return self._problem("VD107", path, f"{self._name(path)} is empty", about, [hint], key=False)

    def _wrong_type(self, path: Where, group: Sequence[ErrorDetails]) -> Diagnostic:
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

    def _example(self, path: Where) -> str:
        """A small entry, where one is expected and something else stands."""
        shape = shape_at(path, self._model)
        name = path[-1] if path else ""
        if shape is not None and shape.entries and shape.entries[0] in EXAMPLES:
            return f"such as `{name}: {EXAMPLES[shape.entries[0]]}`" if isinstance(name, str) else ""
        inner = shape.values.entries if shape is not None and shape.values is not None else ()
        if inner and inner[0] in EXAMPLES:
            return f"give each entry a name, such as `{name}: {{some_name: {EXAMPLES[inner[0]]}}}`"
        return ""

    def _written(self, path: Where, value: object) -> str:
        return found_words(value, self._source.text(self._at + path))

    def _name(self, path: Where) -> str:
        full = self._at + path
        return f"`{shown(dotted(full))}`" if full else _the(NOUNS.get(self._model, "an entry"))

    def _problem(
        self,
        code: str,
        path: Where,
        message: str,
        label: str = "",
        help_: Sequence[str] = (),
        *,
        key: bool = False,
    ) -> Diagnostic:
        lines = [line for line in help_ if line] or [self._about(path)]
        return self._source.problem(code, self._at + path, message, label=label, help=lines, key=key)

    def _about(self, path: Where) -> str:
        """What the field at a path is for, where nothing better can be said."""
        for end in range(len(path), 0, -1):
            entry = entry_at(path[: end - 1], self._model)
            about = description(entry, str(path[end - 1])) if entry else ""
            if about:
                return f"`{path[end - 1]}`: {about}"
        return ""


def _the(noun: str) -> str:
    """`a study` as `the study`."""
    article, _, word = noun.partition(" ")
    return f"the {word}" if article in ("a", "an") else noun


_NOTHING = object()


def _inner(value: Any, part: str | int) -> Any:
    if isinstance(value, BaseModel) and isinstance(part, str) and part in type(value).model_fields:
        return getattr(value, part)
    if isinstance(value, Mapping) and part in value:
        return value[part]
    if isinstance(value, (list, tuple)) and isinstance(part, int) and part < len(value):
        return value[part]
    return _NOTHING


def _misspelt(path: Where, unknown: Mapping[Where, Sequence[str]]) -> bool:
    """Whether a missing key is explained by an unknown one beside it, which says so better."""
    return any(close_names(name, [str(path[-1])]) for name in unknown.get(path[:-1], ())[:20])


def _follow(value: Any, path: Where) -> Any:
    for part in path:
        value = _inner(value, part)
    return value


def _belongs(name: str, here: type[BaseModel]) -> str:
    """Where else a key would be right."""
    homes = [home for entry, home in HOMES.items() if entry is not here and name in fields_of(entry)]
    return f"`{name}` belongs under {' or '.join(homes)}" if homes else ""


def fields_root() -> type[BaseModel]:
    """The type of a whole study file."""
    return next(iter(NOUNS))
