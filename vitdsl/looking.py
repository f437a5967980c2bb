"""What a model sees in an image: a study in memory, run as every study is, and the page of it.

Owns which study answers the question: which metrics, one stream for each image. Does not own where a model is looked at
(`looking_places`), how anything is measured (`runtime`), the page (`reports.look`), or the words on the terminal
(`commands.look`).
"""

import io
import re
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image
from timm.data import ImageNetInfo, infer_imagenet_subset

from vitdsl.dsl.load import loaded_of
from vitdsl.dsl.study import Model, Study
from vitdsl.looking_places import Places, centre_of, places_of
from vitdsl.reports.sight import Photo, Sight
from vitdsl.runtime.data.sources.files import Files
from vitdsl.runtime.data.sources.files import Params as FilesParams
from vitdsl.runtime.graph.sites import sites_of
from vitdsl.runtime.models.loading import skeleton, with_numbers
from vitdsl.runtime.models.preprocessing import Preprocessing, pixels, preprocessing, transform
from vitdsl.runtime.plan.bind import bind
from vitdsl.runtime.progress import Progress
from vitdsl.runtime.results.folder import Run, open_run
from vitdsl.runtime.run.run import run

CHANNELS = 16
RESOLUTION = 56
JPEG = 92


def look(
    images: Sequence[str],
    model: Model,
    *,
    at: Sequence[str] = (),
    device: str = "auto",
    progress: Progress | None = None,
) -> Sight:
    """Look at images with a model.

    Args:
        images: Paths of image files.
        model: The model with its weights.
        at: Selectors of layers; none takes the model's blocks.
        device: `auto`, or a device of torch.
        progress: Told of every stage.

    Raises:
        StudyError: The model or a selector is wrong, an image is given twice, nothing can be shown.
        EnvironmentProblem: An image is not there or is none, weights cannot be fetched.
    """
    from vitdsl.runtime.run.environment import device as find_device

    source = Files(FilesParams(path=tuple(images)), folder=Path(), seed=0)
    pictures = [source.load(index).image for index in range(len(source))]
    module = skeleton(model)
    config = preprocessing(module, model)
    sites = sites_of(module, config.input_size, real=partial(with_numbers, model))
    places = places_of(sites, at, classes=int(getattr(module, "num_classes", 0) or 0))
    study = study_of(images, model, places)
    plan = bind(loaded_of(study))
    with tempfile.TemporaryDirectory(prefix="vitdsl-look-") as out:
        outcome = run(plan, out=out, device=find_device(device), progress=progress)
        assert outcome.folder is not None
        found = open_run(outcome.folder)
    photos = tuple(
        Photo(name, picture.size, *as_seen(picture, config))
        for name, picture in zip(images, pictures, strict=True)
    )
    centres = {name: centre_of(sites.site(name, "output")) for name in places.fields}
    return Sight(found, photos, class_names(found, module), centres, places.absent)


def study_of(images: Sequence[str], model: Model, places: Places) -> Study:
    """The study that answers the question: each image is a stream of its own, measured in the same way."""
    who = re.sub(r"[^a-z0-9]+", "_", model.arch.lower()).strip("_")
    layers: dict[str, Any] = {
        "layers": {"of": who, "at": list(places.layers)},
        "centres": {"of": who, "at": list(places.fields)},
        "compared": {"of": who, "at": list(places.compared)},
    }
    if len(places.compared) < 2:
        del layers["compared"]
    metrics: dict[str, Any] = {}
    data: dict[str, Any] = {}
    for number, image in enumerate(images, 1):
        stream = f"image_{number}"
        data[stream] = {"source": "files", "path": image, "batch": 1, "shuffle": False, "thumbnails": 0}
        every: dict[str, dict[str, Any]] = {
            "answers": {"kind": "answers", "of": who, "images": 1, "classes": places.answers},
            "attention": {"kind": "attention_map", "of": who, "at": list(places.attention), "images": 1},
            "rollout": {"kind": "attention_rollout", "of": who},
            "field": {
                "kind": "receptive_field",
                "x": "centres",
                "channels": CHANNELS,
                "resolution": RESOLUTION,
            },
            "norms": {"kind": "token_norms", "x": "layers"},
            "alike": {"kind": "token_cka", "x": "compared", "title": "Token-wise CKA of layers"}
            | ({"grid": places.grid} if places.grid else {}),
        }
        wanted = {"answers": places.answers > 0, "attention": places.attention, "rollout": places.rollout}
        wanted["alike"] = len(places.compared) > 1
        for name, fields in every.items():
            if wanted.get(name, True):
                metrics[f"{name}_{number}"] = {**fields, "data": stream, "under": "baseline"}
    return Study.model_validate(
        {
            "vitdsl": 1,
            "study": "look",
            "title": f"What {model.arch} sees",
            "data": data,
            "models": {who: model.model_dump(mode="json", exclude_unset=True)},
            "layers": layers,
            "metrics": metrics,
        }
    )


def as_seen(picture: Image.Image, config: Preprocessing) -> tuple[tuple[int, int], bytes]:
    """An image after the model's preprocessing, its normalisation undone: width and height, and a JPEG."""
    seen = Image.fromarray(pixels(transform(config)(picture), config))
    buffer = io.BytesIO()
    seen.save(buffer, "JPEG", quality=JPEG)
    return seen.size, buffer.getvalue()


def class_names(found: Run, module: Any) -> tuple[str, ...]:
    """Names of the classes where they are known: those that ImageNet weights of timm were trained on; else none.

    A checkpoint file or random weights do not say what their classes are, nor does a head that no checkpoint filled.
    """
    (model,) = found.manifest.models.values()
    known = model.weights.source in ("pretrained", "hub") and not model.weights.detail.get("fresh")
    subset = infer_imagenet_subset(module) if known else None
    if subset is None:
        return ()
    info = ImageNetInfo(subset)
    return tuple(info.index_to_description(index) for index in range(info.num_classes()))
