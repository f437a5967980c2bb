"""Writing files whole or not at all, and making a folder that is nobody else's. Knows nothing of what is written."""

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from vitdsl.dsl.diagnostics import Diagnostic, EnvironmentProblem


def new_folder(folder: Path, first: str) -> Path:
    """Make a folder that was not there; where it was, one beside it with a number: `name-2`.

    Making it and finding out that it is new are one step, so that two processes never get the same.

    Args:
        folder: The folder.
        first: The file that will be written into it first, for the error.

    Raises:
        EnvironmentProblem: No folder can be made there (VD407).
    """
    candidate, number = folder, 1
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        while True:
            try:
                candidate.mkdir()
                return candidate
            except FileExistsError:
                number += 1
                candidate = folder.with_name(f"{folder.name}-{number}")
    except OSError as error:
        raise _unwritable(candidate / first, error) from error


def check_writable(path: Path) -> None:
    """Make sure that a file can be written where `path` says, before work is done for it; nothing is left there.

    Raises:
        EnvironmentProblem: It cannot (VD407).
    """
    try:
        nearest = next(folder for folder in path.absolute().parents if os.path.lexists(folder))
        with tempfile.TemporaryFile(dir=nearest):
            return
    except OSError as error:
        raise _unwritable(path, error) from error


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all; what UTF-8 does not have, such as parts of file names, is escaped."""
    write_atomically(path, lambda temporary: temporary.write_text(text, "utf-8", "backslashreplace"))


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file beside `path`, then rename it.

    Raises:
        EnvironmentProblem: The file cannot be written (VD407).
    """
    handle = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        os.close(handle)
        write(Path(name))
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException as error:
        if handle is not None:
            Path(name).unlink(missing_ok=True)
        if not isinstance(error, OSError):
            raise
        raise _unwritable(path, error) from error


def write_json(path: Path, value: Any) -> None:
    """Write JSON whole or not at all; NaN becomes null."""
    write_text(path, json.dumps(finite(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def finite(value: Any) -> Any:
    r"""A value as JSON has it: names are text, sequences lists, and numbers that JSON does not have null.

    Parts of file names that are not UTF-8 are escaped, such as `\udcff`.
    """
    if isinstance(value, dict):
        return {finite(str(key)): finite(item) for key, item in value.items()}
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value


def _unwritable(path: Path, error: OSError) -> EnvironmentProblem:
    return EnvironmentProblem(
        Diagnostic(
            "VD407",
            f"cannot write `{path}`: {error.strerror or error}",
            help=("free space, or give another folder with `--out DIR`",),
        )
    )
