"""What a diagnostic is, and the two exceptions that carry them.

Owns the data of an error: code, message, places, help. Does not own how it looks (`render`) or what each code
means (`codes`).
"""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Span:
    """A stretch of a file; lines and columns count characters from 1, the end is exclusive."""

    file: str
    line: int
    column: int
    end_line: int
    end_column: int


@dataclass(frozen=True)
class Diagnostic:
    """One thing that is wrong: where, what was found, what is allowed, what to write instead.

    `message` stands alone; `label` sits under the caret; `help` says what to do; `secondary` points at the
    definition or the use that the message speaks of.
    """

    code: str
    message: str
    span: Span | None = None
    label: str = ""
    help: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    secondary: tuple[tuple[Span, str], ...] = ()


class VitdslError(Exception):
    """Base of every error that a user can cause; its text is the concise form of its diagnostics."""

    exit_code = 2

    def __init__(self, diagnostics: Diagnostic | Iterable[Diagnostic]) -> None:
        found = (diagnostics,) if isinstance(diagnostics, Diagnostic) else tuple(diagnostics)
        self.diagnostics = found
        super().__init__("\n".join(f"{d.code}: {d.message}" for d in found))


class StudyError(VitdslError):
    """The study is wrong (exit code 2)."""


class EnvironmentProblem(VitdslError):
    """The study is right but this machine cannot run it: files, network, memory, disk (exit code 3)."""

    exit_code = 3
