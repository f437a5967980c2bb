"""Write the figures of a run for a paper."""

import json
from pathlib import Path

import click

from vitdsl.commands._options import JSON
from vitdsl.commands._runs import RUNS, find_run
from vitdsl.importing import importing

PLACE = 52


@click.command(
    epilog="\b\nExamples:\n  vitdsl figures latest\n  vitdsl figures skip_ablation --width 3.3 --out paper\n"
)
@click.argument("run", metavar="RUN")
@click.option(
    "--width",
    type=click.FloatRange(2.0, 12.0),
    default=6.9,
    show_default=True,
    help="In inches; 3.3 is a column, 6.9 two.",
)
@click.option(
    "--format",
    "format_",
    type=click.Choice(["pdf", "svg", "png"]),
    default="pdf",
    show_default=True,
    help="PDF and SVG hold their fonts; PNG has 300 dots an inch.",
)
@click.option(
    "--out", type=click.Path(path_type=Path), help="Where they go; `print` in the run folder if not given."
)
@RUNS
@JSON
def figures(run: str, width: float, format_: str, out: Path | None, runs_: Path, as_json: bool) -> None:
    """Write every figure of a run for a paper: all its panels in one file, its numbers, and its caption in LaTeX.

    RUN is a run folder, `latest`, or a study's name; `~1` behind it means the run before.
    """
    with importing():
        from vitdsl.reports.prints import CAPTIONS, write_figures
        from vitdsl.runtime.results.folder import open_run

    folder = find_run(run, runs_)
    written = write_figures(open_run(folder), out or folder / "print", width, format_)  # type: ignore[arg-type]
    if as_json:
        click.echo(json.dumps({"schema": "vitdsl.figures/1", "files": [str(path) for path in written]}))
        return
    drawings = [path for path in written if path.suffix == f".{format_}"]
    for path in drawings:
        click.echo(path)
    click.echo(f"{len(drawings)} figures at {width:g} inches, their numbers as CSV, and {CAPTIONS}")
