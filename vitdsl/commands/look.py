"""Look at images with one model, without a study.

Owns the options and the words on the terminal. Does not own what is measured (`vitdsl.looking`) or drawn
(`vitdsl.reports.look`).
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vitdsl.commands._models import named_model
from vitdsl.commands._options import DEVICE, INPUT_SIZE, JSON, QUIET
from vitdsl.dsl.text import safe
from vitdsl.importing import importing
from vitdsl.output import Output
from vitdsl.progress import StderrProgress

if TYPE_CHECKING:
    from vitdsl.reports.sight import Sight, View

PLACE = 15
MOST = 16
"""More images than these are a study."""


@click.command(
    epilog="\b\nExamples:\n"
    "  vitdsl look photo.jpg --model vit_small_patch16_224 --weights pretrained\n"
    "  vitdsl look a.jpg b.jpg --model resnet50 --weights pretrained --at 'layer[3-4].*'\n"
    "  vitdsl look photo.jpg --model vit_tiny_patch16_224 --weights random --option img_size=96\n"
    "  vitdsl look photo.jpg --model vit_base_patch16_224 --weights ./mine.safetensors --json\n"
)
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@click.option("--model", "arch", required=True, metavar="ARCH", help="A timm architecture.")
@click.option(
    "--weights",
    default="pretrained",
    show_default=True,
    metavar="pretrained|random|FILE",
    help="Where its weights come from.",
)
@click.option(
    "--option", "options", multiple=True, metavar="KEY=VALUE", help="An option of the architecture."
)
@INPUT_SIZE
@click.option("--at", multiple=True, metavar="SELECTOR", help="Layers to look at; the blocks if not given.")
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("look.html"), show_default=True, help="The page."
)
@DEVICE
@JSON
@QUIET
@click.pass_obj
def look(
    output: Output,
    images: Sequence[str],
    arch: str,
    weights: str,
    options: Sequence[str],
    input_size: str | None,
    at: Sequence[str],
    out: Path,
    device: str,
    as_json: bool,
    quiet: bool,
) -> None:
    """Look at images with one model: what it answers, attends to and depends on.

    It needs no study and leaves no run, only one page that can be sent. The page holds the study that was run, to go
    on from.
    """
    if len(images) > MOST:
        raise click.UsageError(f"{len(images)} images; `look` takes at most {MOST}, a study takes more")
    settings = [f"options.{option}" for option in options]
    settings += [input_size] if input_size else []
    named = weights if weights in ("pretrained", "random") else {"file": weights}
    model = named_model(arch, settings, named)
    with StderrProgress(color=output.color, quiet=quiet) as progress:
        with importing():
            from vitdsl.looking import look as look_at
            from vitdsl.reports.look import render
            from vitdsl.runtime.results.writing import write_text

        sight = look_at(images, model, at=at, device=device, progress=progress)
        progress.say("draw the page")
        write_text(out, render(sight))
    if as_json:
        click.echo(json.dumps(_answer(sight, out), ensure_ascii=False, indent=2))
    else:
        _print(sight, out)


def _answer(sight: "Sight", out: Path) -> dict[str, Any]:
    model = sight.model
    return {
        "schema": "vitdsl.look/1",
        "vitdsl": sight.run.manifest.vitdsl,
        "report": str(out),
        "model": model.arch,
        "weights": {"source": model.weights.source, "sha256": model.weights.sha256},
        "input": {"size": list(model.preprocessing.input_size), "preparation": sight.preparation},
        "cautions": sight.cautions,
        "absent": sight.absent,
        "images": [view.as_json() for view in sight.views],
    }


def _print(sight: "Sight", out: Path) -> None:
    """What was found, in a few lines for each image."""
    click.echo(f"model: {sight.model.arch}, weights: {safe(sight.weights)}")
    click.echo(f"input: {sight.preparation}")
    for caution in sight.cautions:
        click.echo(f"warning: {safe(caution)}", err=True)
    for reason in sight.absent.values():
        click.echo(f"note: {safe(reason)}", err=True)
    for view in sight.views:
        click.echo(f"\n{safe(view.photo.name)}")
        for line in _lines(view):
            click.echo(f"  {safe(line)}")
    click.echo(f"\nreport: {out}")


def _lines(view: "View") -> list[str]:
    lines = [
        f"{'answers' if answer.rank == 1 else '':<10} {100 * answer.confidence:5.1f} %  {answer.said}"
        for answer in view.answers
    ]
    if view.widths:
        name, low, middle, high = view.widths[-1]
        shares = f"{100 * middle:.0f} % of the image (heads: {100 * low:.0f} to {100 * high:.0f} %)"
        lines.append(f"{'attention':<10} {name}: half of what the {view.query} gives lies in {shares}")
    if view.fields:
        said = [f"{name} {most:.0f} px" for name, _, most in view.fields]
        lines.append(f"{'field':<10} 90 % of the gradient of the centre within: {', '.join(said)}")
    if view.steps:
        name, then, value = min(view.steps, key=lambda step: step[2])
        lines.append(f"{'layers':<10} places change most from {name} to {then} (token-wise CKA {value:.2f})")
    return lines
