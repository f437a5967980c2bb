"""`preprocess` of a model: its fields against their formulas and another library, and where what was done is said."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from foreign import DATA, through_study, tiny
from studies import TINY_VIT, bound, changed, study
from vitdsl.cli import run
from vitdsl.dsl.diagnostics import StudyError
from vitdsl.dsl.study import Model
from vitdsl.runtime.models.loading import skeleton
from vitdsl.runtime.models.preprocessing import preprocessing, transform
from vitdsl.runtime.train.store import recipe_key

CLIP_MEAN = [0.48145466, 0.4578275, 0.40821073]
CLIP_STD = [0.26862954, 0.26130258, 0.27577711]


def made(image: Image.Image, preprocess: dict[str, Any] | None) -> np.ndarray[Any, Any]:
    model = Model(**changed(TINY_VIT, preprocess=preprocess))
    return transform(preprocessing(skeleton(model), model))(image).numpy()


def noise(width: int, height: int) -> Image.Image:
    """Blurred, so that ways to resize differ little and places differ much."""
    small = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def test_mean_and_std() -> None:
    mean, std = [0.1, 0.2, 0.3], [0.5, 0.25, 2.0]
    colour = (10, 100, 200)
    found = made(Image.new("RGB", (40, 40), colour), {"mean": mean, "std": std})
    for channel in range(3):
        wanted = (colour[channel] / 255 - mean[channel]) / std[channel]
        np.testing.assert_allclose(found[channel], wanted, rtol=1e-5)


@pytest.mark.parametrize(
    ("fields", "resized", "box"),
    [
        ({"crop_mode": "center", "crop_pct": 0.5}, (128, 64), (48, 16, 80, 48)),
        ({"crop_mode": "squash", "crop_pct": 1.0}, (32, 32), (0, 0, 32, 32)),
        ({"crop_mode": "center", "crop_pct": 1.0, "interpolation": "bilinear"}, (64, 32), (16, 0, 48, 32)),
    ],
)
def test_crops_and_interpolation(fields: dict[str, Any], resized: tuple[int, int], box: Any) -> None:
    image = noise(200, 100)
    way = fields.get("interpolation", "bicubic")
    wanted = np.asarray(image.resize(resized, Image.Resampling[way.upper()]).crop(box), np.float32) / 255
    found = made(image, {**fields, "mean": [0.0] * 3, "std": [1.0] * 3})
    np.testing.assert_allclose(found.transpose(1, 2, 0), wanted, atol=1e-6)


@pytest.mark.parametrize(
    ("processor", "fields", "preprocess"),
    [
        (
            "CLIPImageProcessor",
            {"size": {"shortest_edge": 40}, "crop_size": {"height": 32, "width": 32}},
            {"crop_pct": 0.8, "crop_mode": "center", "mean": CLIP_MEAN, "std": CLIP_STD},
        ),
        (
            "ViTImageProcessor",
            {"size": {"height": 32, "width": 32}},
            {"crop_pct": 1.0, "crop_mode": "squash", "interpolation": "bilinear"},
        ),
    ],
)
def test_what_a_processor_says_gives_its_pixels_once_written(
    tmp_path: Path, processor: str, fields: dict[str, Any], preprocess: dict[str, Any]
) -> None:
    theirs = getattr(pytest.importorskip("transformers"), processor)(**fields)
    theirs.save_pretrained(tmp_path)
    save_file(tiny().state_dict(), tmp_path / "model.safetensors")
    (note,) = through_study(tmp_path, {"file": "."}).weights.detail["notes"]
    assert note.startswith("files beside it say of images") and f"crop_pct: {preprocess['crop_pct']}" in note
    fitting = changed(TINY_VIT, preprocess={"interpolation": "bicubic", **preprocess})
    ready = through_study(tmp_path, {"file": "."}, fitting)
    assert ready.weights.detail["notes"] == []
    image = noise(90, 60)
    wanted = np.asarray(theirs(images=image, return_tensors="pt")["pixel_values"][0])
    found = transform(ready.config)(image).numpy()
    assert (
        np.abs(found - wanted).max()
        < 3 / 255 / min(CLIP_STD)
        < 0.1
        < np.abs(made(image, None) - wanted).max()
    )


def test_it_is_used_and_said_in_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    fields = {"mean": [0.1, 0.2, 0.3], "crop_pct": 0.75}
    models = {"plain": TINY_VIT, "net": changed(TINY_VIT, preprocess=fields)}
    metrics = "{same: {kind: answers, of: [plain, net]}}"
    Path("study.yaml").write_text(study("said", data=DATA, models=models, metrics=metrics))
    assert run(["run", "study.yaml", "-q", "--no-report"]) == 0
    (path,) = tmp_path.glob("runs/said/*/manifest.json")
    found = json.loads(path.read_text())["models"]
    assert found["net"]["preprocessing"]["mean"] == [0.1, 0.2, 0.3]
    assert found["net"]["preprocessing"]["crop_pct"] == 0.75
    assert found["net"]["preprocessing"]["std"] == found["plain"]["preprocessing"]["std"]
    assert found["plain"]["preprocessing"]["mean"] == [0.5, 0.5, 0.5]


def test_it_counts_in_what_is_trained_and_in_the_study() -> None:
    train = {"data": {"source": "digits", "split": "train", "images": 8}}
    plain, other = (
        Model(**changed(TINY_VIT, train=train, **more)) for more in ({}, {"preprocess": {"crop_pct": 0.5}})
    )
    assert recipe_key(plain, seed=0) != recipe_key(other, seed=0)
    plans = [
        bound(study("hashed", data=DATA, models={"net": model}, metrics="{a: {kind: answers, of: net}}"))
        for model in (TINY_VIT, changed(TINY_VIT, preprocess={"crop_pct": 0.5}))
    ]
    assert plans[0].loaded.study.hash != plans[1].loaded.study.hash
    assert plans[1].models["net"].config.crop_pct == 0.5


@pytest.mark.parametrize(
    "fields",
    [
        {"mean": [123.7, 116.3, 103.5]},
        {"std": [0.0, 1.0, 1.0]},
        {"mean": [0.5]},
        {"crop_pct": 1.5},
        {"crop_mode": "middle"},
        {"interpolation": "cubic"},
        {"size": 32},
    ],
)
def test_what_is_no_preprocessing_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(StudyError):
        Model(**changed(TINY_VIT, preprocess=fields))


def test_a_given_transform_and_preprocess_contradict_each_other() -> None:
    from vitdsl.runtime.models.outside import Given, received

    entry = Model(given=True, preprocess={"crop_pct": 0.5})
    with pytest.raises(StudyError, match="VD271 .*leave `preprocess` out"):
        received("net", Given(tiny(), lambda image: torch.zeros(3, 32, 32)), entry)
