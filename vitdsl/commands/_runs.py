"""Which run a word of the command line means: a folder, `latest`, or the name of a study.

Does not own what a run folder is, or the error where there is none (`vitdsl.runtime.results.folder`).
"""

import os
from difflib import get_close_matches
from pathlib import Path

import click

LATEST = "latest"
MOST = 8
"""Studies that an error names."""
RUNS = click.option(
    "--runs", "runs_", type=click.Path(path_type=Path), default=Path("runs"), show_default=True,
    help="Where runs are that are given by name.",
)  # fmt: skip
"""The option of commands that take a run by name."""


def find_run(word: str, runs: Path) -> Path:
    """The folder that a word means.

    Args:
        word: A folder; or `latest`, or a study's name, for the newest run (of that study) that ended well; `~1` behind
            either means the one before it, and so on.
        runs: The folder of runs in which names are looked for.

    Returns:
        The folder; a path is taken as it is.

    Raises:
        EnvironmentProblem: The word names no run (VD601).
    """
    from vitdsl.runtime.results.listing import runs_in

    if os.path.lexists(word):
        return Path(word)
    name, _, back = word.partition("~")
    if "/" in name or "*" in name or (back and not back.isdecimal()):
        return Path(word)
    every = [one for one in runs_in(runs, None) if one.status == "success"]
    found = every if name == LATEST else [one for one in every if one.study == name]
    place = int(back or 0) + 1
    if not name or place > len(found):
        raise _none(word, runs, list(dict.fromkeys(one.study for one in every)), len(found))
    return found[-place].folder


def _none(word: str, runs: Path, studies: list[str], found: int) -> Exception:
    """What is said of a word that names no run: what is nearest, and what there is."""
    from vitdsl.dsl.diagnostics import Diagnostic, EnvironmentProblem
    from vitdsl.dsl.text import counted

    name = word.partition("~")[0]
    near = get_close_matches(name, studies, 1, 0.6) if not found else []
    there = f"runs in `{runs}` are of " + ", ".join(f"`{one}`" for one in studies[:MOST]) if studies else ""
    few = f"`{name}` has {counted(found, 'run')} that ended well" if found else ""
    none = "" if studies else f"there is no run in `{runs}` that ended well: `vitdsl run` makes one"
    return EnvironmentProblem(
        Diagnostic(
            "VD601",
            f"`{word}` names no run, and is no folder",
            help=tuple(filter(None, (f"did you mean `{near[0]}`?" if near else "", few, there, none))),
        )
    )
