"""The commands that look without computing: plan, sites, list; and init, which writes a first study."""

import json
from collections.abc import Sequence
from fnmatch import fnmatchcase
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from vitdsl.commands_language import SET
from vitdsl.commands_run import JSON
from vitdsl.dsl.text import counted, shown

if TYPE_CHECKING:
    from vitdsl.runtime.plan.plan import Plan
    from vitdsl.runtime.run.cost import Cost

TEMPLATES = {
    "skip": "Two small trained models, digits, one removed skip after another.",
    "images": "Two pretrained models and a folder of your images.",
}
PROBE_STUDY = """\
vitdsl: 1
study: sites
data: {{images: {{source: noise}}}}
models: {{it: {{arch: {arch}, weights: random}}}}
metrics: {{a: {{kind: accuracy, of: it}}}}
"""


@click.command(epilog="\b\nExample:\n  vitdsl plan specs/skip_ablation.yaml\n")
@click.argument("study", type=click.Path(path_type=Path))
@SET
@JSON
def plan(study: Path, overrides: Sequence[str], as_json: bool) -> None:
    """Show what a run will do and cost: conditions, matched sites, passes, work saved, memory.

    Needs no weights and no GPU.
    """
    from vitdsl.dsl.load import load_source

    loaded = load_source(study, overrides=overrides)
    from vitdsl.runtime.plan.bind import bind
    from vitdsl.runtime.run.cost import cost

    bound = bind(loaded)
    price = cost(bound)
    if as_json:
        click.echo(
            json.dumps({"schema": "vitdsl.plan/1", **price.as_dict(bound)}, indent=2, ensure_ascii=False)
        )
    else:
        _print_plan(bound, price)


def _print_plan(bound: "Plan", price: "Cost") -> None:
    study = bound.loaded.study
    counts = f"{counted(bound.conditions, 'condition')}, {counted(len(price.passes), 'pass', 'passes')}"
    click.echo(f"{study.study}: {counts} over images")
    models = _table(
        "model", "architecture", "conditions", "units", "GFLOP per image", "run alone", "saved", "memory"
    )
    rows = [
        (
            escape(row.name),
            row.arch,
            str(row.conditions),
            str(row.units),
            f"{row.merged / 1e9:.3g}",
            f"{row.separate / 1e9:.3g}",
            f"{row.saved:.0%}",
            _bytes(row.memory),
        )
        for row in price.models
    ]
    for cells in dict.fromkeys(rows):  # a model costs the same in each pass over variants of its data
        models.add_row(*cells)
    _show(models)
    streams = _table("pass over", "source", "images", "batch", "batches", "image blocks", "models")
    for one in price.passes:
        streams.add_row(
            escape(one.data),
            one.source,
            _count(one.images),
            str(one.batch),
            _count(one.batches),
            _count(one.blocks),
            escape(", ".join(one.models)),
        )
    _show(streams)
    metrics = _table("result", "metric", "sites", "under")
    for group in bound.groups:
        names = [site.name or "output" for site in group.x.sites]
        if group.y is not group.x:
            names = [f"{_span(names)} x {_span([site.name for site in group.y.sites])}"]
        under = group.views[0].id if len(group.views) == 1 else counted(len(group.views), "condition")
        metrics.add_row(escape(group.path), group.kind.name, escape(_span(names)), escape(under))
    _show(metrics)
    for note in bound.notes:
        click.echo(f"note: {note}")


