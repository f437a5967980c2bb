"""List runs: study, time, status, verdicts."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vitdsl.commands._options import JSON

if TYPE_CHECKING:
    from vitdsl.runtime.results.listing import Listed

PLACE = 52


@click.command(epilog="\b\nExamples:\n  vitdsl runs\n  vitdsl runs skip_ablation --json\n")
@click.argument("study", required=False)
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("runs"), show_default=True, help="Where runs are."
)
@JSON
def runs(study: str | None, out: Path, as_json: bool) -> None:
    """List the runs of a folder, the oldest first; with STUDY those of that study."""
    from vitdsl.runtime.results.listing import runs_in

    found = runs_in(out, study)
    if as_json:
        click.echo(json.dumps({"schema": "vitdsl.runs/1", "runs": [_row(one) for one in found]}, indent=2))
        return
    if not found:
        of = f" of the study `{study}`" if study else ""
        raise click.UsageError(f"there are no runs{of} in `{out}`; `vitdsl run STUDY` makes one")
    from rich.markup import escape

    from vitdsl.commands._tables import show, table
    from vitdsl.dsl.text import safe

    answer = table("study", "started", "status", "seconds", "claims", "folder", numeric=("seconds",))
    for one in found:
        verdicts = ", ".join(f"{count} {verdict}" for verdict, count in sorted(one.verdicts.items()))
        seconds = "" if one.seconds is None else f"{one.seconds:.1f}"
        cells = (one.study, one.started_at, one.status, seconds, verdicts, str(one.folder))
        answer.add_row(*(escape(safe(cell)) for cell in cells))
    show(answer)


def _row(one: "Listed") -> dict[str, object]:
    return {
        "study": one.study,
        "started_at": one.started_at,
        "status": one.status,
        "seconds": one.seconds,
        "verdicts": one.verdicts,
        "folder": str(one.folder),
    }
