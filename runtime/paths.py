"""Paths that a user writes, with `~` for the home folder; and the user's own folder of what is kept."""

import os
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


def user_cache() -> Path:
    """The user's folder of what this program keeps: `$VITDSL_CACHE`, or `vitdsl` in the cache folder of the system.

    Raises:
        EnvironmentProblem: There is no home folder here (VD401).
    """
    named = os.environ.get("VITDSL_CACHE")
    if named:
        return expanded(named)
    return expanded(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "vitdsl"
