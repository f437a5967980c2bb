"""What a run answers, in words or as JSON: verdicts or what its figures say, trust, times and paths.

Owns the words on the terminal. Does not own what ran (`run`), or the report (`vitdsl.reports`).
"""

from collections.abc import Sequence
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vitdsl.commands._tables import show, table
from vitdsl.dsl.text import counted, safe
from vitdsl.importing import importing
from vitdsl.unchanged import Done

if TYPE_CHECKING:
    from vitdsl.runtime.results.folder import Outcome
    from vitdsl.runtime.results.verdicts import Verdict

MOST_FINDINGS = 8
MARKS = {"supported": "+", "refuted": "x", "undecided": "?"}


def print_all(outcomes: Sequence["Outcome"], index: Path) -> None:
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


def as_answer(done: Done) -> dict[str, Any]:
    """The answer as JSON."""
    from vitdsl.runtime.results.record import as_json

    manifest = done.outcome.manifest
    written = as_json(manifest)
    return {
        "schema": "vitdsl.run/1",
        "vitdsl": manifest.vitdsl,
        "run": str(done.outcome.folder),
        "report": str(done.report) if done.report else None,
        "unchanged": done.plan is None,
        "seconds": manifest.seconds,
        "predicted": written["predicted"],
        "claims": written["claims"],
        "earlier": written["earlier"],
        "seal": written["seal"],
        "trust": written["trust"],
        "warnings": list(manifest.warnings),
    }


def print_one(done: Done) -> None:
    """Verdicts or what the figures say, trust, times and paths, in words."""
    from vitdsl.runtime.results.qualifications import about_all, qualifications

    outcome, manifest = done.outcome, done.outcome.manifest
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
    if moved := manifest.most_moved:
        click.echo(f"not exact: {safe(moved.text)}")
    held = sum(check.ok for check in manifest.trust)
    click.echo(f"trust checks: {held} of {len(manifest.trust)} passed")
    for check in manifest.trust:
        if not check.ok:
            click.echo(f"  failed: {safe(check.text)}")
    for warning in manifest.warnings:
        click.echo(f"note: {safe(warning)}", err=True)
    click.echo(_times(done))
    click.echo(f"run:    {outcome.folder}")
    if done.report:
        from vitdsl.commands._pages import say

        say("report: ", done.report)


def _print_findings(outcome: "Outcome") -> None:
    """What the figures of a run without claims say first."""
    with importing():
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


def _times(done: Done) -> str:
    """How long it took, and its longer parts."""
    from vitdsl.runtime.results.times import parts

    manifest = done.outcome.manifest
    took = {**parts(manifest.timings), **({"drawing": done.drawing} if done.drawing else {})}
    listed = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in took.items())
    said = f"{(manifest.seconds or 0.0) + done.drawing:.1f} s" + (f" ({listed})" if listed else "")
    if manifest.predicted is not None and done.plan is not None:
        undrawn = 0.0 if done.drawing else manifest.predicted.parts.get("drawing", 0.0)
        said += f"; predicted {manifest.predicted.seconds - undrawn:.1f} s"
    return f"time:   {said}, at {manifest.started_at}" if done.plan is None else f"time:   {said}"


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
