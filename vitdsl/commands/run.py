"""Run a study and write its report.

Owns the order of the stages and the answer: verdicts, trust checks and paths, in words or as JSON. Does not own
any stage.
"""

import json
import time
from collections.abc import Sequence
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vitdsl.commands._folders import kind_of
from vitdsl.commands._options import DEVICE, JSON, QUIET, SET
from vitdsl.commands._tables import show, table
from vitdsl.dsl.text import counted, safe
from vitdsl.importing import importing
from vitdsl.output import Output
from vitdsl.progress import StderrProgress

if TYPE_CHECKING:
    from vitdsl.runtime.progress import Progress
    from vitdsl.runtime.results.manifest import Manifest
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


MOST_FINDINGS = 8
MARKS = {"supported": "+", "refuted": "x", "undecided": "?"}


@click.command(
    epilog="\b\nExamples:\n"
    "  vitdsl run specs/skip_ablation.yaml\n"
    "  vitdsl run studies/                 # every study of a folder, and one table of claims\n"
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
@click.option(
    "--open", "browse_it", is_flag=True, help="Open the report, or the page of all studies, in the browser."
)
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
    browse_it: bool,
    as_json: bool,
    quiet: bool,
) -> int:
    """Run a study: stream its images once, write the run folder and the report.

    Of a folder, all its studies one after the other, with one table of their claims at the end, and the same as a page,
    `index.html` among the runs. The last line of the answer is the path of the report, or of that page. What image
    blocks gave is kept beside the runs: a run that was killed goes on where it was, and what is there is not computed
    again. Image blocks can be dealt to several processes (torchrun) or shares (--shard) on one disk.
    """
    from vitdsl.dsl.load import inspect_source
    from vitdsl.runtime.ranks import Ranks, launched, own_device, together

    outcomes = []
    with StderrProgress(color=output.color, quiet=quiet or launched()[0] > 0) as progress:
        with together() as ranks:
            for path in _studies(study):
                loaded = inspect_source(path, overrides=overrides)
                if not loaded.problems:
                    progress.say(f"study {loaded.study.study}: {loaded.study.title or path}")
                with importing():
                    from vitdsl.runtime.plan.bind import bind
                    from vitdsl.runtime.run.environment import device as find_device
                    from vitdsl.runtime.run.memory import keep_freed_memory
                    from vitdsl.runtime.run.run import run as run_plan

                chosen = own_device(find_device(device))
                if chosen.type == "cpu":
                    keep_freed_memory()
                mine = ranks if shard is None else Ranks(*shard, shard=True)
                plan = bind(loaded)
                outcomes.append(
                    run_plan(
                        plan, out=out, device=chosen, dtype=dtype, progress=progress, ranks=mine, force=force
                    )
                )
        led = [outcome for outcome in outcomes if outcome.folder is not None]
        if not led:
            if shard is not None:
                click.echo(
                    f"shard {shard[0] + 1}/{shard[1]} is done; run without --shard to merge what is there"
                )
            return 0
        drawn = time.perf_counter()
        reports = _reports(led, progress) if not no_report else [None] * len(led)
        drawing = (time.perf_counter() - drawn) / len(led)
        answers = list(zip(led, reports, strict=True))
        pages = [page for page in reports if page is not None]
        if study.is_dir():
            from vitdsl.reports.index import write_index

            pages = [write_index(out, [(outcome.manifest, page) for outcome, page in answers])]
    if as_json:
        found = [_answer(*one) for one in answers]
        click.echo(json.dumps(found if study.is_dir() else found[0], ensure_ascii=False, indent=2))
    else:
        for one in answers:
            _print(*one, drawing)
        if study.is_dir():
            _print_all(led, pages[0])
    if browse_it and pages:
        from vitdsl.commands._pages import browse

        browse(pages[0])
    claims = [claim for outcome in led for claim in outcome.manifest.claims.values()]
    return 1 if must_hold and any(claim.verdict != "supported" for claim in claims) else 0


def _studies(path: Path) -> list[Path]:
    """The study, or the studies of a folder by name: its YAML files with a `study:`."""
    if not path.is_dir():
        return [path]
    files = sorted(one for one in path.iterdir() if one.suffix in (".yaml", ".yml") and one.is_file())
    return [one for one in files if kind_of(one) == "study"] or [path]


def _reports(outcomes: Sequence["Outcome"], progress: "Progress") -> list[Path | None]:
    """Draw the report of each run."""
    with importing():
        from vitdsl.reports.render import write_report
        from vitdsl.runtime.results.folder import open_run

    progress.begin("draw", len(outcomes), "reports")
    found: list[Path | None] = []
    for outcome in outcomes:
        assert outcome.folder is not None
        found.append(write_report(open_run(outcome.folder)))
        progress.step(1, outcome.manifest.study)
    progress.end()
    return found


def _print_all(outcomes: Sequence["Outcome"], index: Path) -> None:
    """One table of the claims of all studies, and the page that has it."""
    from vitdsl.commands._pages import say

    rows = table("study", "verdict", "claim")
    for outcome in outcomes:
        manifest = outcome.manifest
        for claim in manifest.claims.values():
            rows.add_row(safe(manifest.study), f"{MARKS[claim.verdict]} {claim.verdict}", safe(claim.say))
    seconds = sum(outcome.manifest.seconds or 0.0 for outcome in outcomes)
    click.echo(f"\n{counted(len(outcomes), 'study', 'studies')} in {seconds:.0f} s")
    if rows.row_count:
        show(rows)
    say("index:  ", index)


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


def _print(outcome: "Outcome", report_path: Path | None, drawing: float) -> None:
    """Verdicts or what the figures say, trust, times and paths, in words."""
    from vitdsl.runtime.results.qualifications import about_all, qualifications

    manifest = outcome.manifest
    width = max((len(claim.verdict) for claim in manifest.claims.values()), default=0)
    for claim in manifest.claims.values():
        click.echo(f"{MARKS[claim.verdict]} {claim.verdict:<{width}}  {safe(claim.say)}")
        click.echo(f"  {'':<{width}}  {safe(sentence(claim))}")
        click.echo(f"  {'':<{width}}  {safe('; '.join(qualifications(claim)))}")
    if not manifest.claims:
        _print_findings(outcome)
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
    click.echo(_times(manifest, drawing if report_path else 0.0))
    click.echo(f"run:    {outcome.folder}")
    if report_path:
        from vitdsl.commands._pages import say

        say("report: ", report_path)


def _print_findings(outcome: "Outcome") -> None:
    """What the figures of a run without claims say first."""
    from vitdsl.reports.opening import headlines
    from vitdsl.runtime.results.folder import open_run

    assert outcome.folder is not None
    said = headlines(open_run(outcome.folder))
    for text in said[:MOST_FINDINGS]:
        first, *rest = text.splitlines()
        click.echo(f"- {safe(first)}")
        for line in rest:
            click.echo(f"  {safe(line)}")
    if len(said) > MOST_FINDINGS:
        click.echo(f"  and of {counted(len(said) - MOST_FINDINGS, 'more metric')} in the report")


def _times(manifest: "Manifest", drawing: float) -> str:
    """How long it took, and its longer parts."""
    from vitdsl.runtime.results.times import parts

    took = {**parts(manifest.timings), **({"drawing": drawing} if drawing else {})}
    listed = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in took.items())
    return f"time:   {(manifest.seconds or 0.0) + drawing:.1f} s" + (f" ({listed})" if listed else "")


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
