"""Run a study and write its report.

Owns the order of the stages and the answer: verdicts, trust checks and paths, in words or as JSON. Does not own
any stage.
"""

import json
from collections.abc import Sequence
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vitdsl.commands._options import DEVICE, JSON, QUIET, SET
from vitdsl.dsl.text import safe
from vitdsl.output import Output
from vitdsl.progress import StderrProgress

if TYPE_CHECKING:
    from vitdsl.runtime.results.verdicts import Verdict
    from vitdsl.runtime.run.run import Outcome

PLACE = 10


def _shard(context: click.Context, parameter: click.Parameter, text: str | None) -> tuple[int, int] | None:
    """`3/16` as a number from 0 and a count."""
    if text is None:
        return None
    part, slash, count = text.partition("/")
    if not (slash and part.isdecimal() and count.isdecimal() and 1 <= int(part) <= int(count)):
        raise click.BadParameter(f"`{text}` is not a share such as 3/16: from 1/16 to 16/16")
    return int(part) - 1, int(count)


MARKS = {"supported": "+", "refuted": "x", "undecided": "?"}


@click.command(
    epilog="\b\nExamples:\n"
    "  vitdsl run specs/skip_ablation.yaml\n"
    "  vitdsl run study.yaml --device cuda --dtype bf16 --set data.probe.images=5000\n"
    "  vitdsl run study.yaml --json | jq .report\n"
    "  torchrun --nproc-per-node 4 -m vitdsl run study.yaml\n"
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
@click.option("--force", is_flag=True, help="Compute again what is there already.")
@click.option(
    "--shard",
    metavar="I/N",
    callback=_shard,
    help="Compute one of N shares and stop; a run then merges them.",
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
    force: bool,
    shard: tuple[int, int] | None,
    must_hold: bool,
    no_report: bool,
    as_json: bool,
    quiet: bool,
) -> int:
    """Run a study: stream its images once, write the run folder and the report.

    The last line of the answer is the path of the report. What image blocks gave is kept beside the runs: a run that
    was killed goes on where it was, and what is there is not computed again. Image blocks can be dealt to several
    processes (torchrun) or shares (--shard) on one disk.
    """
    from vitdsl.dsl.load import load_source
    from vitdsl.runtime.ranks import Ranks, launched, own_device, together

    with StderrProgress(color=output.color, quiet=quiet or launched()[0] > 0) as progress:
        with together() as ranks:
            loaded = load_source(study, overrides=overrides)
            progress.say(f"study {loaded.study.study}: {loaded.study.title or study}")
            from vitdsl.runtime.plan.bind import bind
            from vitdsl.runtime.run.environment import device as find_device
            from vitdsl.runtime.run.run import run as run_plan

            chosen = own_device(find_device(device))
            if shard is not None:
                ranks = Ranks(*shard, shard=True)
            outcome = run_plan(
                bind(loaded), out=out, device=chosen, dtype=dtype, progress=progress, ranks=ranks, force=force
            )
        if outcome.folder is None:
            if shard is not None:
                click.echo(
                    f"shard {shard[0] + 1}/{shard[1]} is done; run without --shard to merge what is there"
                )
            return 0
        report_path = None
        if not no_report:
            progress.say("draw the report")
            from vitdsl.reports.render import write_report
            from vitdsl.runtime.results.folder import open_run

            report_path = write_report(open_run(outcome.folder))
    if as_json:
        click.echo(json.dumps(_answer(outcome, report_path), ensure_ascii=False, indent=2))
    else:
        _print(outcome, report_path)
    claims = outcome.manifest.claims.values()
    return 1 if must_hold and any(claim.verdict != "supported" for claim in claims) else 0


def _answer(outcome: "Outcome", report_path: Path | None) -> dict[str, Any]:
    from vitdsl.runtime.results.record import as_json

    manifest = outcome.manifest
    written = as_json(manifest)
    return {
        "schema": "vitdsl.run/1",
        "vitdsl": manifest.vitdsl,
        "run": str(outcome.folder),
        "report": str(report_path) if report_path else None,
        "seconds": manifest.seconds,
        "claims": written["claims"],
        "earlier": written["earlier"],
        "seal": written["seal"],
        "trust": written["trust"],
        "warnings": list(manifest.warnings),
    }


def _print(outcome: "Outcome", report_path: Path | None) -> None:
    """Verdicts, trust and paths, in words."""
    from vitdsl.runtime.results.qualifications import about_all, qualifications

    manifest = outcome.manifest
    width = max((len(claim.verdict) for claim in manifest.claims.values()), default=0)
    for claim in manifest.claims.values():
        click.echo(f"{MARKS[claim.verdict]} {claim.verdict:<{width}}  {safe(claim.say)}")
        click.echo(f"  {'':<{width}}  {safe(sentence(claim))}")
        click.echo(f"  {'':<{width}}  {safe('; '.join(qualifications(claim)))}")
    if about := about_all(len(manifest.claims)):
        click.echo(about)
    if manifest.earlier or manifest.seal:
        from vitdsl.runtime.results.provenance import said_of

        for text in said_of(manifest.earlier, manifest.seal, study=manifest.study, vitdsl=manifest.vitdsl):
            click.echo(safe(text))
    held = sum(check.ok for check in manifest.trust)
    click.echo(f"trust checks: {held} of {len(manifest.trust)} hold")
    for check in manifest.trust:
        if not check.ok:
            click.echo(f"  not held: {safe(check.text)}")
    for warning in manifest.warnings:
        click.echo(f"note: {safe(warning)}", err=True)
    click.echo(f"run:    {outcome.folder}  ({manifest.seconds or 0.0:.1f} s)")
    if report_path:
        click.echo(f"report: {report_path}")


def sentence(claim: "Verdict") -> str:
    """Both numbers, the difference and its interval."""
    left, right, difference = claim.left, claim.right, claim.difference
    unit = "" if left.units == "1" else f" {left.units}"
    reach = (
        "no interval"
        if isnan(difference.low)
        else f"95 % interval {difference.low:.3g} to {difference.high:.3g}"
    )
    sides = f"{left.value:.3g}{unit}" + (f" against {right.value:.3g}{unit}" if right else "")
    why = f"; {claim.reason}" if claim.reason else ""
    return f"{sides}; difference {difference.value:.3g}, {reach}{why}"
