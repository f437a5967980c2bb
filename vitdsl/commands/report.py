"""Draw the report of a run again."""

import json
from pathlib import Path

import click

from vitdsl.commands._options import JSON

PLACE = 50


@click.command(epilog="\b\nExample:\n  vitdsl report runs/skip_ablation/20261122T110000Z-1a2b3c4d\n")
@click.argument("folder", metavar="RUN", type=click.Path(path_type=Path))
@click.option(
    "--out", type=click.Path(path_type=Path), help="Where the page goes; the run folder if not given."
)
@JSON
def report(folder: Path, out: Path | None, as_json: bool) -> None:
    """Draw the report of a run again, from its folder alone."""
    from vitdsl.reports.render import write_report
    from vitdsl.runtime.results.folder import open_run

    path = write_report(open_run(folder), out)
    click.echo(json.dumps({"schema": "vitdsl.report/1", "report": str(path)}) if as_json else str(path))
