"""What a YAML parser's complaint means, in words for the author of a study.

Owns the translation of the parser's errors. Does not own the rules of our own dialect (`reader`).
"""

import re
from collections.abc import Callable

import yaml

from vitdsl.dsl.diagnostics import Diagnostic, Span
from vitdsl.dsl.text import shown

_ALIKE = "indent the keys of one mapping alike"
_MEANINGS: tuple[tuple[str, str, str], ...] = (
    ("mapping values are not", "a `:` where no key can stand", f"quote a text with `: ` in it, or {_ALIKE}"),
    (r"expected ',' or '\]'", "this list is not closed", "close it with `]`; commas go between its items"),
    (r"expected ',' or '\}'", "this mapping is not closed", "close it with `}`; commas go between fields"),
    ("could not find expected ':'", "a key without `:`", "write `key: value`"),
    ("unexpected (end of stream|document sep)", "this quote is never closed", "close the quote"),
    ("unknown escape", "an escape that YAML does not know", r"use single quotes, or `\\` for a backslash"),
    ("expected '-' indicator", "a key among the items of a list", "indent it, or start the item with `- `"),
    ("expected (<block end>|key)", "the mapping breaks off here", f"{_ALIKE}, and quote special text"),
    ("expected (the )?node content", "a value is expected here", "write a value, or quote this text"),
    ("line break|chomping", "text after `|` or `>`", "start the text on the next line"),
)
"""Each: a pattern of the parser's complaint, what it means, what to do."""


def explained(error: yaml.MarkedYAMLError, text: str, span: Callable[[int, int], Span]) -> Diagnostic:
    """The parser's error as ours.

    Args:
        error: What the parser raised.
        text: The document.
        span: Turns two offsets into a span.
    """
    problem = error.problem or "not YAML"
    mark = error.problem_mark or error.context_mark
    offset = min(mark.index, len(text)) if mark else 0
    character = text[offset : offset + 1]
    if "cannot start any token" in problem:
        if character == "\t":
            return Diagnostic(
                "VD005", "a tab in the indentation", span(offset, offset + 1), help=("use spaces",)
            )
        message = f"`{shown(character)}` cannot start a value"
        return Diagnostic("VD004", message, span(offset, offset + 1), help=("quote the text",))
    for words in ("tag", "alias", "anchor"):
        if error.context and words in error.context and error.context_mark:
            start = error.context_mark.index
            sign = text[start : start + 1]
            message = f"`{shown(sign)}` starts a YAML {words}, and this is none"
            hint = f"quote a text that starts with `{shown(sign)}`"
            return Diagnostic("VD004", message, span(start, offset + 1), help=(hint,))
    if "tab character" in problem:
        return Diagnostic("VD005", "a tab in the indentation", span(offset, offset + 1), help=("use spaces",))
    unknown = ("", f"not YAML: {shown(problem)}", "")
    _, message, hint = next((one for one in _MEANINGS if re.search(one[0], problem)), unknown)
    secondary: tuple[tuple[Span, str], ...] = ()
    opened = error.context_mark
    if "not closed" in message or "never closed" in message:
        start = opened.index if opened else offset
        if start != offset:
            secondary = ((span(offset, offset + 1), "read up to here"),)
        offset = start
    here = span(offset, min(offset + 1, len(text)))
    return Diagnostic("VD004", message, here, help=(hint,) if hint else (), secondary=secondary)
