"""Print a study, with the origin of every value."""

from collections.abc import Sequence
from pathlib import Path

import click

from vitdsl.commands._options import SET

PLACE = 90


@click.command(
    epilog="\b\nExamples:\n  vitdsl show study.yaml\n  vitdsl show study.yaml --resolved --set seed=1\n"
)
@click.argument("study", type=click.Path(path_type=Path))
@click.option("--resolved", is_flag=True, help="Every value, defaults too, each with its origin.")
@click.option("--hash", "only_hash", is_flag=True, help="Only the hash of what the study computes.")
@SET
def show(study: Path, resolved: bool, only_hash: bool, overrides: Sequence[str]) -> None:
    """Print a study with what it extends, its recipes and overrides in place."""
    from vitdsl.dsl.emit import resolved_yaml, to_yaml
    from vitdsl.dsl.load import load_source

    loaded = load_source(study, overrides=overrides)
    if only_hash:
        click.echo(loaded.study.hash)
    else:
        click.echo(resolved_yaml(loaded) if resolved else to_yaml(loaded.study), nl=False)
