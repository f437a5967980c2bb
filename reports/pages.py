"""The run's own facts for the page: how it was measured, provenance, how to reproduce and cite.

Reads the manifest only, and never fails on what an older or partial manifest leaves out.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from vitdsl.reports.labels import duration, listing, number, plural, slug
from vitdsl.reports.parts import Part
from vitdsl.runtime.results.folder import Run

HEADINGS = {
    "what it measures", "formula", "definition", "shapes", "range", "cost", "reference", "references",
    "limits", "estimator", "notes", "what it does not show",
}  # fmt: skip
VERBATIM = {"formula", "shapes"}


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
    metrics: Mapping[str, Mapping[str, Any]] = run.manifest.get("metrics") or {}
    for kind in dict.fromkeys(str(m.get("kind", name)) for name, m in metrics.items()):
        uses = {name: m for name, m in metrics.items() if str(m.get("kind", name)) == kind}
        first = next(iter(uses.values()))
        values = {
            part.value: (part.value, part.name, part.units, str(part.attr("direction", "none")), _range(part))
            for part in reversed(every)
            if part.metric in uses
        }
        said = tuple(
            (name, str(m.get("title") or ""), _params(m.get("params") or {})) for name, m in uses.items()
        )
        found.append(
            Method(
                kind,
                str(first.get("version", "")),
                str(first.get("what") or ""),
                page_blocks(str(first.get("page") or "")),
                said,
                tuple(reversed(values.values())),
                str(first.get("reference") or ""),
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
    """Provenance in groups of names and values; what the manifest does not know is left out."""
    m = run.manifest
    git = m.get("git") or {}
    dirty = ", with uncommitted changes" if git.get("dirty") else ""
    the_run = {
        "run": m.get("run_id"),
        "study": m.get("study"),
        "status": m.get("status"),
        "started": m.get("started_at"),
        "ended": m.get("ended_at"),
        "took": duration(m.get("seconds")),
        "command": " ".join(map(str, m.get("argv") or [])),
        "overrides": ", ".join(map(str, m.get("overrides") or [])) or "none",
        "vitdsl": m.get("vitdsl"),
        "git commit": f"{git['commit']}{dirty}" if git.get("commit") else "not in a git checkout",
        "spec (resolved), hash": (m.get("spec") or {}).get("hash"),
        "spec (source), SHA-256": (m.get("spec") or {}).get("source_sha256"),
        "seed": m.get("seed"),
        "device": m.get("device"),
        "dtype": m.get("dtype"),
    }
    groups = [("Run", the_run), ("Environment", dict(m.get("environment") or {}))]
    for name, model in (m.get("models") or {}).items():
        weights = model.get("weights") or {}
        known = {
            "architecture": model.get("arch"),
            "options": _params(model.get("options") or {}),
            "parameters": model.get("parameters"),
            "weights": listing_of(weights.get("source"), weights.get("detail")),
            "weights, SHA-256": weights.get("sha256"),
            "preprocessing": _params(model.get("preprocessing") or {}),
            "coordinates": _params(model.get("coordinates") or {}),
            "prefix tokens": model.get("prefix_tokens"),
            "sites": model.get("sites"),
            "units": model.get("units"),
        }
        groups.append((f"Model {name}", known))
    for name, data in (m.get("data") or {}).items():
        groups.append((f"Data {name}", {str(k).replace("_", " "): v for k, v in data.items()}))
    work = {
        name: f"{plural(int(w.get('conditions') or 0), 'condition')} in one graph; "
        f"{100 * float(w.get('saved') or 0):.0f} % of the operations of separate passes saved"
        for name, w in (m.get("work") or {}).items()
    }
    groups.append(("Work", work))
    groups.append(("Timings", {k: _timing(v) for k, v in (m.get("timings") or {}).items()}))
    return [(title, rows) for title, rows in ((title, _rows(known)) for title, known in groups) if rows]


def listing_of(*words: Any) -> str:
    """The words that are there, with commas."""
    return ", ".join(str(word) for word in words if word)


def _timing(value: Any) -> str:
    return duration(float(value)) if isinstance(value, (int, float)) else str(value)


def _rows(known: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(str(key), _said(value)) for key, value in known.items() if value not in (None, "", [], {})]


def _said(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (int, float)):
        return number(value, 6)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)


def reproduce(run: Run) -> str:
    """The commands that repeat the run from the resolved spec."""
    environment = run.manifest.get("environment") or {}
    packages = environment.get("packages") or environment
    pins = [f"{name}=={packages[name]}" for name in ("torch", "timm", "numpy") if packages.get(name)]
    flags = "".join(
        f" --{name} {value}"
        for name, value, usual in (
            ("device", run.manifest.get("device"), ""),
            ("dtype", run.manifest.get("dtype"), "float32"),
        )
        if value and value != usual
    )
    return (
        f"# in a checkout of vitdsl {run.manifest.get('vitdsl', '')}\n"
        f"pip install -e . {' '.join(pins)}\n"
        f"# in the run folder, or wherever you saved the resolved study below\n"
        f"vitdsl run spec.resolved.yaml{flags}\n"
    )


def citations(run: Run) -> list[str]:
    """Works to cite for the metrics of the run."""
    metrics: Mapping[str, Mapping[str, Any]] = run.manifest.get("metrics") or {}
    return list(dict.fromkeys(str(m["reference"]) for m in metrics.values() if m.get("reference")))


def bibtex(run: Run) -> str:
    """The run and the software as BibTeX."""
    m = run.manifest
    year = str(m.get("started_at") or "")[:4]
    title = re.sub(r"[{}\\]", "", str(m.get("title") or m.get("study") or ""))
    key = slug(str(m.get("study") or "study")).replace("-", "_")
    return (
        f"@misc{{{key}_{year},\n  title = {{{title}}},\n  year = {{{year}}},\n"
        f"  note = {{vitdsl run {m.get('run_id', '')}}}\n}}\n"
        f"@software{{vitdsl,\n  title = {{vitdsl: a declarative experiment language for vision models}},\n"
        f"  version = {{{m.get('vitdsl', '')}}},\n  year = {{{year}}}\n}}\n"
    )


def citation(run: Run) -> str:
    """The run as one line of plain text."""
    m = run.manifest
    words = [str(m.get("title") or m.get("study") or "Study"), f"run {m.get('run_id', '')}"]
    return ", ".join(words) + f", computed with vitdsl {m.get('vitdsl', '')}."


def headline(run: Run) -> list[str]:
    """What ran, in a few words each: status, size, time."""
    m = run.manifest
    conditions = sum(len(found) for found in (m.get("conditions") or {}).values())
    data: Mapping[str, Mapping[str, Any]] = m.get("data") or {}
    images = [f"{number(int(d['images']))} images ({name})" for name, d in data.items() if d.get("images")]
    words = {"success": "Complete", "partial": "Partial", "failed": "Failed", "interrupted": "Interrupted"}
    status = str(m.get("status") or "")
    return [
        words.get(status, status),
        plural(len(m.get("models") or {}), "model"),
        plural(conditions, "condition"),
        *([listing(images)] if images else []),
        *([f"{m['device']}, {m['dtype']}"] if m.get("device") and m.get("dtype") else []),
        *([duration(m["seconds"])] if m.get("seconds") is not None else []),
    ]
