"""The page of several studies: one row for each claim, with its verdict, numbers, strip, and the study's report.

Owns the page of `vitdsl run FOLDER`, in the report's look: one file that loads nothing. Does not own how a claim is
said or drawn (`claims`), or the reports that it leads to (`render`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from markupsafe import Markup

from vitdsl.reports.claims import WIDTH, ClaimView, counted, views
from vitdsl.reports.labels import duration, plural
from vitdsl.reports.render import asset, environment, policy, theme
from vitdsl.runtime.results.manifest import Manifest
from vitdsl.runtime.results.writing import write_text

INDEX = "index.html"


@dataclass(frozen=True)
class StudyView:
    """One study: its words, where its report is (empty without one), and its claims."""

    name: str
    title: str
    href: str
    outcome: str
    cautions: int
    claims: tuple[ClaimView, ...]


def write_index(folder: Path, runs: Sequence[tuple[Manifest, Path | None]]) -> Path:
    """Write `index.html`.

    Args:
        folder: The folder of runs.
        runs: What each run says of itself, and its report, if it has one.

    Returns:
        The page's path.

    Raises:
        EnvironmentProblem: It cannot be written (VD407).
    """
    write_text(folder / INDEX, render([(manifest, _href(folder, page)) for manifest, page in runs]))
    return folder / INDEX


def render(runs: Sequence[tuple[Manifest, str]]) -> str:
    """The page as text.

    Args:
        runs: What each run says of itself, and the address of its report; empty without one.
    """
    script = asset("report.js")
    studies = [_study(manifest, href) for manifest, href in runs]
    claims = [claim for study in studies for claim in study.claims]
    verdicts = counted(claim.verdict for claim in claims)
    seconds = sum(manifest.seconds or 0.0 for manifest, _ in runs)
    return (
        environment()
        .get_template("index.html.j2")
        .render(
            policy=policy(script),
            sheet=Markup(theme() + asset("report.css") + asset("rows.css")),
            script=Markup(script),
            title=f"{plural(len(studies), 'study', 'studies')}, {plural(len(claims), 'claim')}",
            said=f"{verdicts}." if claims else "No study has claims.",
            headline=[plural(len(studies), "study", "studies"), duration(seconds)],
            studies=studies,
            strip_width=int(WIDTH),
            vitdsl=runs[0][0].vitdsl if runs else "",
        )
    )


def _href(folder: Path, page: Path | None) -> str:
    """A report's address from the folder of the index, so that both can be moved together."""
    return "" if page is None else quote(page.resolve().relative_to(folder.resolve()).as_posix())


def _study(manifest: Manifest, href: str) -> StudyView:
    failed = sum(not check.ok for check in manifest.trust)
    outcome = [plural(len(manifest.models), "model"), duration(manifest.seconds)]
    if failed:
        outcome.append(f"{plural(failed, 'trust check')} failed")
    return StudyView(
        manifest.study,
        manifest.title,
        href,
        ", ".join(outcome),
        len(manifest.warnings),
        tuple(views(manifest.claims)),
    )
