"""Draw the report of a run again."""

import json
from pathlib import Path

import click

from vitdsl.commands._options import JSON
from vitdsl.commands._runs import RUNS, find_run
from vitdsl.importing import importing, seldom
from vitdsl.painters import Painters

PLACE = 50


@click.command(
    epilog="\b\nExamples:\n  vitdsl report runs/skip_ablation/20261122T110000Z-1a2b3c4d\n  vitdsl report latest\n"
)
@click.argument("run", metavar="RUN")
@click.option(
    "--out", type=click.Path(path_type=Path), help="Where the page goes; the run folder if not given."
)
@RUNS
@JSON
def report(run: str, out: Path | None, runs_: Path, as_json: bool) -> None:
    """Draw the report of a run again, from its folder alone.

    RUN is a run folder, `latest`, or a study's name; `~1` behind it means the run before.
    """
    from vitdsl.commands._pages import say

    folder = find_run(run, runs_)
    with Painters() as painters:
        painters.start()
        with importing():
            from vitdsl.reports.render import write_report
            from vitdsl.runtime.results.folder import open_run

        with seldom():
            path = write_report(open_run(folder), out, painters)
    if as_json:
        click.echo(json.dumps({"schema": "vitdsl.report/1", "report": str(path)}))
    else:
        say("", path)
