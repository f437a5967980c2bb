"""The run's own facts for the page: how it was measured, provenance.

Reads the manifest, and of the numbers only what a value is called. Does not own how the page is
laid out, or words to paste (`words`).
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from vitdsl.reports.labels import duration, number, plural
from vitdsl.reports.parts import Part
from vitdsl.runtime.results.folder import Run
from vitdsl.runtime.results.record import as_json

HEADINGS = {
    "what it measures", "formula", "definition", "shapes", "range", "cost", "reference", "references",
    "limits", "estimator", "notes", "what it does not show",
}  # fmt: skip
VERBATIM = {"formula", "shapes"}
MOST_NAMES = 24
"""Classes of a stream that are named; of more, the first."""


@dataclass(frozen=True)
class Block:
    """A paragraph of a kind's page: `h`, `p` or `pre`."""

    tag: str
    text: str


@dataclass(frozen=True)
class Method:
    """How one kind was measured."""

    kind: str
    version: str
    what: str
    blocks: tuple[Block, ...]
    uses: tuple[tuple[str, str, str], ...]
    values: tuple[tuple[str, str, str, str, str], ...]
    reference: str


def page_blocks(page: str) -> tuple[Block, ...]:
    """A docstring's headings, paragraphs and verbatim parts, without its first line."""
    blocks: list[Block] = []
    heading = ""
    pending: list[str] = []

    def flush() -> None:
        lines = [line for line in pending]
        pending.clear()
        while lines and not lines[-1].strip():
            lines.pop()
        if lines:
            margin = min(len(line) - len(line.lstrip()) for line in lines if line.strip())
            verbatim = heading in VERBATIM
            text = "\n".join(line[margin:].rstrip() for line in lines)
            blocks.append(Block("pre" if verbatim else "p", text if verbatim else " ".join(text.split())))

    for line in page.strip().splitlines()[1:]:
        word, colon, rest = line.strip().partition(":")
        if not line.startswith(" ") and word.lower() in HEADINGS:
            flush()
            heading = word.lower()
            blocks.append(Block("h", word))
            if colon and rest.strip():
                pending.append(rest.strip())
        elif re.fullmatch(r"[-=~]{3,}", line.strip()):
            continue
        elif not line.strip() and heading not in VERBATIM:
            flush()
        elif line.strip() or pending:
            pending.append(line)
    flush()
    return tuple(blocks)


def methods(run: Run, parts: Iterable[Part]) -> list[Method]:
    """One entry for each kind of metric, with the metrics that use it."""
    every = list(parts)
    found = []
    metrics = run.manifest.metrics
    for kind in dict.fromkeys(metric.kind for metric in metrics.values()):
        uses = {name: metric for name, metric in metrics.items() if metric.kind == kind}
        first = next(iter(uses.values()))
        values = {
            part.value: (part.value, part.name, part.units, str(part.attr("direction", "none")), _range(part))
            for part in reversed(every)
            if part.metric in uses
        }
        found.append(
            Method(
                kind,
                str(first.version),
                first.what,
                page_blocks(first.page),
                tuple((name, metric.title, _params(metric.params)) for name, metric in uses.items()),
                tuple(reversed(values.values())),
                first.reference,
            )
        )
    return found


def _range(part: Part) -> str:
    low, high = part.attr("valid_min", None), part.attr("valid_max", None)
    if low is None and high is None:
        return "unbounded"
    return " to ".join(number(float(v)) if v is not None else "unbounded" for v in (low, high))


def _params(params: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in params.items())


def facts(run: Run) -> list[tuple[str, list[tuple[str, str]]]]:
    """Provenance in groups of names and values; what is empty is left out."""
    m = run.manifest
    dirty = ", with uncommitted changes" if m.git and m.git.dirty else ""
    the_run = {
        "run": m.run_id,
        "study": m.study,
        "status": m.status,
        "started": m.started_at,
        "ended": m.ended_at,
        "took": duration(m.seconds),
        "command": " ".join(m.argv),
        "overrides": ", ".join(m.overrides) or "none",
        "vitdsl": m.vitdsl,
        "git commit": f"{m.git.commit}{dirty}" if m.git else "not in a git checkout",
        "spec (resolved), hash": m.spec.hash,
        "spec (source), SHA-256": m.spec.source_sha256,
        "claims, SHA-256": m.written and m.written.claims_sha256,
        "rest of the study, SHA-256": m.written and m.written.rest_sha256,
        "seed": m.seed,
        "device": m.device,
        "dtype": m.dtype,
        "fast": "batch norms folded" if m.fast else "",
    }
    seal = m.seal and {
        "file": m.seal.file,
        "sealed": m.seal.sealed_at,
        "vitdsl": m.seal.vitdsl,
        "SHA-256": m.seal.sha256,
        "claims, SHA-256": m.seal.claims_sha256,
        "rest of the study, SHA-256": m.seal.rest_sha256,
    }
    groups = [("Run", the_run), ("Seal", seal or {}), ("Environment", as_json(m.environment))]
    for name, model in m.models.items():
        known = {
            "architecture": model.arch,
            "options": _params(model.options),
            "parameters": model.parameters,
            "weights": listing_of(model.weights.source, model.weights.detail),
            "weights, SHA-256": model.weights.sha256,
            "preprocessing": _params(as_json(model.preprocessing)),
            "coordinates": _params(model.coordinates),
            "prefix tokens": model.prefix_tokens,
            "sites": model.sites,
            "units": "" if model.unfollowed else model.units,
            "read by hooks, since": model.unfollowed,
        }
        groups.append((f"Model {name}", known))
    for name, data in m.data.items():
        known = as_json(data) | {"class_names": listing_of(*data.class_names[:MOST_NAMES])}
        groups.append((f"Data {name}", {key.replace("_", " "): value for key, value in known.items()}))
    streams = {work.data for work in m.work}
    work = {
        f"{work.model} on {work.data}" if len(streams) > 1 else work.model: (
            f"{plural(len(work.conditions), 'condition')} in {_graphs(work.graphs)}; "
            f"{100 * work.saved:.0f} % of the operations of separate passes saved"
            + (f"; {plural(work.folded, 'batch norm')} folded" if work.folded else "")
        )
        for work in m.work
    }
    groups.append(("Work", work))
    groups.append(("Timings", {name: duration(seconds) for name, seconds in m.timings.items()}))
    return [(title, rows) for title, rows in ((title, _rows(known)) for title, known in groups) if rows]


def _graphs(count: int) -> str:
    return "one graph" if count == 1 else f"{count} graphs, one after the other"


def listing_of(*words: Any) -> str:
    """The words that are there, with commas."""
    return ", ".join(str(word) for word in words if word)


def _rows(known: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(str(key), _said(value)) for key, value in known.items() if value not in (None, "", [], {})]


def _said(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (int, float)):
        return number(value, 6)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)


def citation(run: Run) -> str:
    """The run as one line of plain text."""
    m = run.manifest
    return f"{m.title}, run {m.run_id}, computed with vitdsl {m.vitdsl}."
