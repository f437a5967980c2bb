"""The one place where errors become text: format, colour, exit code, and the file of a crash."""

import os
import sys
import tempfile
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import click

from vitdsl.dsl.diagnostics import Diagnostic, EnvironmentProblem, VitdslError
from vitdsl.dsl.render import Format, render
from vitdsl.dsl.text import file_name

_STYLES: dict[str, dict[str, str | bool]] = {
    "error": {"fg": "red", "bold": True},
    "caret": {"fg": "red", "bold": True},
    "second": {"fg": "blue", "bold": True},
    "frame": {"fg": "blue", "bold": True},
    "help": {"fg": "cyan"},
    "bold": {"bold": True},
}


@dataclass(frozen=True)
class Output:
    """How to write.

    Attributes:
        format: The form of errors.
        color: True or False decides; None lets the stream decide.
        everything: Show all errors, however many.
        debug: Show tracebacks.
    """

    format: Format = "full"
    color: bool | None = None
    everything: bool = False
    debug: bool = False

    @classmethod
    def of(cls, output_format: str, color: str, *, everything: bool = False, debug: bool = False) -> "Output":
        """From the words of the command line."""
        wanted = {"always": True, "never": False}.get(color)
        if wanted is None and (os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"):
            wanted = False
        elif wanted is None and os.environ.get("FORCE_COLOR"):
            wanted = True
        return cls(cast(Format, output_format), wanted, everything, debug)

    @classmethod
    def early(cls, arguments: Sequence[str]) -> "Output":
        """What an error needs to know before or after the command line is parsed."""
        words = list(arguments)

        def value(option: str, default: str) -> str:
            for index, word in enumerate(words):
                if word == option and index + 1 < len(words):
                    return words[index + 1]
                if word.startswith(f"{option}="):
                    return word.partition("=")[2]
            return default

        output_format = value("--output-format", os.environ.get("VITDSL_OUTPUT_FORMAT", "full"))
        known = output_format if output_format in ("full", "concise", "json", "github") else "full"
        return cls.of(known, value("--color", "auto"), everything="--all" in words, debug="--debug" in words)

    def diagnostics(
        self, found: Sequence[Diagnostic], *, err: bool = True, missing: Sequence[Diagnostic] = ()
    ) -> None:
        """Write diagnostics: to the standard error stream, or as a command's answer; what is missing after them."""
        stream = sys.stderr if err else sys.stdout
        colored = self.color if self.color is not None else stream.isatty()

        def style(text: str, name: str) -> str:
            return click.style(text, **_STYLES[name]) if colored else text  # type: ignore[arg-type]

        text = render(found, self.format, everything=self.everything, style=style, missing=missing)
        if text:
            click.echo(text, err=err, color=True)


def show_errors(error: Exception, output: Output) -> int | None:
    """Write an error that a user can cause; None where it is not one."""
    told = error if isinstance(error, VitdslError) else of_the_machine(error)
    if told is None:
        return None
    output.diagnostics(told.diagnostics)
    return told.exit_code


def of_the_machine(error: Exception) -> VitdslError | None:
    """What an error of Python says of this machine: memory, files, streams; None where it is not one of these."""
    from vitdsl.runtime.full import is_memory

    if is_memory(error):
        return EnvironmentProblem(
            Diagnostic(
                "VD409",
                f"out of memory{': ' + str(error).strip().splitlines()[0] if str(error).strip() else ''}",
                help=(
                    "take a smaller `batch`, or fewer layers or conditions; `vitdsl plan` estimates the memory",
                ),
            )
        )
    if isinstance(error, OSError):
        where = " and ".join(
            f"`{file_name(str(name))}`" for name in (error.filename, error.filename2) if name
        )
        return EnvironmentProblem(
            Diagnostic(
                "VD414",
                f"the system refused {where or 'to write the answer'}: {error.strerror or error}",
                help=("see that the path can be read or written, that the disk has space, and try again",),
            )
        )
    return None


def crash_file(error: BaseException) -> int:
    """Write a bug's traceback to a file and say where, and whose it is; the exit code of a bug."""
    from vitdsl.runtime.kinds import plugin_of

    text = "".join(traceback.format_exception(error))
    details = f"{' '.join(sys.argv)}\nPython {sys.version}\n\n{text}"
    try:
        handle, name = tempfile.mkstemp(prefix="vitdsl-crash-", suffix=".txt")
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as stream:
            stream.write(details)
        where = f"in {name}"
    except OSError:
        click.echo(details, err=True)
        where = "above"
    plugin = plugin_of(text)
    whose = f"the plugin `{plugin.name}` (module `{plugin.module}`)" if plugin else "vitdsl"
    click.echo(
        f"internal error: {type(error).__name__}: {error}\n"
        f"  this is a bug in {whose}; the details are {where}\n"
        f"  please report it {'to its authors ' if plugin else ''}with them",
        err=True,
    )
    return 70
