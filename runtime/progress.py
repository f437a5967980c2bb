"""How a long task tells of itself: a protocol that the command line fills, a silent one, and a log."""

import time
from typing import Protocol


class Progress(Protocol):
    """Told what goes on; shows it or not."""

    def begin(self, what: str, total: int, unit: str = "images") -> None:
        """A stage of `total` steps begins."""

    def step(self, count: int = 1, note: str = "") -> None:
        """Some steps of the stage are done."""

    def end(self) -> None:
        """The stage is done."""

    def say(self, text: str) -> None:
        """Something that the user should know."""


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
        self.stage, self.done = "", 0

    def begin(self, what: str, total: int, unit: str = "images") -> None:
        """A stage of `total` steps begins."""
        self.stage, self.done = f"{what}: {total} {unit}", 0
        self.note(f"begin {self.stage}")
        self.progress.begin(what, total, unit)

    def step(self, count: int = 1, note: str = "") -> None:
        """Some steps of the stage are done; a note is kept."""
        self.done += count
        if note:
            self.note(f"{self.stage}: {self.done}, {note}")
        self.progress.step(count, note)

    def end(self) -> None:
        """The stage is done."""
        self.note(f"end {self.stage}")
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
