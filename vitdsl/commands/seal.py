"""Seal a study: write down, by date and hash, what it claims.

Owns when a seal may be written or replaced. Does not own what a seal is (`vitdsl.dsl.sealing`), or what a run says of
it.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vitdsl.commands._options import SET
from vitdsl.importing import importing

if TYPE_CHECKING:
    from vitdsl.dsl.loaded import Loaded
    from vitdsl.dsl.sealing import Seal

PLACE = 25


@click.command(epilog="\b\nExample:\n  vitdsl seal study.yaml\n")
@click.argument("study", type=click.Path(path_type=Path))
@SET
@click.option("--force", is_flag=True, help="Replace a seal of other claims or of another study.")
def seal(study: Path, overrides: Sequence[str], force: bool) -> None:
    """Seal a study before its first run: a dated file beside it says, by hash, what it claims.

    The answer is one line with the hash of the seal. Post it where others see when it was posted: that proves the date,
    the file alone does not. `vitdsl run` finds the seal, and says in its report whether claims and study are as sealed.
    """
    from vitdsl import __version__
    from vitdsl.dsl.load import load_source
    from vitdsl.dsl.sealing import find_seal, seal_path
    from vitdsl.dsl.sealing import seal as sealed
    from vitdsl.dsl.written import changes

    loaded = load_source(study, overrides=overrides)
    now = datetime.now(UTC)
    found = sealed(loaded.study, vitdsl=__version__, now=now)
    path = seal_path(study)
    there = None if force else find_seal(study, now=now)
    if there is not None:
        if changes(there, found) or there.study != found.study:
            raise click.UsageError(
                f"`{path}` seals another form of this study, of {there.sealed_at}; "
                "`--force` replaces it, and what was posted then is of no use any more"
            )
        click.echo(there.line)
        return
    _check(loaded)
    _write(found, path)
    click.echo(found.line)


def _check(loaded: "Loaded") -> None:
    """A study that is wrong is not sealed; one whose images are not here yet is.

    Raises:
        StudyError: Something is wrong with it.
    """
    from vitdsl.dsl.diagnostics import Diagnostic, EnvironmentProblem

    with importing():
        from vitdsl.runtime.plan.bind import bind

    missing: list[Diagnostic] = []
    try:
        bind(loaded, missing=missing)
    except EnvironmentProblem as problem:
        click.echo(
            f"note: sealed without a check of models and images: {problem.diagnostics[0].message}", err=True
        )
        return
    if missing:
        click.echo(f"note: sealed without a check of images: {missing[0].message}", err=True)


def _write(found: "Seal", path: Path) -> None:
    from vitdsl.dsl.diagnostics import EnvironmentProblem
    from vitdsl.runtime.results.writing import write_text

    try:
        write_text(path, found.text)
    except EnvironmentProblem as error:
        help_ = ("a seal lies beside its study: copy the study to a folder that can be written",)
        raise EnvironmentProblem(replace(one, help=help_) for one in error.diagnostics) from error
