"""Explain an error code, metric, ablation or source.

Owns the search for what was meant. Does not own the pages: the catalogue of codes and each kind's own file.
"""

import re

import click

from vitdsl.commands._kinds import kinds, registries

PLACE = 100


@click.command(epilog="\b\nExamples:\n  vitdsl explain VD210\n  vitdsl explain cka\n")
@click.argument("subject", metavar="CODE|KIND")
def explain(subject: str) -> None:
    """Explain an error code, or a metric, ablation or source."""
    from vitdsl.dsl.codes import CATALOGUE, page

    code = subject.upper()
    if code in CATALOGUE:
        click.echo(page(CATALOGUE[code]))
        return
    from vitdsl.dsl.text import did_you_mean, shown

    if re.fullmatch(r"VD\d*", code):
        near = [[one for one in CATALOGUE if one.startswith(code[:end])] for end in (4, 3)]
        alike = near[0] or (near[1] if len(code) > 2 else [])
        hint = f"; there are {', '.join(alike)}" if alike else "; a code looks like VD210"
        raise click.UsageError(f"there is no error code `{shown(subject)}`{hint}")
    from vitdsl.runtime.kinds import explain as explain_kind

    registries()
    words: str | None = explain_kind(subject)
    if words is None:
        hint = did_you_mean(subject, [name for section in kinds().values() for name in section])
        raise click.UsageError(
            f"`{shown(subject)}` is neither an error code nor a kind; {hint or 'see `vitdsl list metrics`'}"
        )
    click.echo(words)
