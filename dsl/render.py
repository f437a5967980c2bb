"""How diagnostics look: full with carets, concise, JSON, GitHub annotations.

Owns the four formats. Does not own which stream they go to, nor the exit code (`vitdsl.cli`). Everything
shown is plain ASCII but for the user's own text, and that text is made safe first.
"""

import json
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from vitdsl.dsl.diagnostics import Diagnostic, Span
from vitdsl.dsl.text import safe

Format = Literal["full", "concise", "json", "github"]
FORMATS: tuple[Format, ...] = ("full", "concise", "json", "github")
CAP = 20
_WIDEST = 110
_TAB = 4

Style = Callable[[str, str], str]


def _unstyled(text: str, style: str) -> str:
    return text


def render(
    diagnostics: Sequence[Diagnostic],
    output_format: Format = "full",
    *,
    everything: bool = False,
    style: Style = _unstyled,
    missing: Sequence[Diagnostic] = (),
) -> str:
    """All diagnostics as one text, with no newline at its end; empty for none.

    Args:
        diagnostics: In the order to show.
        output_format: `full`, `concise`, `json` or `github`.
        everything: Show all of them; otherwise `full` and `concise` stop after 20.
        style: Colours a text; gets it and one of `error`, `caret`, `second`, `frame`, `help`, `bold`.
        missing: What is no error but not on this machine, each in one line after the errors.
    """
    if output_format == "json":
        return as_json(diagnostics, missing)
    if output_format == "github":
        return "\n".join([*map(_github, diagnostics), *(_github(one, "warning") for one in missing)])
    absent = "\n".join(
        (_place(one.span) if output_format == "concise" else "") + not_here(one) for one in missing
    )
    found = _errors(diagnostics, output_format, everything=everything, style=style)
    between = "\n\n" if output_format == "full" else "\n"
    return between.join(text for text in (found, absent) if text)


def _errors(
    diagnostics: Sequence[Diagnostic], output_format: Format, *, everything: bool, style: Style
) -> str:
    """Errors for people, `full` or `concise`."""
    shown = list(diagnostics) if everything else list(diagnostics[:CAP])
    rest = len(diagnostics) - len(shown)
    more = [f"+{rest} more, see them with --all"] if rest else []
    if output_format == "concise":
        return "\n".join([*(concise(one) for one in shown), *more])
    if not shown:
        return ""
    blocks = [full(one, style) for one in shown]
    return "\n\n".join([*blocks, *more, style(_count(diagnostics), "bold")])


def concise(diagnostic: Diagnostic) -> str:
    """One line: `file:line:col: VD103 message`."""
    return f"{_place(diagnostic.span)}{diagnostic.code} {safe(diagnostic.message)}"


def not_here(diagnostic: Diagnostic) -> str:
    """One line: `missing: data.val: what is not on this machine; what to do`."""
    path = diagnostic.about[0] if diagnostic.about else ()
    where = f"{'.'.join(map(str, path[:2]))}: " if path else ""
    notes = f" ({'; '.join(diagnostic.notes)})" if diagnostic.notes else ""
    instead = f", or `--set {'.'.join(map(str, path))}=...`" if path else ""
    return safe(f"missing: {where}{diagnostic.message}{notes}; {'; '.join(diagnostic.help)}{instead}")


def as_json(diagnostics: Sequence[Diagnostic], missing: Sequence[Diagnostic] = ()) -> str:
    """One JSON object with everything that is known."""
    found = {
        "schema": "vitdsl.diagnostics/1",
        "count": len(diagnostics),
        "diagnostics": [_object(one) for one in diagnostics],
        "missing": [_object(one) for one in missing],
    }
    return json.dumps(found, indent=2)


def full(diagnostic: Diagnostic, style: Style = _unstyled) -> str:
    """The form for people: message, lines with carets, help, notes."""
    spans = [diagnostic.span, *(span for span, _ in diagnostic.secondary)]
    width = max((len(str(span.line)) for span in spans if span), default=1)
    bar = style(" " * width + " |", "frame")
    head = style(f"error[{diagnostic.code}]", "error") + style(f": {safe(diagnostic.message)}", "bold")
    lines = [head]
    if diagnostic.span:
        lines += _snippet(diagnostic.span, diagnostic.label, "-->", "^", "caret", width, style)
    for span, label in diagnostic.secondary:
        lines += _snippet(span, label, ":::", "-", "second", width, style)
    lines.append(bar if diagnostic.span else "")
    margin = " " * width + " = "
    lines += [style(f"{margin}help: ", "help") + safe(text) for text in diagnostic.help]
    lines += [style(f"{margin}note: ", "help") + safe(text) for text in diagnostic.notes]
    lines.append(style(f"{margin}note: ", "help") + f"run `vitdsl explain {diagnostic.code}`")
    return "\n".join(line.rstrip() for line in lines if line)


