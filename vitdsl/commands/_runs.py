"""Which run a word of the command line means: a folder, `latest`, or the name of a study.

Does not own what a run folder is, or the error where there is none (`vitdsl.runtime.results.folder`).
"""

import os
from pathlib import Path

import click

LATEST = "latest"
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
        The folder; where the word names no run, it is taken for a folder that is not there.
    """
    from vitdsl.runtime.results.listing import runs_in

    if os.path.lexists(word):
        return Path(word)
    name, _, back = word.partition("~")
    if "/" in name or "*" in name or (back and not back.isdecimal()):
        return Path(word)
    found = [one for one in runs_in(runs, None if name == LATEST else name) if one.status == "success"]
    place = int(back or 0) + 1
    return found[-place].folder if name and place <= len(found) else Path(word)
