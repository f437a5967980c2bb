"""Writes a study as YAML: in order, and quoted so that no YAML reader misreads a value."""

import json
import re
from collections.abc import Mapping
from os.path import relpath
from typing import TYPE_CHECKING, Any

from vitdsl.dsl.nodes import Path
from vitdsl.dsl.text import UNPRINTABLE

if TYPE_CHECKING:
    from pathlib import Path as FilePath

    from vitdsl.dsl.loaded import Loaded
    from vitdsl.dsl.study import Study

_PLAIN = re.compile(r"[A-Za-z_./][A-Za-z0-9_./\-]*( [A-Za-z0-9_./\-(),;]+)*")
_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_.\-]*")
_MISREAD = re.compile(r"(?i)true|false|yes|no|on|off|y|n|null|~|[-+.]?[0-9].*|[-+]?\.(inf|nan)|\.[0-9.].*|=")


def to_yaml(study: "Study") -> str:
    """A study as YAML: the fields that were given, in order."""
    return block(study.model_dump(by_alias=True, exclude_unset=True))


def resolved_yaml(
    loaded: "Loaded", auto: Mapping[Path, Any] | None = None, *, into: "FilePath | None" = None
) -> str:
    """A study with every default written out and the origin of every value behind it.

    It needs no base, recipe or override to be run again, and has the same hash.

    Args:
        loaded: The study and where its values came from.
        auto: Values that the program chose, by path; they replace what the study says.
        into: The folder where the text will be saved; `folder` then leads from there to where the study's
            relative paths start. None keeps the study's own.
    """
    chosen = dict(auto or {})
    if into is not None:
        chosen[("folder",)] = relpath(loaded.folder, into)
        chosen[("folder_was",)] = loaded.study.folder_was or loaded.study.folder or "."
    data = loaded.study.model_dump(by_alias=True)
    for path, value in chosen.items():
        here: Any = data
        for part in path[:-1]:
            here = here[part]
        here[path[-1]] = value
    comments = {
        path: "auto" if path in chosen else loaded.source.origin(path) for path, value in _leaves(data)
    }
    return block(data, comments)


def _leaves(value: Any, path: Path = ()) -> list[tuple[Path, Any]]:
    if isinstance(value, dict) and value:
        return [leaf for key, inner in value.items() for leaf in _leaves(inner, (*path, key))]
    return [(path, value)]


def block(data: Mapping[str, Any], comments: Mapping[Path, str] | None = None) -> str:
    """A mapping as YAML: nested mappings indented, everything else on one line.

    Args:
        data: Plain dicts, lists and scalars.
        comments: What to write behind a value, by its path.
    """
    lines: list[str] = []
    _block(data, (), lines, comments or {})
    return "\n".join(lines) + "\n"


def _block(data: Mapping[str, Any], path: Path, lines: list[str], comments: Mapping[Path, str]) -> None:
    indent = "  " * len(path)
    for key, value in data.items():
        here = (*path, key)
        if isinstance(value, Mapping) and value:
            if not path and lines:
                lines.append("")
            lines.append(f"{indent}{key_text(key)}:")
            _block(value, here, lines, comments)
        else:
            comment = f"  # {comments[here]}" if here in comments else ""
            lines.append(f"{indent}{key_text(key)}: {flow(value)}{comment}")


def key_text(key: str) -> str:
    """A key of a mapping."""
    return key if _KEY.fullmatch(key) and not _MISREAD.fullmatch(key) else _quoted(key)


def flow(value: Any) -> str:
    """A value on one line."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key_text(key)}: {flow(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(flow(inner) for inner in value) + "]"
    if isinstance(value, str):
        return value if _is_plain(value) else _quoted(value)
    if isinstance(value, float):
        return _number(value)
    return json.dumps(value)


def _is_plain(text: str) -> bool:
    return bool(_PLAIN.fullmatch(text)) and "," not in text and not _MISREAD.fullmatch(text)


def _number(value: float) -> str:
    """A float that YAML 1.1 and 1.2 both read as one: `1.0e-05`, not `1e-05`."""
    text = json.dumps(value)
    mantissa, _, exponent = text.partition("e")
    if exponent and "." not in mantissa:
        mantissa += ".0"
    if exponent and exponent[0] not in "+-":
        exponent = "+" + exponent
    return f"{mantissa}e{exponent}" if exponent else text


def _quoted(text: str) -> str:
    quoted = json.dumps(text, ensure_ascii=False)
    return re.sub(f"{UNPRINTABLE.pattern}|[\x7f-\xa0\u2028\u2029\ufeff]", _escape, quoted)


def _escape(match: re.Match[str]) -> str:
    return f"\\u{ord(match.group()):04x}"
