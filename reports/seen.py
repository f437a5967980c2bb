"""What was seen: a few images of each stream as a model saw them, and what data and models are, in plain words.

Does not own which images are kept (`vitdsl.runtime.results.thumbnails`), or the images behind an effect (`strips`).
"""

from dataclasses import dataclass

from vitdsl.reports.labels import listing, number, plural
from vitdsl.reports.names import names_of
from vitdsl.runtime.results.folder import Run
from vitdsl.runtime.results.manifest import DataRecord, ModelRecord
from vitdsl.runtime.results.thumbnails import Thumbnail

MOST_MODELS = 4
SOURCES = {
    "trained": "trained",
    "pretrained": "pretrained",
    "random": "random weights",
    "hub": "weights from the hub",
}


@dataclass(frozen=True)
class Picture:
    """One image: its source inside the page, what it is for who does not see it, and whether its pixels are few."""

    source: str
    alt: str
    small: bool


@dataclass(frozen=True)
class Seen:
    """A stream: some of its images, and what they are in words."""

    data: str
    pictures: tuple[Picture, ...]
    words: str


def seen(run: Run) -> list[Seen]:
    """Every stream of the run, in the order of the study; without pictures where none were kept."""
    return [_stream(run, name) for name in run.manifest.data]


def _stream(run: Run, name: str) -> Seen:
    data, kept = run.manifest.data[name], run.thumbnails
    rows = kept.first.get(name, ())
    labels = kept.labels.get(name, ())
    found = [(kept.of(name, "", row), label) for row, label in zip(rows, labels, strict=False)]
    pictures = tuple(_picture(data, one, label) for one, label in found if one is not None)
    models = next((one.models for one, _ in found if one is not None), ())
    models = tuple(one for one in models if one in run.manifest.models)
    return Seen(name, pictures, _words(run, name, models, len(pictures)))


def _picture(data: DataRecord, one: Thumbnail, label: int | None) -> Picture:
    said = f"image {one.row}" if label is None else f"image of class {class_name(data, label)}"
    return Picture(one.source, said, one.format == "png")


def _words(run: Run, name: str, models: tuple[str, ...], shown: int) -> str:
    """How many images there are and what they are; whose view of them is shown, where models differ in it."""
    data = run.manifest.data[name]
    said = f"{plural(data.images, 'image')} (`{name}`): {data.what or data.source}."
    if not shown:
        return said
    labelled = data.labelled and data.classes is not None
    which = "One of each class" if labelled and shown == data.classes else f"{shown} of them"
    called = names_of(run.manifest)
    some = 0 < len(models) < len(run.manifest.models) or len(models) == 1
    whose = listing([called.model(one) for one in models]) if some else "the models"
    size = run.manifest.models[models[0]].preprocessing.input_size if models else ()
    pixels = f" ({size[2]} x {size[1]})" if size else ""
    return f"{said} {which}, as {whose} {'sees' if len(models) == 1 else 'see'} them{pixels}."


def class_name(data: DataRecord, label: int) -> str:
    """A class by its name, where the stream says it; else by its number."""
    return data.class_names[label] if 0 <= label < len(data.class_names) else str(label)


def models(run: Run) -> str:
    """What the models are, in a few words each."""
    called = names_of(run.manifest)
    every = run.manifest.models
    said = [f"{called.model(name)}: {_model(one)}" for name, one in list(every.items())[:MOST_MODELS]]
    more = [f"and {plural(len(every) - MOST_MODELS, 'more model')}"] if len(every) > MOST_MODELS else []
    return "; ".join([*said, *more]) + "." if said else ""


def _model(model: ModelRecord) -> str:
    training = model.weights.detail.get("training") or {}
    came = SOURCES.get(model.weights.source, f"weights: {model.weights.source}")
    if "images" in training:
        came = f"trained on {plural(training['images'], 'image')}"
    size = f"{number(model.parameters / 1e6, 2)} M parameters" if model.parameters else ""
    return ", ".join(filter(None, (model.arch, size, came)))
