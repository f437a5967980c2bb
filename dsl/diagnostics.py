"""What a diagnostic is, and the two exceptions that carry them.

Owns the data of an error: code, message, spans, help. Does not own how it looks (`render`) or what each code
means (`codes`).
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Self


@dataclass(frozen=True)
class Span:
    """A stretch of a file; lines and columns count characters from 1, the end is exclusive.

    `source_line` is the text of the line where it starts, so that a diagnostic can be shown anywhere, also
    when the file has changed since or never was a file.
    """

    file: str
    line: int
    column: int
    end_line: int
    end_column: int
    source_line: str = field(default="", repr=False, compare=False)

    def within(self, start: int, end: int) -> "Span":
        """The part of a one-line span between two offsets; the whole where it has no such part."""
        if self.end_line != self.line or self.column + end > self.end_column:
            return self
        return replace(self, column=self.column + start, end_column=self.column + max(end, start + 1))


@dataclass(frozen=True)
class Diagnostic:
    """One thing that is wrong: where, what was found, what is allowed, what to write instead.

    `message` stands alone; `label` sits under the caret; `help` says what to do; `secondary` points at the
    definition or the use that the message speaks of. Empty lines of `help` and `notes` are dropped.

    `about` are the paths of the fields that it may be about, the likeliest first. Whoever raises it for an entry and
    knows nothing of files gives paths inside the entry; once it has a span, the path in the study comes first (see
    `SourceMap.placed`). `at_key` says that the name of the field is meant, not its value.
    """

    code: str
    message: str
    span: Span | None = None
    label: str = ""
    help: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    secondary: tuple[tuple[Span, str], ...] = ()
    about: tuple[tuple[str | int, ...], ...] = ()
    at_key: bool = False

    def __post_init__(self) -> None:
        for name in ("help", "notes"):
            object.__setattr__(self, name, tuple(line for line in getattr(self, name) if line))


def _concise(diagnostic: Diagnostic) -> str:
    span = diagnostic.span
    where = f"{span.file}:{span.line}:{span.column}: " if span else ""
    hint = f" ({diagnostic.help[0]})" if diagnostic.help else ""
    return f"{where}{diagnostic.code} {diagnostic.message}{hint}"


class VitdslError(Exception):
    """Base of every error that a user can cause; its text is one line for each diagnostic."""

    exit_code = 2

    def __init__(self, diagnostics: Diagnostic | Iterable[Diagnostic]) -> None:
        found = (diagnostics,) if isinstance(diagnostics, Diagnostic) else tuple(diagnostics)
        self.diagnostics = found
        super().__init__("\n".join(_concise(d) for d in found))

    def inside(self, *path: str | int) -> Self:
        """The same error of an entry that holds this one at a path."""
        return type(self)(
            replace(one, about=tuple((*path, *field) for field in one.about)) for one in self.diagnostics
        )


class StudyError(VitdslError):
    """The study is wrong (exit code 2)."""


class EnvironmentProblem(VitdslError):
    """The study is right but this machine cannot run it: files, network, memory, disk (exit code 3)."""

    exit_code = 3
