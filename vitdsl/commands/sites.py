"""List the sites of a model: names, shapes, depth."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.markup import escape

from vitdsl.commands._models import named_model
from vitdsl.commands._options import INPUT_SIZE, JSON
from vitdsl.commands._tables import show, table
from vitdsl.dsl.text import counted, shown
from vitdsl.importing import importing
from vitdsl.output import Output

if TYPE_CHECKING:
    from vitdsl.dsl.study import Model

PLACE = 40


@click.command(
    epilog="\b\nExamples:\n"
    "  vitdsl sites vit_base_patch16_224 'blocks.*' --role branch\n"
    "  vitdsl sites resnet50 'layer*.*'\n"
    "  vitdsl sites vit --study specs/skip_ablation.yaml --role attention\n"
    "  vitdsl sites levit_128s --summary\n"
)
@click.argument("model")
@click.argument("selectors", nargs=-1)
@click.option(
    "--role",
    type=click.Choice(
        [
            *("output", "stream", "branch", "skip", "attention", "heads", "input"),
            *("image", "embedding", "position", "pool"),
        ]
    ),
    default="output",
    show_default=True,
    help="Which tensor of a site.",
)
@click.option("--study", type=click.Path(path_type=Path), help="A study in which MODEL is a model's name.")
@click.option(
    "--option", "options", multiple=True, metavar="KEY=VALUE", help="An option of the architecture."
)
@INPUT_SIZE
@click.option(
    "--summary", is_flag=True, help="Which metrics and ablations the model takes, and why not others."
)
@JSON
@click.pass_obj
def sites(
    output: Output,
    model: str,
    selectors: Sequence[str],
    role: str,
    study: Path | None,
    options: Sequence[str],
    input_size: str | None,
    summary: bool,
    as_json: bool,
) -> None:
    """List the sites of a model: names, shapes of one image's tensor, depth.

    MODEL is a timm architecture, or with --study the name of a model there. No weights are loaded. Modules that pass on
    what they get, Identity and Dropout, are left out of the table unless --all is given.
    """
    from vitdsl.dsl.load import load_source

    if study is not None:
        if options or input_size:
            raise click.UsageError("a model of `--study` is as the study has it; change it there")
        loaded = load_source(study)
        if model not in loaded.study.models:
            raise click.UsageError(
                f"`{study}` has no model `{model}`; it has {', '.join(loaded.study.models)}"
            )
        entry = loaded.study.models[model]
    else:
        settings = [f"options.{option}" for option in options]
        settings += [input_size] if input_size else []
        entry = named_model(model, settings)
    from vitdsl.dsl.selectors import nearest
    from vitdsl.dsl.sweeps import variants

    with importing():
        from vitdsl.runtime.graph.listing import listed, passes_on
        from vitdsl.runtime.graph.sites import sites_of
        from vitdsl.runtime.models.loading import skeleton, with_numbers
        from vitdsl.runtime.models.preprocessing import preprocessing
        from vitdsl.runtime.plan.matching import chosen

    first = variants(model, entry)[0].entry
    if summary:
        _summarise(first, as_json)
        return
    module = skeleton(first)
    found = sites_of(module, preprocessing(module, first).input_size, real=partial(with_numbers, first))
    if found.unfollowed is not None:
        click.echo(f"note: {found.unfollowed.said}", err=True)
    names = found.names(role)
    kept = chosen(found, role, list(selectors)) if selectors else names
    if not kept:
        near = ", ".join(f"`{one}`" for one in nearest(selectors[0], names)) if selectors and names else ""
        named = " ".join(f"`{shown(selector)}`" for selector in selectors)
        what = f"{named} matches no site" if selectors else "there is no site"
        raise click.UsageError(f"{what} with the role `{role}`" + (f"; nearest: {near}" if near else ""))
    idle = [one for one in kept if role == "output" and passes_on(found, one)]
    if output.everything or as_json or len(idle) == len(kept):
        idle = []
    rows = listed(found, role, [one for one in kept if one not in idle])
    if as_json:
        answered = {"schema": "vitdsl.sites/1", "model": first.arch, "sites": rows}
        answered |= {"unfollowed": found.unfollowed.why} if found.unfollowed is not None else {}
        click.echo(json.dumps(answered, indent=2))
        return
    answer = table("site", "shape", "depth", "what", numeric=("depth",))
    for row in rows:
        shape = "x".join(map(str, row["shape"])) if row["shape"] is not None else "windows"
        answer.add_row(escape(row["site"]), shape, f"{row['depth']:.3f}", row["kind"])
    show(answer)
    if idle:
        click.echo(f"{counted(len(idle), 'site')} left out: Identity and Dropout; see with --all", err=True)


def _summarise(entry: "Model", as_json: bool) -> None:
    """Print what a model takes; in the shortest words where it takes nothing."""
    from vitdsl.runtime.plan.fitting import fitting

    found = fitting(entry)
    if as_json:
        click.echo(json.dumps({"schema": "vitdsl.fitting/1", "model": entry.arch, **asdict(found)}, indent=2))
        return
    if found.trace:
        click.echo(f"{entry.arch} cannot be studied: {found.trace}")
        return
    if found.unfollowed:
        click.echo(f"note: {found.unfollowed}", err=True)
    size = "x".join(map(str, found.input_size))
    click.echo(
        f"{entry.arch}, images of {size}: {len(found.units)} residual units, {len(found.attention)} attention modules"
    )
    answer = table("kind", "taken", "why not")
    for kind, reason in found.kinds.items():
        answer.add_row(kind, "no" if reason else "yes", escape(reason))
    show(answer)
