"""How a long task tells of itself: a protocol that the command line fills, a silent one, and a log."""

import time
from typing import Protocol


class Progress(Protocol):
    """Told what goes on; shows it or not."""

    def begin(self, what: str, total: int, unit: str = "images") -> None:
        """A stage of `total` steps begins, inside the one that is under way."""

    def step(self, count: int = 1, note: str = "") -> None:
        """Some steps of the stage are done."""

    def end(self) -> None:
        """The stage is done."""

    def say(self, text: str) -> None:
        """Something that the user should know."""


def lasting(seconds: float) -> str:
    """A time in words, as exact as a forecast is: `40 s`, `12 min`, `2.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


class Silent:
    """Tells nobody."""

    def begin(self, what: str, total: int, unit: str = "images") -> None:
        """Do nothing."""

    def step(self, count: int = 1, note: str = "") -> None:
        """Do nothing."""

    def end(self) -> None:
        """Do nothing."""

    def say(self, text: str) -> None:
        """Do nothing."""


class Logged:
    """Passes everything on, and keeps it as lines of a log with the seconds since its start."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.lines: list[str] = []
        self.started = time.perf_counter()
        self.stages: list[tuple[str, int]] = []

    def begin(self, what: str, total: int, unit: str = "images") -> None:
        """A stage of `total` steps begins."""
        self.stages.append((f"{what}: {total} {unit}", 0))
        self.note(f"begin {self.stages[-1][0]}")
        self.progress.begin(what, total, unit)

    def step(self, count: int = 1, note: str = "") -> None:
        """Some steps of the stage are done; a note is kept."""
        stage, done = self.stages.pop()
        self.stages.append((stage, done + count))
        if note:
            self.note(f"{stage}: {done + count}, {note}")
        self.progress.step(count, note)

    def end(self) -> None:
        """The stage is done."""
        self.note(f"end {self.stages.pop()[0]}")
        self.progress.end()

    def say(self, text: str) -> None:
        """Something that the user should know."""
        self.note(text)
        self.progress.say(text)

    def note(self, text: str) -> None:
        """Keep a line without telling."""
        self.lines.append(f"{time.perf_counter() - self.started:9.3f} s  {text}")

    def text(self) -> str:
        """The log."""
        return "\n".join(self.lines) + "\n"
