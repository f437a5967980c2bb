"""The words for what a place takes, what was found there instead, and the hints for the usual slips."""

import re
from collections.abc import Iterable, Sequence

from pydantic import BaseModel

from vitdsl.dsl.nodes import Scalar
from vitdsl.dsl.scalars import BOOLEAN_WORDS, NumberError, resolve
from vitdsl.dsl.shape import words_of
from vitdsl.dsl.text import shown

_WANTED = {
    "string_type": "a text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "`true` or `false`",
    "dict_type": "a mapping",
    "list_type": "a list",
    "tuple_type": "a name or a list of names",
    "numbers_type": "a list of numbers",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "none_required": "null",
}
_NUMBERS = {"int_type", "float_type", "int_from_float"}


def wanted_words(kinds: Iterable[str], entry: type[BaseModel] | None, forms: str = "") -> str:
    """What a place takes, from the types of the errors there."""
    words = list(dict.fromkeys(_WANTED.get(kind, "another value") for kind in kinds))
    if "a whole number" in words and "a number" in words:
        words.remove("a whole number")
    if entry is not None and "a mapping" in words:
        words[words.index("a mapping")] = f"a mapping ({words_of(entry).noun or 'an entry'})"
    if entry is not None and words == ["a number"]:
        words.append(f"a mapping ({words_of(entry).noun or 'an entry'})")
    if forms:
        words.append(forms)
    return " or ".join(words) if len(words) < 3 else ", ".join(words[:-1]) + " or " + words[-1]


def found_words(value: object, scalar: Scalar | None) -> str:
    """What stands at a place, as it was written."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, (int, float)):
        return f"the number `{shown(scalar.text if scalar else value)}`"
    if isinstance(value, str):
        return f"the text `{shown(value)}`" if value else "an empty text"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, (list, tuple)):
        return "a list"
    return f"`{shown(type(value).__name__)}`"


def hints(value: object, scalar: Scalar | None, kinds: set[str]) -> Sequence[str]:
    """What to write instead, where a slip is recognised."""
    if "bool_type" in kinds and isinstance(value, str) and value.lower() in BOOLEAN_WORDS:
        word = str(BOOLEAN_WORDS[value.lower()]).lower()
        return [f"YAML 1.2 reads `{value}` as a text; write `{word}`"]
    if "string_type" in kinds and isinstance(value, (int, float)):
        return [f'quote it: "{scalar.text if scalar else value}"']
    if "tuple_type" in kinds and isinstance(value, (int, float)):
        return [f'quote it: "{scalar.text if scalar else value}"']
    if kinds & _NUMBERS and isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return [f"write {int(value)}"]
    if kinds & _NUMBERS and isinstance(value, str):
        return _number_hints(value, scalar)
    if value is None and scalar is not None:
        return ["give it a value, or remove the key"]
    return []


def _number_hints(text: str, scalar: Scalar | None) -> Sequence[str]:
    if _number(text) and scalar is not None and not scalar.plain:
        return [f"remove the quotes: {text}"]
    if _number(text):
        return [f"give the number {text} instead of a text"]
    if re.fullmatch(r"[-+]?[0-9][0-9_,]*[0-9](\.[0-9]+)?", text):
        return [f"write {re.sub('[_,]', '', text)}"]
    percent = re.fullmatch(r"([0-9.]+)\s*%", text)
    if percent and _number(percent.group(1)):
        return [f"write the share: {float(percent.group(1)) / 100:g}"]
    unit = re.fullmatch(r"([-+]?[0-9.]+)\s*[a-zA-Z]+", text)
    if unit and _number(unit.group(1)):
        return [f"numbers take no unit: write {unit.group(1)}"]
    return []


def _number(text: str) -> bool:
    try:
        return isinstance(resolve(text), (int, float)) and not isinstance(resolve(text), bool)
    except NumberError:
        return False
