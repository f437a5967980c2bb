"""The page of `vitdsl diff`: two runs beside each other, in the report's look, one file that loads nothing.

Owns what the page says of each part of a comparison, and its figures: both runs side by side on one scale, drawn by the
report's own figures. Does not own what differs (`vitdsl.runtime.results.diff`), or theme, policy and drawing
(`render`).
"""

import json
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from vitdsl.reports.canvas import style
from vitdsl.reports.claims import PAD, WIDTH, WORDS, Strip
from vitdsl.reports.figures._base import Plot, figure_of
from vitdsl.reports.figures._conditions import plot_of
from vitdsl.reports.labels import estimate, sentence, slug
from vitdsl.reports.parts import Part
from vitdsl.reports.render import asset, environment, packed, policy, theme
from vitdsl.reports.tables import longest
from vitdsl.reports.views import plot_views
from vitdsl.runtime.results.diff import Diff, about_numbers, cautions, verdict
from vitdsl.runtime.results.diff_fields import FieldValue
from vitdsl.runtime.results.diff_numbers import Matched, Number, in_words, listed
from vitdsl.runtime.results.folder import Run
from vitdsl.runtime.results.provenance import moment

MOST_NUMBERS = 60
MOST_FIGURES = 8
MOST_ROWS = 200
MODELS = ("model", "model_x", "model_y")


@dataclass(frozen=True)
class NumberView:
    """A number that moved: where it is, both values, the difference, and a strip with zero on it."""

    name: str
    where: str
    a: str
    b: str
    difference: str
    strip: Strip


def render(found: Diff) -> str:
    """The page as text; equal runs give equal bytes."""
    marks: dict[str, Any] = {}
    with style():
        planned = _plots(found)
        most = longest([plot.size for plot in planned])
        figures = plot_views(planned, most, {}, marks)
    script = asset("report.js")
    return (
        environment()
        .get_template("diff.html.j2")
        .render(
            policy=policy(script),
            sheet=Markup(theme() + asset("report.css") + asset("rows.css") + asset("diff.css")),
            script=Markup(script),
            title=_title(found),
            answer=found.answer,
            verdict_text=verdict(found),
            cautions=cautions(found),
            runs=[_run(letter, run) for letter, run in (("A", found.a), ("B", found.b))],
            facts=[(one.in_words, one.a, one.b) for facts in found.differing().values() for one in facts],
            agreeing=found.agreeing(),
            fields=[(one.path, _field(one.a), _field(one.b)) for one in found.fields[:MOST_ROWS]],
            fields_total=len(found.fields),
            environment=[(one.in_words, one.a, one.b) for one in found.environment if not one.same],
            said=about_numbers(found),
            numbers=[_number(found, one) for one in found.numbers[:MOST_NUMBERS]],
            numbers_total=found.moved,
            strip_width=int(WIDTH),
            values=[_value(one) for one in found.values if one.differs.any()],
            figures=figures,
            figures_total=len(_moved_values(found)),
            only=[(one.run, one.path, one.what, listed(one.labels)) for one in found.only[:MOST_ROWS]],
            only_total=len(found.only),
            claims=[
                (one.say, one.a, one.b, WORDS.get(one.a or "", "Not there"), WORDS.get(one.b or "", "Not there"),
                 one.rewritten)
                for one in found.claims
            ],
            claims_total=len({*found.a.manifest.claims, *found.b.manifest.claims}),
            vitdsl=found.b.manifest.vitdsl,
            marks=packed(json.dumps({key: mark for key, mark in sorted(marks.items()) if mark})),
            fields_csv=packed(json.dumps({view.id: view.csv for view in figures}, sort_keys=True)),
        )
    )  # fmt: skip


def _title(found: Diff) -> str:
    titles = dict.fromkeys(run.manifest.title for run in (found.a, found.b))
    return f"{' and '.join(titles)}: two runs beside each other"


def _run(letter: str, run: Run) -> tuple[str, str, str]:
    manifest = run.manifest
    return (
        letter,
        manifest.run_id,
        f"{moment(manifest.started_at)}, vitdsl {manifest.vitdsl}, {manifest.device}, {manifest.dtype}"
        + (", fast" if manifest.fast else ""),
    )


def _field(found: FieldValue | None) -> tuple[str, str]:
    return (found.text, f"{found.origin}; {found.place}") if found else ("", "")


def _number(found: Diff, one: Number) -> NumberView:
    data = found.a.groups[one.path]
    part = Part(one.path, data, one.value)
    name = f"{part.name}, {part.model}"
    a, b, difference = (estimate(*side, units=one.units) for side in (one.a, one.b, one.difference))
    return NumberView(sentence(name), in_words(one.labels), a, b, difference, _strip(*one.difference))


def _strip(value: float, low: float, high: float) -> Strip:
    """The difference on a scale of its own, with zero on it."""
    ends = (min(low, 0.0), max(high, 0.0))
    room = ends[1] - ends[0]
    left, right = ends[0] - 0.1 * room, ends[1] + 0.1 * room

    def at(x: float) -> float:
        return round(PAD + (WIDTH - 2 * PAD) * (x - left) / (right - left), 1)

    return Strip(at(low), at(value), at(high), (0.0, 0.0), ((at(0.0), "0"),))


def _value(one: Matched) -> tuple[str, str, tuple[int, ...]]:
    counts = (int(which.sum()) for which in (one.differs, one.moved, one.outside, one.alone))
    return f"{one.path}.{one.value}", one.name, (one.compared, *counts)


def _moved_values(found: Diff) -> list[list[Matched]]:
    """Values with numbers that moved, by metric and value, those with most in front."""
    gathered: dict[tuple[str, str], list[Matched]] = {}
    for one in found.values:
        if one.moved.any():
            gathered.setdefault((one.path.partition("/")[0], one.value), []).append(one)
    return sorted(gathered.values(), key=lambda some: -sum(int(one.moved.sum()) for one in some))


def _plots(found: Diff) -> list[Plot]:
    """Each value with numbers that moved: the same figure of both runs, side by side on one scale."""
    plots = []
    for some in _moved_values(found)[:MOST_FIGURES]:
        parts = [_named(letter, one, run) for one in some for letter, run in (("A", found.a), ("B", found.b))]
        parts = [part for part in parts if figure_of(part) is figure_of(parts[0])]
        metric = some[0].path.partition("/")[0]
        plots.append(plot_of(figure_of(parts[0]), f"d-{slug(metric)}-{slug(some[0].value)}", parts))
    return plots


def _named(letter: str, one: Matched, run: Run) -> Part:
    """A part of one run, whose models are called after the run."""
    data = run.groups[one.path]
    names = {name: f"{letter}: {data.coords[name].item()}" for name in MODELS if name in data.coords}
    metric, _, rest = one.path.partition("/")
    return Part(f"{metric}/{letter}: {rest}", data.assign_coords(names), one.value)
