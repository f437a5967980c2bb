"""Show what a run will do and cost.

Owns the tables of a plan and the words in them. Does not own the plan or its cost.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast

import click
from rich.markup import escape

from vitdsl.commands._options import DEVICE, JSON, MEMORY, SET
from vitdsl.commands._tables import show, table
from vitdsl.dsl.sizes import sized
from vitdsl.dsl.text import counted
from vitdsl.importing import importing

if TYPE_CHECKING:
    from vitdsl.runtime.plan.plan import Plan
    from vitdsl.runtime.results.manifest import Predicted
    from vitdsl.runtime.run.cost import Cost

Row = TypeVar("Row", bound=tuple[str, ...])
PLACE = 30
ROWS = 20
"""A table with more rows is cut to its first and last; `--json` has all."""


@click.command(epilog="\b\nExample:\n  vitdsl plan specs/skip_ablation.yaml\n")
@click.argument("study", type=click.Path(path_type=Path))
@SET
@DEVICE
@click.option(
    "--calibrate", is_flag=True, help="Measure anew how fast this machine is; it takes a few seconds."
)
@MEMORY
@JSON
def plan(
    study: Path,
    overrides: Sequence[str],
    device: str,
    calibrate: bool,
    memory: float | None,
    as_json: bool,
) -> None:
    """Show what a run will do and cost: conditions, matched sites, passes, work saved, memory, time.

    Needs no weights, no GPU, and no images: a folder that is not here is said. How fast this machine is was measured by
    the first plan on it, or is now, and kept; a run then says beside its time what was predicted.
    """
    from vitdsl.dsl.diagnostics import Diagnostic
    from vitdsl.dsl.load import inspect_source
    from vitdsl.dsl.render import not_here

    loaded = inspect_source(study, overrides=overrides)
    with importing():
        from vitdsl.runtime.plan.bind import bind
        from vitdsl.runtime.run.budget import room
        from vitdsl.runtime.run.calibration import calibration
        from vitdsl.runtime.run.cost import predicted
        from vitdsl.runtime.run.environment import device as find_device

    missing: list[Diagnostic] = []
    bound = bind(loaded, missing=missing)
    chosen = find_device(device)
    price, outlook = predicted(bound, calibration(chosen, anew=calibrate), room(chosen, memory))
    absent = [not_here(one) for one in missing]
    if as_json:
        found = {
            "schema": "vitdsl.plan/1",
            **price.as_dict(bound),
            "predicted": outlook.model_dump(),
            "missing": absent,
        }
        click.echo(json.dumps(found, indent=2, ensure_ascii=False))
    else:
        _print_plan(bound, price)
        click.echo(_said(outlook))
        for line in absent:
            click.echo(line)


def _print_plan(bound: "Plan", price: "Cost") -> None:
    study = bound.loaded.study
    counts = f"{counted(bound.conditions, 'condition')}, {counted(len(price.passes), 'pass', 'passes')}"
    click.echo(f"{study.study}: {counts} over images")
    numbers = ("conditions", "units", "GFLOP per image", "run alone", "saved", "memory")
    models = table("model", "architecture", *numbers, numeric=numbers)
    rows = [
        (
            escape(row.name),
            row.arch,
            str(row.conditions),
            str(row.units),
            f"{row.merged / 1e9:.3g}",
            f"{row.separate / 1e9:.3g}",
            f"{row.saved:.0%}",
            sized(row.memory),
        )
        for row in price.models
    ]
    for cells in _page(
        list(dict.fromkeys(rows))
    ):  # a model costs the same in each pass over variants of its data
        models.add_row(*cells)
    show(models)
    sizes = ("images", "batch", "batches", "image blocks")
    streams = table("pass over", "source", *sizes, "models", numeric=sizes)
    passes = [
        (
            escape(one.data),
            one.source,
            _count(one.images),
            str(one.batch),
            _count(one.batches),
            _count(one.blocks),
            escape(_some(one.models)),
        )
        for one in price.passes
    ]
    for stream in _page(passes):
        streams.add_row(*stream)
    show(streams)
    metrics = table("result", "metric", "sites", "under")
    results = []
    for group in bound.groups:
        names = [site.name or "output" for site in group.x.sites]
        if group.y is not group.x:
            names = [f"{_span(names)} x {_span([site.name for site in group.y.sites])}"]
        under = group.views[0].id if len(group.views) == 1 else counted(len(group.views), "condition")
        results.append((escape(group.path), group.kind.name, escape(_span(names)), escape(under)))
    for found in _page(results):
        metrics.add_row(*found)
    show(metrics)
    for one in price.passes:
        if one.split is not None:
            click.echo(f"split: {one.split.words}")
    for note in bound.notes[:ROWS]:
        click.echo(f"note: {note}")
    if len(bound.notes) > ROWS:
        click.echo(f"note: {counted(len(bound.notes) - ROWS, 'more note')}, see `--json`")


def _said(outlook: "Predicted") -> str:
    """How long a run will take, and how much memory."""
    training = outlook.parts.get("training")
    whole = _lasting(outlook.seconds) + (f" ({_lasting(training)} of it training)" if training else "")
    without = f", without {', '.join(outlook.unknown)}" if outlook.unknown else ""
    day = outlook.calibrated_at[:10]
    return f"predicted {whole}, {outlook.memory / 1e9:.2g} GB{without} (calibrated {day})"


def _lasting(seconds: float) -> str:
    from vitdsl.runtime.progress import lasting

    return f"{seconds:.1f} s" if seconds < 10 else lasting(seconds)


def _page(rows: Sequence[Row]) -> Sequence[Row]:
    """The rows that a page has room for: where they are too many, the first and the last, and how many between."""
    if len(rows) <= ROWS:
        return rows
    left_out = len(rows) - ROWS + 1
    between = (f"... {left_out:,} more", *[""] * (len(rows[0]) - 1))
    return [*rows[: ROWS - 2], cast("Row", between), rows[-1]]


def _some(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= ROWS else f"{names[0]} ... {names[-1]} ({len(names)})"


def _span(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= 2 else f"{names[0]} ... {names[-1]} ({len(names)})"


def _count(number: int | None) -> str:
    return "all" if number is None else f"{number:,}"
