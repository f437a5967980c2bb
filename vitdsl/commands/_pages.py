"""Pages that a command wrote: a link to one on the terminal, and one opened in the browser."""

import os
import sys
import webbrowser
from pathlib import Path

import click
from rich.console import Console
from rich.style import Style
from rich.text import Text


def say(label: str, page: Path) -> None:
    """Print where a page is: its path, which terminals that know links (OSC 8) let click; plain anywhere else."""
    context = click.get_current_context(silent=True)
    color = context.color if context is not None else None
    console = Console(width=10_000, highlight=False)
    if not console.is_terminal or console.color_system is None or color is False:
        click.echo(f"{label}{page}")
        return
    with console.capture() as written:
        link = Text(str(page), Style(link=page.absolute().as_uri()))
        console.print(Text(label) + link, end="")
    click.echo(written.get(), color=True)


def browse(page: Path) -> None:
    """Open a page in the browser; without a display nothing happens, for its path is on the terminal already."""
    if _displayed():
        webbrowser.open(page.absolute().as_uri())


def _displayed() -> bool:
    """Whether a browser would have a window here: one that runs in the terminal would take it over."""
    if os.environ.get("BROWSER") or sys.platform in ("darwin", "win32"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
