"""Tables as the answer of a command: how they look, on a terminal and in a pipe."""

from collections.abc import Container

import click
from rich.console import Console
from rich.table import Table


def table(*columns: str, numeric: Container[str] = ()) -> Table:
    """An empty table; the numbers of `numeric` columns stand at the right."""
    found = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for column in columns:
        found.add_column(column, justify="right" if column in numeric else "left", overflow="fold")
    return found


def show(rows: Table) -> None:
    """Print a table; names are never cut: a line that is too long for the terminal goes on in the next."""
    context = click.get_current_context(silent=True)
    color = context.color if context is not None else None
    console = Console(no_color=color is False, force_terminal=True if color else None, highlight=False)
    if len(rows.columns) > 2 or not console.is_terminal:
        wide = Console(width=1000)
        console.width = max(console.width, wide.measure(rows).maximum)
    with console.capture() as written:
        console.print(rows)
    for line in written.get().splitlines():
        click.echo(line.rstrip(), color=console.is_terminal)