def _snippet(span: Span, label: str, arrow: str, mark: str, tone: str, width: int, style: Style) -> list[str]:
    bar = style(" " * width + " |", "frame")
    at = f"{safe(span.file)}:{span.line}:{span.column}"
    window = _window(span)
    marks = mark * window.length + (f" {safe(label)}" if label else "")
    return [
        style(" " * width + arrow, "frame") + f" {at}",
        bar,
        style(f"{span.line:>{width}} |", "frame") + f" {window.text}",
        f"{bar} {' ' * window.start}" + style(marks, tone),
    ]


@dataclass(frozen=True)
class _Window:
    """The part of a source line that is shown, with the stretch to mark, in columns of the screen."""

    text: str
    start: int
    length: int


def _window(span: Span) -> _Window:
    """Lay out a source line: tabs to stops, control characters escaped, a long line cut."""
    source = span.source_line
    last = span.end_column - 1 if span.end_line == span.line else len(source.rstrip())
    first = min(span.column - 1, len(source))
    left, right = 0, min(len(source), _WIDEST)
    if last > _WIDEST:
        left = max(0, min(first - 20, len(source) - _WIDEST))
        right = left + _WIDEST
    cells = [_cell(character) for character in source[left:right]]
    columns = [0]
    texts = []
    for text, width in cells:
        if text == "\t":
            width = _TAB - columns[-1] % _TAB
            text = " " * width
        texts.append(text)
        columns.append(columns[-1] + width)
    before, after = ("... " if left else ""), (" ..." if right < len(source) else "")
    start = columns[min(max(first - left, 0), len(cells))]
    end = columns[min(max(last - left, 0), len(cells))]
    return _Window(before + "".join(texts) + after, len(before) + start, max(1, end - start))


def _cell(character: str) -> tuple[str, int]:
    """A character as shown, and how many columns it takes."""
    if character == "\t":
        return character, 1
    text = safe(character)
    if text != character:
        return text, len(text)
    if unicodedata.combining(character) or unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return text, 0
    return text, 2 if unicodedata.east_asian_width(character) in ("W", "F") else 1


def _count(diagnostics: Sequence[Diagnostic]) -> str:
    files = list(dict.fromkeys(one.span.file for one in diagnostics if one.span))
    errors = f"{len(diagnostics)} error{'s' * (len(diagnostics) != 1)}"
    if not files:
        return f"found {errors}"
    where = safe(files[0]) if len(files) == 1 else f"{len(files)} files"
    return f"found {errors} in {where}"


def _place(span: Span | None) -> str:
    return f"{safe(span.file)}:{span.line}:{span.column}: " if span else ""


def _object(diagnostic: Diagnostic) -> dict[str, Any]:
    return {
        "code": diagnostic.code,
        "message": diagnostic.message,
        "label": diagnostic.label,
        "place": _span_object(diagnostic.span),
        "help": list(diagnostic.help),
        "notes": list(diagnostic.notes),
        "secondary": [{"place": _span_object(span), "label": label} for span, label in diagnostic.secondary],
    }


def _span_object(span: Span | None) -> dict[str, Any] | None:
    if span is None:
        return None
    return {
        "file": span.file,
        "line": span.line,
        "column": span.column,
        "end_line": span.end_line,
        "end_column": span.end_column,
    }


def _github(diagnostic: Diagnostic, level: str = "error") -> str:
    """A workflow command that GitHub shows beside the line."""
    fields = [f"title={_property(diagnostic.code)}"]
    span = diagnostic.span
    if span:
        fields = [
            f"file={_property(span.file)}",
            f"line={span.line}",
            f"endLine={span.end_line}",
            f"col={span.column}",
            *([f"endColumn={span.end_column}"] if span.line == span.end_line else []),
            *fields,
        ]
    text = "\n".join([diagnostic.message, *(f"help: {line}" for line in diagnostic.help)])
    return f"::{level} {','.join(fields)}::{_data(text)}"


def _data(text: str) -> str:
    lines = (safe(line).replace("%", "%25") for line in text.split("\n"))
    return "%0A".join(lines)


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
