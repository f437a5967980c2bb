"""The commands that compute: run, train; and report, which draws what a run left."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vitdsl.commands_language import SET
from vitdsl.output import Output
from vitdsl.progress import Told

if TYPE_CHECKING:
    from vitdsl.runtime.run.run import Outcome

MARKS = {"supported": "+", "refuted": "x", "undecided": "?"}
DEVICE = click.option("--device", default="auto", show_default=True, help="auto, cuda, cuda:1, mps or cpu.")
QUIET = click.option("-q", "--quiet", is_flag=True, help="No progress; errors and the answer only.")
JSON = click.option("--json", "as_json", is_flag=True, help="The answer as one JSON object.")


@click.command(
    epilog="\b\nExamples:\n"
    "  vitdsl run specs/skip_ablation.yaml\n"
    "  vitdsl run study.yaml --device cuda --dtype bf16 --set data.probe.images=5000\n"
    "  vitdsl run study.yaml --json | jq .report\n"
)
@click.argument("study", type=click.Path(path_type=Path))
@SET
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("runs"), show_default=True, help="Where runs go."
)
@DEVICE
@click.option(
    "--dtype",
    type=click.Choice(["float32", "bf16", "fp16"]),
    default="float32",
    show_default=True,
    help="Autocast of the models; Gram matrices stay float32, sums float64.",
)
@click.option("--check", "must_hold", is_flag=True, help="Exit with 1 unless every claim is supported.")
@click.option("--no-report", is_flag=True, help="Do not draw report.html.")
@JSON
@QUIET
@click.pass_obj
def run(
    output: Output,
    study: Path,
    overrides: Sequence[str],
    out: Path,
    device: str,
    dtype: str,
    must_hold: bool,
    no_report: bool,
    as_json: bool,
    quiet: bool,
) -> int:
    """Run a study: stream its images once, write the run folder and the report.

    The last line of the answer is the path of the report.
    """
    from vitdsl.dsl.load import load_source

    loaded = load_source(study, overrides=overrides)
    with Told(color=output.color, quiet=quiet) as told:
        told.say(f"study {loaded.study.study}: {loaded.study.title or study}")
        from vitdsl.runtime.plan.bind import bind
        from vitdsl.runtime.run.environment import device as find_device
        from vitdsl.runtime.run.run import run as run_plan

        chosen = find_device(device)
        outcome = run_plan(bind(loaded), out=out, device=chosen, dtype=dtype, progress=told)
        report_path = None
        if not no_report:
            told.say("draw the report")
            report_path = _draw(outcome.folder, None)
    if as_json:
        click.echo(json.dumps(_answer(outcome, report_path), ensure_ascii=False, indent=2))
    else:
        _print(outcome, report_path)
    claims = outcome.manifest["claims"].values()
    return 1 if must_hold and any(claim["verdict"] != "supported" for claim in claims) else 0


@click.command(epilog="\b\nExample:\n  vitdsl report runs/skip_ablation/20261122T110000Z-1a2b3c4d\n")
@click.argument("folder", metavar="RUN", type=click.Path(path_type=Path))
@click.option(
    "--out", type=click.Path(path_type=Path), help="Where the page goes; the run folder if not given."
)
@JSON
def report(folder: Path, out: Path | None, as_json: bool) -> None:
    """Draw the report of a run again, from its folder alone."""
    path = _draw(folder, out)
    click.echo(json.dumps({"schema": "vitdsl.report/1", "report": str(path)}) if as_json else str(path))


@click.command(
    epilog="\b\nExamples:\n  vitdsl train specs/zoo/digits.yaml\n  vitdsl train study.yaml vit --force\n"
)
@click.argument("study", type=click.Path(path_type=Path))
@click.argument("models", nargs=-1)
@SET
@click.option("--force", is_flag=True, help="Train even where the weights are stored.")
@click.option(
    "--store", type=click.Path(path_type=Path), help="The folder of weights to look in and write to."
)
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
    device: str,
    as_json: bool,
    quiet: bool,
) -> None:
    """Train the models of a study that have `train:`, and store their weights by recipe."""
    from vitdsl.dsl.load import load_source

    loaded = load_source(study, overrides=overrides)
    unknown = [name for name in models if name.partition("[")[0] not in loaded.study.models]
    if unknown:
        raise click.UsageError(
            f"the study has no model `{unknown[0]}`; it has {', '.join(loaded.study.models)}"
        )
    with Told(color=output.color, quiet=quiet) as told:
        from vitdsl.runtime.plan.bind import bind
        from vitdsl.runtime.run.environment import device as find_device
        from vitdsl.runtime.train.store import train_study
        from vitdsl.runtime.train.without import training_form

        forms = {name: training_form(planned) for name, planned in bind(loaded).models.items()}
        stored = train_study(
            loaded,
            names=models,
            force=force,
            store=store,
            progress=told,
            device=find_device(device),
            wraps={name: form["wrap"] for name, form in forms.items() if form},
            without={name: form["without"] for name, form in forms.items() if form},
        )
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


def _draw(folder: Path, out: Path | None) -> Path:
    from vitdsl.reports.render import write_report
    from vitdsl.runtime.results.folder import open_run

    return write_report(open_run(folder), out)


def _answer(outcome: "Outcome", report_path: Path | None) -> dict[str, Any]:
    manifest = outcome.manifest
    return {
        "schema": "vitdsl.run/1",
        "vitdsl": manifest["vitdsl"],
        "run": str(outcome.folder),
        "report": str(report_path) if report_path else None,
        "seconds": manifest["seconds"],
        "claims": manifest["claims"],
        "trust": manifest["trust"],
        "warnings": manifest["warnings"],
    }


def _print(outcome: "Outcome", report_path: Path | None) -> None:
    """Verdicts, trust and paths, in words."""
    manifest = outcome.manifest
    width = max((len(claim["verdict"]) for claim in manifest["claims"].values()), default=0)
    for claim in manifest["claims"].values():
        click.echo(f"{MARKS[claim['verdict']]} {claim['verdict']:<{width}}  {claim['say']}")
        click.echo(f"  {'':<{width}}  {sentence(claim)}")
    held = sum(check["ok"] for check in manifest["trust"])
    click.echo(f"trust checks: {held} of {len(manifest['trust'])} hold")
    for check in manifest["trust"]:
        if not check["ok"]:
            click.echo(f"  not held: {check['text']}")
    for warning in manifest["warnings"]:
        click.echo(f"note: {warning}", err=True)
    click.echo(f"run:    {outcome.folder}  ({manifest['seconds']:.1f} s)")
    if report_path:
        click.echo(f"report: {report_path}")


def sentence(claim: dict[str, Any]) -> str:
    """Both numbers, the difference and its interval."""
    left, right, difference = claim["left"], claim["right"], claim["difference"]
    unit = "" if left["units"] == "1" else f" {left['units']}"
    reach = (
        f"95 % interval {difference['low']:.3g} to {difference['high']:.3g}"
        if difference["low"] is not None and difference["low"] == difference["low"]
        else "no interval"
    )
    sides = f"{left['value']:.3g}{unit}" + (f" against {right['value']:.3g}{unit}" if right else "")
    why = f"; {claim['reason']}" if claim["reason"] else ""
    return f"{sides}; difference {difference['value']:.3g}, {reach}{why}"
