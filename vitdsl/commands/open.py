"""Open the report of a run in the browser."""

from pathlib import Path

import click

from vitdsl.commands._runs import LATEST, RUNS, find_run

PLACE = 51


@click.command(epilog="\b\nExamples:\n  vitdsl open\n  vitdsl open skip_ablation~1\n")
@click.argument("run", default=LATEST)
@RUNS
def open(run: str, runs_: Path) -> None:
    """Open the report of a run in the browser: the newest, or that of RUN.

    RUN is a run folder, `latest`, or a study's name; `~1` behind it means the run before. Where there is no display,
    only the path is printed. A report that is not there is drawn first.
    """
    from vitdsl.commands._pages import browse, say
    from vitdsl.reports.render import write_report
    from vitdsl.runtime.results.folder import REPORT, open_run

    folder = find_run(run, runs_)
    page = folder / REPORT
    page = page if page.is_file() else write_report(open_run(folder))
    say("", page)
    browse(page)
