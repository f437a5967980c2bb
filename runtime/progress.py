"""How a long task tells of itself: a protocol that the command line fills, and a silent one."""

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
