"""Key numbers of the models, and trust checks, as tables."""

from math import isnan
from typing import Any

from vitdsl.reports import sentences
from vitdsl.reports.labels import number
from vitdsl.reports.names import names_of
from vitdsl.reports.sections import Section
from vitdsl.runtime.results.folder import Run

DASH = "\N{EN DASH}"
MOST_MODELS = 24
MOST_CHECKS = 100


def models(run: Run, gathered: list[Section]) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """Key numbers: facts of each model, and every value of the intact model."""
    known = run.manifest.models
    names = list(known)[:MOST_MODELS]
    rows = [
        ("architecture", [known[name].arch for name in names]),
        ("parameters", [number(known[name].parameters) for name in names]),
        ("units", [DASH if known[name].unfollowed else number(known[name].units) for name in names]),
    ]
    rows = rows if names else []
    for section in gathered:
        for parts in section.values.values():
            by_model = {part.ids[0]: part for part in parts if part.scalar and len(part.ids) == 1}
            cells = {}
            for name in names:
                part = by_model.get(name)
                if part is not None and part.intact == part.intact:
                    cells[name] = sentences.at(part, part.conditions.index("baseline"))
            trivial = {part.intact for part in by_model.values()} == {0.0}
            if cells and not trivial and not any(part.relative for part in by_model.values()):
                label = f"{next(iter(parts)).name}, intact"
                rows.append((label, [cells.get(name, DASH) for name in names]))
    called = names_of(run.manifest)
    return [called.model(name) for name in names], rows


def trust(run: Run) -> list[dict[str, Any]]:
    """The trust checks as rows of a table, those that do not hold in front where there are too many for a page."""
    checks = list(run.manifest.trust)
    if len(checks) > MOST_CHECKS:
        checks = sorted(checks, key=lambda check: check.ok)[:MOST_CHECKS]
    return [
        {
            "check": check.check,
            "model": check.model or DASH,
            "ok": check.ok,
            "value": DASH if isnan(check.value) else number(check.value),
            "tolerance": DASH if isnan(check.tolerance) else number(check.tolerance),
            "text": check.text,
        }
        for check in checks
    ]
