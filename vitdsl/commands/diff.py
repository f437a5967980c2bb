"""Compare two runs: what differs in studies, machines, numbers and verdicts.

Owns the words on the terminal. Does not own what differs (`vitdsl.runtime.results.diff`), or the page
(`vitdsl.reports.diff`).
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vitdsl.commands._options import JSON
from vitdsl.commands._runs import RUNS, find_run
from vitdsl.commands._tables import show, table
from vitdsl.dsl.text import counted, safe

if TYPE_CHECKING:
    from vitdsl.runtime.results.diff import Diff
    from vitdsl.runtime.results.diff_facts import Fact

PLACE = 53
MOST = 20
"""Rows of a table on the terminal; JSON and the page have more."""


@click.command(
    epilog="\b\nExamples:\n"
    "  vitdsl diff latest~1 latest\n"
    "  vitdsl diff runs/a/20261122T110000Z-1a2b3c4d runs/a/20261122T120000Z-1a2b3c4d --html diff.html\n"
    "  vitdsl diff skip_ablation~1 skip_ablation --json | jq .numbers.moved\n"
)
@click.argument("a")
@click.argument("b")
@click.option(
    "--html", type=click.Path(path_type=Path), metavar="FILE", help="Write a page with figures as well."
)
@click.option(
    "--check", "must_hold", is_flag=True, help="Exit with 1 where a number moved or a verdict changed."
)
@RUNS
@JSON
def diff(a: str, b: str, html: Path | None, must_hold: bool, runs_: Path, as_json: bool) -> int:
    """Compare two runs: can they be compared, what differs in the studies, the machines, the numbers, the verdicts.

    A and B are run folders, `latest`, or a study's name; `~1` behind it means the run before. Exits with 0 where they
    are the same or can be compared, with 1 where nothing of them can.
    """
    from vitdsl.commands._pages import say
    from vitdsl.runtime.results.diff import as_json as all_of
    from vitdsl.runtime.results.diff import diff as compare
    from vitdsl.runtime.results.folder import open_run

    found = compare(*(open_run(find_run(word, runs_)) for word in (a, b)))
    if html is not None:
        from vitdsl.reports.diff import render
        from vitdsl.runtime.results.writing import write_text

        write_text(html, render(found))
    if as_json:
        page = {"report": str(html)} if html is not None else {}
        click.echo(json.dumps(all_of(found) | page, ensure_ascii=False, indent=2))
    else:
        _print(found)
        if html is not None:
            say("page: ", html)
    changed = found.moved or any(one.a and one.b for one in found.claims)
    return 1 if found.answer == "not comparable" or (must_hold and changed) else 0


def _print(found: "Diff") -> None:
    """All of it, in words: the answer first."""
    from vitdsl.runtime.results.diff import about_numbers, cautions, verdict

    for letter, run in (("A", found.a), ("B", found.b)):
        click.echo(
            f"{letter}  {safe(str(run.path))}  ({safe(run.manifest.study)}, {run.manifest.started_at})"
        )
    click.echo(safe(verdict(found)))
    if found.answer == "same":
        return
    for caution in cautions(found):
        click.echo(f"note: {safe(caution)}")
    _facts("What the numbers depend on", [one for facts in found.differing().values() for one in facts])
    _fields(found)
    _facts("The environment", [one for one in found.environment if not one.same])
    click.echo("\nThe numbers")
    for said in about_numbers(found):
        click.echo(said)
    _numbers(found)
    _only(found)
    _claims(found)


def _rows(title: str, total: int, *columns: str, rows: Sequence[tuple[str, ...]]) -> None:
    """A titled table, cut to so many rows."""
    from rich.markup import escape

    click.echo(f"\n{title}" + (f": the first {MOST} of {total:,}" if total > MOST else ""))
    answer = table(*columns)
    for row in rows[:MOST]:
        answer.add_row(*(escape(safe(cell)) for cell in row))
    show(answer)


def _facts(title: str, facts: "list[Fact]") -> None:
    if facts:
        rows = [(one.in_words, one.a, one.b) for one in facts]
        _rows(title, len(rows), "what", "A", "B", rows=rows)


def _fields(found: "Diff") -> None:
    if not found.fields:
        click.echo("\nThe studies: the same, field by field")
        return
    rows = []
    for one in found.fields:
        sides = [f"{side.text}  ({side.origin}; line {side.line})" if side else "" for side in (one.a, one.b)]
        rows.append((one.path, *sides))
    _rows("The studies, as resolved (spec.resolved.yaml)", len(rows), "field", "A", "B", rows=rows)


def _numbers(found: "Diff") -> None:
    from vitdsl.runtime.results.diff_numbers import in_words

    rows = [
        (
            f"{one.path}.{one.value}",
            in_words(one.labels),
            _three(one.a),
            _three(one.b),
            _three(one.difference),
        )
        for one in found.numbers[:MOST]
    ]
    if rows:
        title = "Moved most against their own interval in A"
        _rows(title, found.moved, "number", "of", "A", "B", "B minus A", rows=rows)


def _three(found: tuple[float, float, float]) -> str:
    value, low, high = found
    return f"{value:.4g} [{low:.4g}, {high:.4g}]" if low == low and high == high else f"{value:.4g}"


def _only(found: "Diff") -> None:
    from vitdsl.runtime.results.diff_numbers import listed

    if found.only:
        rows = [(one.run, one.path, one.what, listed(one.labels)) for one in found.only]
        _rows("In one run alone", len(rows), "in", "group", "what", "which", rows=rows)


def _claims(found: "Diff") -> None:
    if not found.claims:
        count = len(found.a.manifest.claims)
        click.echo(
            f"\nThe claims: {counted(count, 'verdict')}, none changed" if count else "\nThe claims: none"
        )
        return
    rows = [
        (one.a or "not there", one.b or "not there", one.say + (" (rewritten)" if one.rewritten else ""))
        for one in found.claims
    ]
    _rows("The claims whose verdict is another", len(rows), "A", "B", "claim", rows=rows)
