"""The commands there are, found by folder scan; nothing lists them.

A command is one file in the folder, named as the command, that holds one click command. The first line of its
docstring is its line in `vitdsl --help`, and `PLACE = 10` its place there. Both are read from the text of the
file, so that the list of all commands imports none.
"""

import importlib
import re
from importlib.util import find_spec
from pathlib import Path

import click

COMMANDS = "vitdsl.commands"
_SUMMARY = re.compile(r'\A"""(.+?)(?:"""|\n)')
_PLACE = re.compile(r"^PLACE = (\d+)$", re.MULTILINE)


def summaries(package: str = COMMANDS) -> dict[str, str]:
    """Each command's name and line, in the order of their places.

    Args:
        package: The import name of the folder to scan.

    Raises:
        RuntimeError: A file has no docstring or no place.
    """
    found: dict[str, tuple[int, str]] = {}
    spec = find_spec(package)
    for folder in (spec.submodule_search_locations if spec else None) or ():
        for path in sorted(Path(folder).glob("[!_]*.py")):
            text = path.read_text("utf-8")
            summary, place = _SUMMARY.match(text), _PLACE.search(text)
            if summary is None:
                raise RuntimeError(
                    f"{path} has no docstring: its first line is the command's line in the help"
                )
            if place is None:
                raise RuntimeError(
                    f"{path} has no line such as `PLACE = 10`: the command's place in the help"
                )
            found[path.stem] = int(place[1]), summary[1]
    return {name: found[name][1] for name in sorted(found, key=lambda name: (found[name][0], name))}


def command(name: str, package: str = COMMANDS) -> click.Command:
    """Import a command.

    Args:
        name: Its name, which is its file's.
        package: The import name of its folder.

    Raises:
        RuntimeError: The file does not hold one command.
    """
    module = importlib.import_module(f"{package}.{name}")
    found = [one for one in vars(module).values() if isinstance(one, click.Command)]
    if len(found) != 1:
        raise RuntimeError(
            f"{module.__file__} holds {len(found) or 'no'} click commands; a command's file holds one"
        )
    return found[0]
