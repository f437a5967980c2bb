"""Progress on the standard error stream: a bar on a terminal, plain lines everywhere else."""

import os
import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from vitdsl.dsl.text import safe

PLAIN_SECONDS = 30.0
PLAIN_SHARE = 0.1


def stderr_console(color: bool | None) -> Console:
    """A console on the standard error stream; colour and terminal are decided apart."""
    return Console(stderr=True, no_color=color is False, highlight=False, soft_wrap=True)


class StderrProgress:
    """Shows the stages of a long task; a context manager, so that a bar never outlives it."""

    def __init__(self, *, color: bool | None = None, quiet: bool = False) -> None:
        self.quiet = quiet
        terminal = sys.stderr.isatty() and os.environ.get("TERM") != "dumb" and not os.environ.get("CI")
        self.console = stderr_console(color)
        self.bar: Progress | None = None
        if terminal and not quiet:
            self.bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[unit]} {task.fields[note]}"),
                TimeRemainingColumn(),
                console=self.console,
                transient=True,
            )
        self.task: int | None = None
        self.what, self.unit, self.total, self.done = "", "", 0, 0
        self.shown, self.shown_at = 0.0, 0.0

    def __enter__(self) -> "StderrProgress":
        if self.bar is not None:
            self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bar is not None:
            self.bar.stop()

    def begin(self, what: str, total: int, unit: str = "images") -> None:
        """A stage of `total` steps begins."""
        what = safe(what)
        self.what, self.unit, self.total, self.done = what, unit, total, 0
        self.shown, self.shown_at = 0.0, time.monotonic()
        if self.bar is not None:
            self.task = self.bar.add_task(what, total=total, unit=unit, note="")

    def step(self, count: int = 1, note: str = "") -> None:
        """Some steps are done."""
        self.done += count
        if self.bar is not None and self.task is not None:
            self.bar.update(self.task, advance=count, note=note)  # type: ignore[arg-type]
        elif not self.quiet:
            share, now = self.done / max(1, self.total), time.monotonic()
            if share - self.shown >= PLAIN_SHARE or now - self.shown_at > PLAIN_SECONDS or share >= 1:
                self.shown, self.shown_at = share, now
                tail = f"  {note}" if note else ""
                self.console.print(f"{self.what}: {self.done}/{self.total} {self.unit}{tail}", markup=False)

    def end(self) -> None:
        """The stage is done."""
        if self.bar is not None and self.task is not None:
            self.bar.remove_task(self.task)  # type: ignore[arg-type]
            self.task = None

    def say(self, text: str) -> None:
        """Something that the user should know."""
        if not self.quiet:
            (self.bar.console if self.bar is not None else self.console).print(safe(text), markup=False)
