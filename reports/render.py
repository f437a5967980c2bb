"""What the page says: gathers views of a run, draws the figures, fills the template, writes the files.

The page is one file: styles, script, figures and data inside, nothing fetched (a content security policy
holds it to that). The same run gives the same bytes.
"""

import base64
import gzip
import hashlib
import json
import re
from importlib.resources import files
from itertools import islice
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from vitdsl.reports import claims, opening, overview, pages, seen, words, written
from vitdsl.reports.canvas import style
from vitdsl.reports.labels import number, plural
from vitdsl.reports.names import names_of
from vitdsl.reports.sections import plots, sections
from vitdsl.reports.tables import longest
from vitdsl.reports.theme import DARK, FONTS, LIGHT, css_variables
from vitdsl.reports.views import FIGURES, Make, SectionView, made_here, opened, plot_views, section_view
from vitdsl.runtime.results.folder import REPORT, Run
from vitdsl.runtime.results.record import as_json
from vitdsl.runtime.results.writing import write_text


def write_report(run: Run, out: Path | None = None, make: Make = made_here) -> Path:
    """Write the report of a run.

    Args:
        run: The run, as `open_run` gives it.
        out: Where to write the page alone. By default it is `report.html` in the run folder, with each figure
            as SVG and CSV in `figures/` beside it.
        make: Makes the drawings; by default one after the other.

    Returns:
        The page's path.

    Raises:
        EnvironmentProblem: A file cannot be written (VD407).
    """
    files_: dict[str, str] = {}
    page = render(run, files_, make)
    if out is None:
        for name, text in files_.items():
            write_text(run.path / FIGURES / name, text)
    target = run.path / REPORT if out is None else out
    write_text(target, page)
    return target


def render(run: Run, beside: dict[str, str] | None = None, make: Make = made_here) -> str:
    """The page as text.

    Args:
        run: The run.
        beside: Receives the stand-alone figures and tables by file name.
        make: Makes the drawings.
    """
    beside = {} if beside is None else beside
    gathered = sections(run)
    planned = [list(plots(section)) for section in gathered]
    most = longest([plot.size for found in planned for plot in found])
    marks: dict[str, Any] = {}
    with style():
        drawn = iter(plot_views([plot for found in planned for plot in found], most, beside, marks, make))
    views = _unique(
        [
            section_view(run, section, list(islice(drawn, len(found))))
            for section, found in zip(gathered, planned, strict=True)
        ]
    )
    every = [plot for view in views for plot in view.plots]
    front, views = opened(views, opening.first(run.manifest))
    script = asset("report.js")
    sheet = asset("report.css")
    manifest = run.manifest
    verdicts = claims.views(manifest.claims)
    called = names_of(manifest)
    page = (
        environment()
        .get_template("report.html.j2")
        .render(
            policy=policy(script),
            sheet=Markup(theme() + sheet),
            script=Markup(script),
            title=manifest.title,
            question=manifest.question,
            manifest=manifest,
            run_id=manifest.run_id.removeprefix(f"{manifest.study}/"),
            headline=opening.facts(run),
            answer=opening.answer(run, gathered, front.takeaway if front else ""),
            front=front,
            seen=seen.seen(run),
            known=seen.models(run),
            limits=opening.limits(manifest),
            claims=verdicts,
            strip_width=int(claims.WIDTH),
            beside=written.beside(manifest),
            since=written.since(manifest),
            models=overview.models(run, sections(run, each_training=True)),
            sections=views,
            trust=overview.trust(run),
            methods=pages.methods(run, (part for section in gathered for part in section.parts)),
            ablations=[
                (called.ablation(name), ablation.kind, ablation.what, pages.page_blocks(ablation.page))
                for name, ablation in manifest.ablations.items()
            ],
            facts=pages.facts(run),
            warnings=manifest.warnings,
            source=run.source,
            resolved=run.resolved,
            reproduce=words.reproduce(run),
            methods_text=words.methods(run),
            citation=pages.citation(run),
            bibtex=words.bibtex(run),
            citations=_citations(run),
            data=Markup(_json(as_json(manifest))),
            marks=packed(json.dumps({key: mark for key, mark in sorted(marks.items()) if mark})),
            fields=packed(json.dumps({one.id: one.csv for one in every}, sort_keys=True)),
        )
    )
    return page


def _citations(run: Run) -> list[str]:
    """Works to cite; where a metric names none of the known ones, what its kind says."""
    named = [m.reference for m in run.manifest.metrics.values() if m.reference and not m.cites]
    return [*(work.plain for work in words.cited(run)), *dict.fromkeys(named)]


def _unique(views: list[SectionView]) -> list[SectionView]:
    """Guard: one id, one element."""
    ids = [view.id for view in views] + [plot.id for view in views for plot in view.plots]
    assert len(ids) == len(set(ids)), f"two parts of the report share an id: {sorted(ids)}"
    return views


def theme() -> str:
    """Colours and fonts as CSS variables: light, dark, and print."""
    return (
        f":root{{color-scheme:light;--fonts:{FONTS};{css_variables(LIGHT)}}}"
        f"@media (prefers-color-scheme:dark){{:root:not([data-theme=light])"
        f"{{color-scheme:dark;{css_variables(DARK)}}}}}"
        f":root[data-theme=dark]{{color-scheme:dark;{css_variables(DARK)}}}"
        f"@media print{{:root,:root:not([data-theme=light]),:root[data-theme=dark]"
        f"{{color-scheme:light;{css_variables(LIGHT)}}}}}"
    )


def environment() -> Environment:
    """The templates, with the filters that they use."""
    environment = Environment(
        loader=FileSystemLoader(str(files("vitdsl.reports") / "templates")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["plural"] = plural
    environment.filters["number"] = number
    environment.filters["code"] = _code
    return environment


def _code(text: str) -> Markup:
    """Text with its `quoted` parts as code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def asset(name: str) -> str:
    """The text of a file beside the templates."""
    return (files("vitdsl.reports") / "templates" / name).read_text("utf-8").strip()


def policy(script: str) -> str:
    """The content security policy of a page with one script: nothing is fetched."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        "default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )


def _json(value: Any) -> str:
    """JSON that is safe inside a script element."""
    text = json.dumps(value, ensure_ascii=False, sort_keys=True, default=str)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def packed(text: str) -> str:
    """Text as gzip in base64, without time or name."""
    return base64.b64encode(gzip.compress(text.encode(errors="backslashreplace"), 9, mtime=0)).decode()
