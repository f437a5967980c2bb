"""Remove what no run needs from a folder of runs."""

import json
from pathlib import Path

import click

from vitdsl.commands._options import JSON

PLACE = 54


@click.command(
    epilog="\b\nExamples:\n  vitdsl clean\n  vitdsl clean --yes\n  vitdsl clean --failed --hours 0 --yes\n"
)
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("runs"), show_default=True, help="Where runs are."
)
@click.option(
    "--hours",
    type=click.FloatRange(min=0),
    default=24.0,
    show_default=True,
    help="Keep what was written in the last so many hours: other processes may be at work.",
)
@click.option("--failed", is_flag=True, help="Also remove the folders of runs that did not end well.")
@click.option("--yes", is_flag=True, help="Remove it; without, only say what would be removed.")
@JSON
def clean(out: Path, hours: float, failed: bool, yes: bool, as_json: bool) -> None:
    """Say what no run needs, and with --yes remove it: saved image blocks, and what ended processes left.

    Run folders stay, and so do the image blocks that they are made of, by which the same study is answered again.
    """
    from vitdsl.dsl.text import counted, safe
    from vitdsl.runtime.results.listing import needless, remove

    found = needless(out, hours=hours, failed=failed)
    if yes:
        remove(found)
    if as_json:
        rows = [{"path": str(one.path), "bytes": one.size, "why": one.why} for one in found]
        click.echo(json.dumps({"schema": "vitdsl.clean/1", "removed": yes, "needless": rows}, indent=2))
        return
    for one in found:
        click.echo(f"{safe(str(one.path))}  {one.size / 2**20:.1f} MiB  {one.why}")
    total = sum(one.size for one in found) / 2**20
    if not found:
        click.echo(f"every run in `{out}` needs what is there")
    elif yes:
        click.echo(f"removed {counted(len(found), 'item')}, {total:.1f} MiB")
    else:
        click.echo(
            f"{counted(len(found), 'item')}, {total:.1f} MiB would go; `vitdsl clean --yes` removes them"
        )