def _span(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= 2 else f"{names[0]} ... {names[-1]} ({len(names)})"


def _count(number: int | None) -> str:
    return "all" if number is None else f"{number:,}"


def _bytes(number: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if number < 1024 or unit == "GiB":
            return f"{number:.3g} {unit}"
        number /= 1024
    raise AssertionError


@click.command(
    epilog="\b\nExamples:\n"
    "  vitdsl sites vit_base_patch16_224 'blocks.*' --role branch\n"
    "  vitdsl sites resnet50 'layer*.*'\n"
    "  vitdsl sites vit --study specs/skip_ablation.yaml --role attention\n"
)
@click.argument("model")
@click.argument("selectors", nargs=-1)
@click.option(
    "--role",
    type=click.Choice(["output", "stream", "branch", "skip", "attention", "heads", "input"]),
    default="output",
    show_default=True,
    help="Which tensor of a site.",
)
@click.option("--study", type=click.Path(path_type=Path), help="A study in which MODEL is a model's name.")
@click.option(
    "--option", "options", multiple=True, metavar="KEY=VALUE", help="An option of the architecture."
)
@click.option("--input-size", type=int, help="Pixels of the input, for models that take any size.")
@JSON
def sites(
    model: str,
    selectors: Sequence[str],
    role: str,
    study: Path | None,
    options: Sequence[str],
    input_size: int | None,
    as_json: bool,
) -> None:
    """List the sites of a model: names, shapes of one image's tensor, depth.

    MODEL is a timm architecture, or with --study the name of a model there. No weights are loaded.
    """
    from vitdsl.dsl.load import load_source, load_text

    if study is not None:
        loaded = load_source(study)
        if model not in loaded.study.models:
            raise click.UsageError(
                f"`{study}` has no model `{model}`; it has {', '.join(loaded.study.models)}"
            )
        entry = loaded.study.models[model]
    else:
        text = PROBE_STUDY.format(arch=json.dumps(model))
        settings = [f"models.it.options.{option}" for option in options]
        settings += [f"models.it.input_size={input_size}"] if input_size else []
        entry = load_text(text, "<command line>", overrides=settings).study.models["it"]
    from vitdsl.dsl.selectors import nearest
    from vitdsl.dsl.sweeps import variants
    from vitdsl.runtime.graph.sites import describe, sites_of
    from vitdsl.runtime.models.loading import skeleton
    from vitdsl.runtime.models.preprocessing import preprocessing
    from vitdsl.runtime.plan.matching import chosen

    first = variants(model, entry)[0].entry
    module = skeleton(first)
    found = sites_of(module, preprocessing(module, first).input_size)
    names = found.names(role)
    kept = chosen(found, role, list(selectors)) if selectors else names
    if not kept:
        near = ", ".join(f"`{one}`" for one in nearest(selectors[0], names)) if selectors and names else ""
        named = " ".join(f"`{shown(selector)}`" for selector in selectors)
        what = f"{named} matches no site" if selectors else "there is no site"
        raise click.UsageError(f"{what} with the role `{role}`" + (f"; nearest: {near}" if near else ""))
    rows = describe(found, role, kept)
    if as_json:
        click.echo(json.dumps({"schema": "vitdsl.sites/1", "model": first.arch, "sites": rows}, indent=2))
        return
    table = _table("site", "shape", "depth", "what")
    for row in rows:
        shape = "x".join(map(str, row["shape"])) if row["shape"] is not None else "windows"
        table.add_row(escape(row["site"]), shape, f"{row['depth']:.3f}", row["kind"])
    _show(table)


@click.command("list", epilog="\b\nExamples:\n  vitdsl list metrics\n  vitdsl list models 'vit_*dinov2*'\n")
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
    table = _table(what.removesuffix("s"), "pretrained tags" if what == "models" else "what it is")
    for row in rows:
        table.add_row(row["name"], escape(row["what"]))
    _show(table)


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
    from vitdsl.commands_language import registries
    from vitdsl.runtime.kinds import summary

    return [
        {"name": name, "what": summary(kind)}
        for name, kind in registries()[what].kinds().items()
        if fnmatchcase(name, glob)
    ]


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
    from vitdsl.runtime.results.folder import write_text

    path = file / "study.yaml" if file.is_dir() or file.suffix not in (".yaml", ".yml") else file
    if path.exists():
        raise click.UsageError(f"`{path}` exists already; give another name")
    write_text(path, (files("vitdsl") / "templates" / f"{template}.yaml").read_text("utf-8"))
    click.echo(f"wrote {path}: {TEMPLATES[template]}")
    click.echo(f"next: vitdsl check {path}, then vitdsl run {path}")


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    numeric = {
        "conditions",
        "units",
        "GFLOP per image",
        "run alone",
        "saved",
        "memory",
        "images",
        "batch",
        "batches",
    }
    for column in columns:
        right = column in (*numeric, "image blocks", "depth")
        table.add_column(column, justify="right" if right else "left", overflow="fold")
    return table


def _show(table: Table) -> None:
    """Print a table; names are never cut: a line that is too long for the terminal goes on in the next."""
    context = click.get_current_context(silent=True)
    color = context.color if context is not None else None
    console = Console(no_color=color is False, force_terminal=True if color else None, highlight=False)
    if len(table.columns) > 2 or not console.is_terminal:
        wide = Console(width=1000)
        console.width = max(console.width, wide.measure(table).maximum)
    with console.capture() as written:
        console.print(table)
    for line in written.get().splitlines():
        click.echo(line.rstrip(), color=console.is_terminal)
