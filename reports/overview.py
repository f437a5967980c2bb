"""What the page says first: findings, key numbers of the models, trust checks."""

from typing import Any

from vitdsl.reports import claims, sentences
from vitdsl.reports.figures._base import figure_of
from vitdsl.reports.labels import number, plural
from vitdsl.reports.sections import Section
from vitdsl.runtime.results.folder import Run


def findings(run: Run, gathered: list[Section], verdicts: list[claims.ClaimView]) -> list[tuple[str, bool]]:
    """What the head of the page says, and whether it is a reason for caution."""
    said: list[tuple[str, bool]] = []
    if verdicts:
        counts = {word: sum(v.verdict == key for v in verdicts) for key, word in claims.WORDS.items()}
        words = [f"{count} {word.lower()}" for word, count in counts.items() if count]
        said.append((f"{plural(len(verdicts), 'claim')}: {', '.join(words)}.", False))
    for section in gathered:
        first = next(iter(section.values.values()))
        said += [(text, False) for text in figure_of(first[0]).findings(first)]
    checks = run.manifest.get("trust") or []
    failed = sum(not check.get("ok") for check in checks)
    if checks:
        outcome = f"{failed} of {len(checks)} failed" if failed else f"all {len(checks)} passed"
        said.append((f"Trust checks: {outcome}.", bool(failed)))
    return said


def models(run: Run, gathered: list[Section]) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """Key numbers: facts of each model, and every value of the intact model."""
    names = list(run.manifest.get("models") or {})
    rows: list[tuple[str, list[str]]] = []
    for label, key in (("architecture", "arch"), ("parameters", "parameters"), ("units", "units")):
        found = [run.manifest["models"][name].get(key) for name in names]
        if any(value is not None for value in found):
            rows.append((label, [v if isinstance(v, str) else number(v) for v in found]))
    for section in gathered:
        for parts in section.values.values():
            by_model = {part.model: part for part in parts if part.scalar}
            cells = {}
            for name in names:
                part = by_model.get(name)
                if part is not None and part.intact == part.intact:
                    cells[name] = sentences.at(part, part.conditions.index("baseline"))
            trivial = {part.intact for part in by_model.values()} == {0.0}
            if cells and not trivial and not any(part.relative for part in by_model.values()):
                label = f"{next(iter(parts)).name}, intact"
                rows.append((label, [cells.get(name, "\N{EN DASH}") for name in names]))
    return names, rows


def trust(run: Run) -> list[dict[str, Any]]:
    """The trust checks as rows of a table."""
    return [
        {
            "check": str(check.get("check", "")),
            "model": str(check.get("model") or "\N{EN DASH}"),
            "ok": bool(check.get("ok")),
            "value": number(check.get("value")) if check.get("value") is not None else "\N{EN DASH}",
            "tolerance": number(check.get("tolerance"))
            if check.get("tolerance") is not None
            else "\N{EN DASH}",
            "text": str(check.get("text") or ""),
        }
        for check in run.manifest.get("trust") or []
    ]
