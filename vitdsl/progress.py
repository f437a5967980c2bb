"""Progress on the standard error stream: a bar on a terminal, a few plain lines everywhere else.

Plain lines come at every tenth of a stage, and of a slow one also when much time passed since the last: a log of days
has some hundred lines. Does not own how long the rest takes (`eta`).
"""

import os
import sys
import time
from dataclasses import dataclass
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TaskID, TextColumn
from rich.text import Text

from vitdsl.dsl.text import safe
from vitdsl.eta import Clock, Eta
from vitdsl.runtime.progress import lasting

PLAIN_SECONDS = 30.0
PLAIN_SHARE = 0.1


def stderr_console(color: bool | None) -> Console:
    """A console on the standard error stream; colour and terminal are decided apart."""
    return Console(stderr=True, no_color=color is False, highlight=False, soft_wrap=True)


@dataclass
class _Stage:
    """A stage that has begun: what is known of it, and what was last shown."""

    what: str
    unit: str
    eta: Eta
    began: float
    task: TaskID | None = None
    shown: float = 0.0
    shown_at: float = 0.0

    def left(self) -> str:
        """Such as `about 40 s left`; empty where nothing is known, or nothing is left."""
        seconds = self.eta.left()
        return (
            f"about {lasting(seconds)} left" if seconds is not None and self.eta.done < self.eta.total else ""
        )


class _Left(ProgressColumn):
    """The time that is left."""

    max_refresh = 0.5

    def render(self, task: Task) -> Text:
        """As the stage knows it."""
        return Text(task.fields["stage"].left())


class StderrProgress:
    """Shows the stages of a long task; a context manager, so that a bar never outlives it. Stages may nest."""

    def __init__(
        self, *, color: bool | None = None, quiet: bool = False, clock: Clock = time.monotonic
    ) -> None:
        self.quiet, self.clock = quiet, clock
        terminal = sys.stderr.isatty() and os.environ.get("TERM") != "dumb" and not os.environ.get("CI")
        self.console = stderr_console(color)
        self.bar: Progress | None = None
        if terminal and not quiet:
            self.bar = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[unit]} {task.fields[note]}", markup=False),
                _Left(),
                console=self.console,
                transient=True,
            )
        self.stages: list[_Stage] = []

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
        """A stage of `total` steps begins, inside the one that is under way."""
        now = self.clock()
        stage = _Stage(safe(what), unit, Eta(total, self.clock), now, shown_at=now)
        if self.bar is not None:
            stage.task = self.bar.add_task(stage.what, total=total, unit=unit, note="", stage=stage)
        self.stages.append(stage)

    def step(self, count: int = 1, note: str = "") -> None:
        """Some steps of the innermost stage are done."""
        stage = self.stages[-1]
        stage.eta.step(count)
        if self.bar is not None and stage.task is not None:
            self.bar.update(stage.task, advance=count, note=note)
        elif not self.quiet:
            self._plain(stage, note)

    def _plain(self, stage: _Stage, note: str) -> None:
        share, now = stage.eta.done / max(1, stage.eta.total), self.clock()
        patience = max(PLAIN_SECONDS, (now - stage.began) * PLAIN_SHARE)
        if share - stage.shown < PLAIN_SHARE and now - stage.shown_at <= patience and share < 1:
            return
        stage.shown, stage.shown_at = share, now
        done = f"{stage.what}: {stage.eta.done}/{stage.eta.total} {stage.unit}"
        words = [done, note, stage.left()]
        self.console.print("  ".join(word for word in words if word), markup=False)

    def end(self) -> None:
        """The innermost stage is done."""
        stage = self.stages.pop()
        if self.bar is not None and stage.task is not None:
            self.bar.remove_task(stage.task)

    def say(self, text: str) -> None:
        """Something that the user should know."""
        if not self.quiet:
            (self.bar.console if self.bar is not None else self.console).print(safe(text), markup=False)
