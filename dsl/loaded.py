"""A study together with the spans of its values.

Does not own how it comes to be (`load`, `phases`).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from vitdsl.dsl.diagnostics import Diagnostic
from vitdsl.dsl.nodes import Path as Place
from vitdsl.dsl.source import SourceMap

if TYPE_CHECKING:
    from vitdsl.dsl.study import Study


@dataclass(frozen=True)
class Loaded:
    """A study with the spans of its values.

    Attributes:
        study: The typed study; recipes are written out in it.
        source: Where each value was written.
        path: The file; None for a study that was built in Python or read from a text.
        bases: The files it extends, nearest first.
        overrides: The `--set` arguments that took part.
        problems: What is wrong with the entries that `study` lacks; none where it is whole.
        dropped: What `study` lacks: the paths of fields, entries and sections that cannot be read.
    """

    study: "Study"
    source: SourceMap = field(default_factory=SourceMap)
    path: Path | None = None
    bases: tuple[Path, ...] = ()
    overrides: tuple[str, ...] = ()
    problems: tuple[Diagnostic, ...] = ()
    dropped: frozenset[Place] = frozenset()

    @property
    def folder(self) -> Path:
        """Where the relative paths of the study start."""
        start = self.path.parent if self.path else Path()
        return start / self.study.folder if self.study.folder else start

    def problem(
        self,
        code: str,
        path: Sequence[str | int],
        message: str,
        *,
        label: str = "",
        help: Iterable[str] = (),
        notes: Iterable[str] = (),
        key: bool = False,
        secondary_paths: Iterable[tuple[Sequence[str | int], str]] = (),
        within: tuple[int, int] | None = None,
        about: Iterable[Sequence[str | int]] = (),
    ) -> Diagnostic:
        """A diagnostic that points at a value of this study; see `SourceMap.problem`."""
        return self.source.problem(
            code,
            path,
            message,
            label=label,
            help=help,
            notes=notes,
            key=key,
            secondary_paths=secondary_paths,
            within=within,
            about=about,
        )
