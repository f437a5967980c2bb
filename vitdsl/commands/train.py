"""Train the models of a study and store their weights."""

import json
from collections.abc import Sequence
from pathlib import Path

import click

from vitdsl.commands._options import DEVICE, JSON, QUIET, SET
from vitdsl.importing import importing
from vitdsl.output import Output
from vitdsl.progress import StderrProgress

PLACE = 70


@click.command(
    epilog="\b\nExamples:\n  vitdsl train specs/zoo/digits.yaml\n  vitdsl train study.yaml vit --force\n"
    "  torchrun --nproc-per-node 4 -m vitdsl train study.yaml\n"
)
@click.argument("study", type=click.Path(path_type=Path))
@click.argument("models", nargs=-1)
@SET
@click.option("--force", is_flag=True, help="Train even where the weights are stored.")
@click.option(
    "--store", type=click.Path(path_type=Path), help="The folder of weights to look in and write to."
)
@click.option("--half", is_flag=True, help="Round the weights to 16 bits, for files of half the size.")
@DEVICE
@JSON
@QUIET
@click.pass_obj
def train(
    output: Output,
    study: Path,
    models: Sequence[str],
    overrides: Sequence[str],
    force: bool,
    store: Path | None,
    half: bool,
    device: str,
    as_json: bool,
    quiet: bool,
) -> None:
    """Train the models of a study that have `train:`, and store their weights by recipe."""
    from vitdsl.dsl.load import load_source
    from vitdsl.runtime.ranks import launched, own_device, together

    with (
        StderrProgress(color=output.color, quiet=quiet or launched()[0] > 0) as progress,
        together() as ranks,
    ):
        loaded = load_source(study, overrides=overrides)
        unknown = [name for name in models if name.partition("[")[0] not in loaded.study.models]
        if unknown:
            raise click.UsageError(
                f"the study has no model `{unknown[0]}`; it has {', '.join(loaded.study.models)}"
            )
        with importing():
            from vitdsl.runtime.plan.bind import bind
            from vitdsl.runtime.run.calibration import kept
            from vitdsl.runtime.run.environment import device as find_device
            from vitdsl.runtime.run.memory import keep_freed_memory
            from vitdsl.runtime.run.training import Trainings
            from vitdsl.runtime.train.store import train_study
            from vitdsl.runtime.train.without import training_form

        chosen = own_device(find_device(device))
        if chosen.type == "cpu":
            keep_freed_memory()
        plan = bind(loaded)
        forms = {name: training_form(planned) for name, planned in plan.models.items()}
        speed = kept(chosen) if ranks.size == 1 else None
        stored = train_study(
            loaded,
            names=models,
            force=force,
            store=store,
            progress=progress,
            device=chosen,
            wraps={name: form["wrap"] for name, form in forms.items() if form},
            without={name: form["without"] for name, form in forms.items() if form},
            ranks=ranks,
            half=half,
            expected=Trainings(plan, speed).seconds if speed else None,
        )
    if not ranks.leads:
        return
    if as_json:
        rows = [
            {"model": s.name, "key": s.key, "file": str(s.path), "trained": s.trained, **s.stats}
            for s in stored
        ]
        click.echo(json.dumps({"schema": "vitdsl.train/1", "models": rows}, indent=2))
        return
    for one in stored:
        click.echo(f"{one.name}: {'trained' if one.trained else 'found trained'}, {one.path}")
    if not stored:
        click.echo("no model of this study has `train:`")
