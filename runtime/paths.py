"""Paths that a user writes, with `~` for the home folder."""

from pathlib import Path

from vitdsl.dsl.diagnostics import Diagnostic, EnvironmentProblem


def expanded(path: str | Path) -> Path:
    """A path with `~` replaced by the home folder.

    Raises:
        EnvironmentProblem: There is no home folder here (VD401).
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise EnvironmentProblem(
            Diagnostic(
                "VD401",
                f"there is no home folder for `{path}`",
                help=("write the path without `~`, set HOME, or for trained weights VITDSL_CACHE",),
            )
        ) from error
