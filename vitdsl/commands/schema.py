"""Print the JSON Schema of study files."""

import json

import click

from vitdsl.commands._kinds import kinds

PLACE = 110


@click.command(epilog="\b\nExample:\n  vitdsl schema > vitdsl-1.schema.json\n")
def schema() -> None:
    """Print the JSON Schema of study files, for editors."""
    from vitdsl.dsl.json_schema import json_schema

    click.echo(json.dumps(json_schema(kinds()), indent=2, ensure_ascii=False))
