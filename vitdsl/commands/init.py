"""Write a first study, ready to run."""

from importlib.resources import files
from pathlib import Path
from shlex import quote

import click

PLACE = 60
TEMPLATES = {
    "skip": "Two small trained models, digits, one removed skip after another.",
    "images": "Two pretrained models and a folder of your images.",
}


@click.command(epilog="\b\nExamples:\n  vitdsl init\n  vitdsl init mine.yaml --template images\n")
@click.argument("file", type=click.Path(path_type=Path), default=Path("study.yaml"))
@click.option(
    "--template",
    type=click.Choice(list(TEMPLATES)),
    default="skip",
    show_default=True,
    help=" ".join(f"{name}: {words}" for name, words in TEMPLATES.items()),
)
def init(file: Path, template: str) -> None:
    """Write a first study with comments, ready to run; nothing is downloaded.

    A folder as FILE gets `study.yaml` in it.
    """
    from vitdsl.runtime.results.writing import write_text

    path = file / "study.yaml" if file.is_dir() or file.suffix not in (".yaml", ".yml") else file
    if path.exists():
        raise click.UsageError(f"`{path}` exists already; give another name")
    text = (files("vitdsl") / "templates" / f"{template}.yaml").read_text("utf-8")
    typed = quote(str(path))
    write_text(path, text.replace("study.yaml", typed))
    click.echo(f"wrote {typed}: {TEMPLATES[template]}")
    click.echo(f"next: vitdsl check {typed}, then vitdsl run {typed}")
