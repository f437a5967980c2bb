"""The page of `vitdsl look`: what a model sees in some images, one file that loads nothing.

Owns the page around what is shown of each image. Does not own these parts (`look_pieces`), the numbers (`sight`), the
pictures of maps (`tiles`), or theme, policy and figures, which are the report's (`render`).
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from vitdsl.reports import pages
from vitdsl.reports.canvas import style
from vitdsl.reports.labels import listing, number, plural
from vitdsl.reports.look_pieces import Piece, hero, pieces
from vitdsl.reports.parts import Part
from vitdsl.reports.render import asset, environment, packed, policy, theme
from vitdsl.reports.sight import Sight, View
from vitdsl.reports.tiles import Tile, gradient, inside
from vitdsl.runtime.results.csvs import values_of

OWN_SCALE = (
    "Each map on this page has a scale of its own, from its smallest value (dark) to its largest (light), so that "
    "structure shows however weak it is: compare the numbers, not the colours. Where the largest value is more than 15 "
    "times the median, colours are logarithmic over at most two powers of ten (four for receptive fields), and the "
    "number is marked log."
)
TIMES = " The sign \N{MULTIPLICATION SIGN} says: times even attention."
NO_INTERVALS = "intervals come from"
"""What a run warns of where images are few; here there are no intervals, and the page says so."""


@dataclass(frozen=True)
class ImageView:
    """What is shown of one image."""

    id: str
    photo: str
    name: str
    about: str
    proportion: str
    box: str
    hero: tuple[Tile, ...]
    parts: tuple[Piece, ...]


def render(sight: Sight) -> str:
    """The page as text."""
    marks: dict[str, Any] = {}
    with style():
        images = [_image(view, marks) for view in sight.views]
    run, model, script = sight.run, sight.model, asset("report.js")
    plots = [part.plot for image in images for part in image.parts if part.plot]
    every = [Part(path, found, value) for path, found in run.groups.items() for value in values_of(found)]
    names = [photo.name.rpartition("/")[2] for photo in sight.photos]
    return (
        environment()
        .get_template("look.html.j2")
        .render(
            policy=policy(script),
            sheet=Markup(theme() + asset("report.css") + asset("look.css") + _photos(sight)),
            script=Markup(script),
            gradient=Markup(gradient()),
            own_scale=OWN_SCALE + ("" if "attention" in sight.absent else TIMES),
            title=f"What {model.arch} sees in {names[0] if len(names) == 1 else plural(len(names), 'image')}",
            facts=[
                model.arch,
                f"{number(model.parameters / 1e6)} M parameters",
                f"weights: {sight.weights}",
                f"input: {sight.preparation}",
            ],
            cautions=sight.cautions,
            absent=list(sight.absent.values()),
            warnings=[text for text in run.manifest.warnings if NO_INTERVALS not in text],
            images=images,
            methods=pages.methods(run, every),
            trust=_trust(sight),
            provenance=_provenance(sight),
            source=run.source,
            vitdsl=run.manifest.vitdsl,
            numbers=Markup(_numbers(sight)),
            marks=packed(json.dumps({key: mark for key, mark in sorted(marks.items()) if mark})),
            fields=packed(json.dumps({plot.id: plot.csv for plot in plots}, sort_keys=True)),
        )
    )


def _image(view: View, marks: dict[str, Any]) -> ImageView:
    width, height = view.photo.shown
    return ImageView(
        f"i{view.number}",
        f"photo-{view.number}",
        view.photo.name.rpartition("/")[2],
        f"{view.photo.name}, {view.photo.size[0]} x {view.photo.size[1]} pixels; the model gets {width} x {height}.",
        f"{width}/{height}",
        f"0 0 {width} {height}",
        tuple(hero(view)),
        tuple(pieces(view, marks)),
    )


def _photos(sight: Sight) -> str:
    """Each photograph once, as a background."""
    return "".join(
        f".photo-{i}{{background-image:url({inside(photo.jpeg, 'jpeg')})}}"
        for i, photo in enumerate(sight.photos, 1)
    )


def _trust(sight: Sight) -> str:
    checks = sight.run.manifest.trust
    failed = [check.text for check in checks if not check.ok]
    said = f"{len(checks) - len(failed)} of {plural(len(checks), 'trust check')} passed."
    return " ".join([said, *(f"Failed: {text}." for text in failed)])


def _provenance(sight: Sight) -> Sequence[tuple[str, str]]:
    manifest, model = sight.run.manifest, sight.model
    return [
        ("vitdsl", manifest.vitdsl),
        ("device", manifest.device),
        ("options", json.dumps(model.options) if model.options else "none"),
        ("weights, SHA-256", model.weights.sha256),
        *((f"image {i}, SHA-256 of its hash", data.content_sha256) for i, data in enumerate(manifest.data.values(), 1)),
        ("normalisation", f"mean {listing([f'{one:.4g}' for one in model.preprocessing.mean])}; std "
                          f"{listing([f'{one:.4g}' for one in model.preprocessing.std])}"),
    ]  # fmt: skip


def _numbers(sight: Sight) -> str:
    text = json.dumps([view.as_json() for view in sight.views], ensure_ascii=False, sort_keys=True)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text
