"""List metrics, ablations, sources or models."""

import json
from fnmatch import fnmatchcase

import click
from rich.markup import escape

from vitdsl.commands._options import JSON
from vitdsl.commands._tables import show, table

PLACE = 80


@click.command(epilog="\b\nExamples:\n  vitdsl list metrics\n  vitdsl list models 'vit_*dinov2*'\n")
@click.argument("what", type=click.Choice(["metrics", "ablations", "sources", "models"]))
@click.argument("glob", default="*")
@JSON
def list_(what: str, glob: str, as_json: bool) -> None:
    """List the metrics, ablations or sources there are, or timm's models."""
    rows = _listed(what, glob)
    if not rows:
        raise click.UsageError(f"none of the {what} is named like `{glob}`")
    if as_json:
        click.echo(json.dumps({"schema": "vitdsl.list/1", what: rows}, indent=2, ensure_ascii=False))
        return
    answer = table(what.removesuffix("s"), "pretrained tags" if what == "models" else "what it is")
    for row in rows:
        answer.add_row(row["name"], escape(row["what"]))
    show(answer)


def _listed(what: str, glob: str) -> list[dict[str, str]]:
    if what == "models":
        import timm

        tags: dict[str, list[str]] = {}
        for name in timm.list_models(glob):
            tags[name] = []
        for full in timm.list_pretrained():
            name, _, tag = full.partition(".")
            if name in tags:
                tags[name].append(tag)
        return [{"name": name, "what": ", ".join(found) or "none"} for name, found in tags.items()]
    from vitdsl.commands._kinds import registries
    from vitdsl.runtime.kinds import summary

    return [
        {"name": name, "what": summary(kind)}
        for name, kind in registries()[what].kinds().items()
        if fnmatchcase(name, glob)
    ]
