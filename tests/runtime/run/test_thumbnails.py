"""Pictures against what the model gets, in float64; which images stand for a stream; a run that keeps them, or none."""

import base64
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from studies import TINY_VIT, bound, changed, study
from vitdsl.dsl.study import Data
from vitdsl.reports.render import render
from vitdsl.runtime.data.stream import Stream, open_stream
from vitdsl.runtime.models.preprocessing import OwnTransform, Preprocessing, pixels
from vitdsl.runtime.results.folder import open_run
from vitdsl.runtime.run.run import run as run_plan
from vitdsl.runtime.run.thumbnails import picture, standing_for, thumbnails


def config(size: int = 32, channels: int = 3) -> Preprocessing:
    mean, std = ((0.4, 0.5, 0.6)[:channels], (0.2, 0.25, 0.3)[:channels])
    return Preprocessing((channels, size, size), mean, std, "bicubic", 1.0, "center")


def stream(**fields: Any) -> Stream:
    data = Data.model_validate({"source": "digits", "split": "test", "images": 60, **fields})
    return open_stream(data, seed=0, folder=Path(), transforms={"vit": config(), "large": config(128)})


def test_a_picture_is_what_the_model_gets() -> None:
    """The digits have the size of the model: the transform changes nothing, and the picture is the source's image."""
    found = stream()
    form, content = picture(found.source, config(), found.order[5])
    seen = np.asarray(Image.open(io.BytesIO(base64.b64decode(content))))
    assert form == "png" and seen.shape == (32, 32, 3)
    np.testing.assert_array_equal(seen, np.asarray(found.source.load(found.order[5]).image))
    form, content = picture(found.source, config(128), found.order[5])
    assert form == "jpeg" and Image.open(io.BytesIO(base64.b64decode(content))).size == (112, 112)


def test_normalisation_is_undone_in_grey_and_of_a_transform_of_ones_own() -> None:
    tensor = torch.randn(1, 2, 3, dtype=torch.float64)
    wanted = np.round(np.clip(tensor[0].numpy() * 0.2 + 0.4, 0, 1) * 255)
    np.testing.assert_array_equal(pixels(tensor, config(channels=1)), np.stack([wanted] * 3, -1))
    function: Callable[[Image.Image], Tensor] = lambda image: tensor  # noqa: E731
    own = OwnTransform((3, 2, 3), (), (), "", 1.0, "", "0", function)
    seen = pixels(tensor, own)
    assert seen.min() == 0 and seen.max() == 255


def test_one_image_of_each_class_stands_for_a_stream() -> None:
    found = stream()
    labels = [found.label(row) for row in range(found.n)]
    assert [labels.index(label) for label in range(10)] == list(standing_for(found, 10))
    early = sorted(dict.fromkeys(labels), key=labels.index)[:4]
    assert [labels.index(label) for label in sorted(early, key=int)] == list(standing_for(found, 4))
    assert standing_for(found, 0) == () and standing_for(found, 24) == standing_for(found, 10)
    noise = open_stream(
        Data.model_validate({"source": "noise", "images": 9, "size": 32}),
        seed=0, folder=Path(), transforms={"vit": config()},
    )  # fmt: skip
    assert standing_for(noise, 4) == (0, 1, 2, 3)


def test_models_that_see_the_same_share_a_picture() -> None:
    data = Data.model_validate({"source": "digits", "split": "test", "images": 9, "thumbnails": 2})
    alike = {"a": config(), "b": config(), "c": config(64)}
    found = thumbnails({"probe": open_stream(data, seed=0, folder=Path(), transforms=alike)}, {})
    assert [one.models for one in found.images] == [("a", "b"), ("a", "b")] and len(
        found.labels["probe"]
    ) == 2


def text(**fields: Any) -> str:
    return study(
        "pictures",
        data={"probe": {"source": "digits", "split": "test", "images": 32, "batch": 16, **fields}},
        models={"vit": changed(TINY_VIT, title="A ViT")},
        ablations={"no_skip": {"kind": "remove_skip", "of": "vit", "at": '"blocks.*.mlp"', "each": True}},
        metrics={"flips": {"kind": "prediction_flips", "of": "vit", "listed": 3}},
    )


@pytest.mark.parametrize("count", [3, 0])
def test_a_run_keeps_them_beside_its_results_or_none(tmp_path: Path, count: int) -> None:
    outcome = run_plan(bound(text(thumbnails=count)), out=tmp_path)
    assert outcome.folder is not None
    found = open_run(outcome.folder)
    page = render(found)
    assert (outcome.folder / "thumbnails.json").is_file() is (count > 0)
    assert page.count("<img src=") == ((3 + page.count("<li><img")) if count else 0)
    if count:
        assert 0 < page.count("<li><img") <= 6
        assert page == render(open_run(outcome.folder))
        assert "32 images (<code>probe</code>): scikit-learn" in page and 'alt="image of class ' in page
        (outcome.folder / "thumbnails.json").unlink()
        assert "<img" not in render(open_run(outcome.folder))
