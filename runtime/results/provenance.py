"""What came before a run, for its manifest: the seal of its study, and earlier runs with other claims. Free of torch.

Owns the fields, and the sentences that the terminal and the report share. Does not own how a seal or an earlier run is
found (`vitdsl.runtime.run.before`), or how two forms of a study are compared (`vitdsl.dsl.written`).
"""

from datetime import UTC, datetime

from vitdsl.dsl.text import counted, ticked
from vitdsl.dsl.written import Changes, Fixed
from vitdsl.dsl.written import Written as Written

SHORT = 12
"""Characters of a hash in a sentence."""


class Ran(Fixed):
    """A run, as another one names it."""

    run_id: str
    started_at: str


class Earlier(Fixed):
    """Successful runs of this study ended before this run began, and had other claims.

    Attributes:
        run: The first of them that had other claims: that of the first run where it had, of a later one otherwise.
        changes: How this run's study differs from that run's; `gone` are claims that any earlier run had.
        runs: How many earlier runs had other claims.
        as_first: Whether the claims are again those of the first run.
    """

    run: Ran
    changes: Changes
    runs: int
    as_first: bool


class Sealed(Fixed):
    """The seal beside the study, and what differs from it.

    Attributes:
        file: Name of the seal's file.
        study: What the study was called then.
        sealed_at: When it was sealed, as the seal says.
        vitdsl: The version that sealed it.
        sha256: Hash of the whole seal.
        claims_sha256: Hash of the claims then.
        rest_sha256: Hash of the rest then.
        changes: How the study differs now.
        run_before: The first successful run of the study that ended before it was sealed.
    """

    file: str
    study: str
    sealed_at: str
    vitdsl: str
    sha256: str
    claims_sha256: str
    rest_sha256: str
    changes: Changes
    run_before: Ran | None = None


def said_of(earlier: Earlier | None, seal: Sealed | None, *, study: str, vitdsl: str) -> list[str]:
    """What stands beside the verdicts: nothing where there is no seal, and no earlier run had other claims.

    Args:
        earlier: The earlier run that had other claims.
        seal: The seal.
        study: What the study is called now.
        vitdsl: The version that ran it.
    """
    said = [of_earlier(earlier)] if earlier else []
    return said + ([of_seal(seal, study=study, vitdsl=vitdsl)] if seal else [])


def of_earlier(found: Earlier) -> str:
    """Which claims are not as they were before the first look, in a sentence or two."""
    when = f"{moment(found.run.started_at)} (`{found.run.run_id}`)"
    names = _how(found.changes)
    more = f"; {counted(found.runs, 'earlier run')} had other claims" if found.runs > 1 else ""
    if found.as_first:
        return (
            f"These are the claims of the first run of this study. A run in between, of {when}, had others"
            f"{more}: {names}."
        )
    rest = (
        f"Changed in the study as well: {ticked(found.changes.rest)}."
        if found.changes.rest
        else "Nothing else in the study was changed."
    )
    return f"These claims were changed after a run of this study on {when}{more}: {names}. {rest}"


def of_seal(found: Sealed, *, study: str, vitdsl: str) -> str:
    """What the seal says of this run, in a sentence or more.

    Args:
        found: The seal.
        study: What the study is called now.
        vitdsl: The version that ran it.
    """
    changed = [_how(found.changes)] if found.changes.of_claims else []
    if found.changes.rest:
        changed.append(f"in the study {ticked(found.changes.rest)}")
    if found.study != study:
        changed.append(f"the study's name, which was `{found.study}`")
    said = f"Sealed on {moment(found.sealed_at)} as {found.sha256[:SHORT]}; "
    said += f"changed since: {', and '.join(changed)}." if changed else "claims and study are as sealed."
    if found.vitdsl != vitdsl:
        said += f" It was sealed with vitdsl {found.vitdsl} and run with {vitdsl}, whose defaults may differ."
    if found.run_before:
        before = found.run_before
        said += (
            f" A run of this study, on {moment(before.started_at)} (`{before.run_id}`), came before the seal."
        )
    return said


def holds(found: Sealed, study: str) -> bool:
    """Whether the study is as it was sealed, before any run that is known."""
    return not found.changes and found.study == study and found.run_before is None


def _how(changes: Changes) -> str:
    """Such as `a`, `b` (changed), `c` (new)."""
    kinds = dict.fromkeys(changes.of_claims.values())
    return ", ".join(
        f"{ticked([name for name, other in changes.of_claims.items() if other == kind])} ({kind})"
        for kind in kinds
    )


def moment(text: str) -> str:
    """A date in ISO 8601 as a reader has it: `2026-11-02 11:00 UTC`."""
    try:
        return f"{datetime.fromisoformat(text).astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    except ValueError:
        return text
