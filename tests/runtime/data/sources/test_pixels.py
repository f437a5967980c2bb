"""Pixels of more than 8 bits, images that cannot be read, and models of grey images."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from PIL import Image

from studies import TINY_RESNET, bound, changed, loaded, study
from vitdsl.dsl.diagnostics import EnvironmentProblem, StudyError
from vitdsl.dsl.study import Augment, Data
from vitdsl.runtime.data.opening import open_source
from vitdsl.runtime.data.sources._base import Source
from vitdsl.runtime.data.stream import open_stream
from vitdsl.runtime.models.preprocessing import Preprocessing, training_transform, transform
from vitdsl.runtime.run.run import run
from vitdsl.testing.source import SQUARE

RAMP = np.linspace(0, 1, 24).reshape(4, 6)


def opened(folder: Path, **fields: Any) -> Source:
    return open_source(Data(source="folder", **{"path": ".", **fields}), seed=0, folder=folder)


def grey(source: Source, index: int = 0) -> np.ndarray:
    pixels = np.asarray(source.load(index).image)
    assert (pixels == pixels[..., :1]).all()
    return pixels[..., 0]


@pytest.mark.parametrize(
    ("scale", "dtype"), [(1.0, np.float32), (1.02, np.float32), (65535.0, np.float32), (65535.0, np.uint16)]
)
def test_one_rule_for_a_folder(tmp_path: Path, scale: float, dtype: Any) -> None:
    values = (RAMP * scale).astype(dtype)
    Image.fromarray(values).save(tmp_path / "scan.tif")
    with pytest.raises(EnvironmentProblem, match=r"VD418 .*scan\.tif.* from 0 to ") as caught:
        opened(tmp_path).load(0)
    assert "range: [BLACK, WHITE]" in caught.value.diagnostics[0].help[0]
    for low, high in ((0.0, scale), (0.25 * scale, 0.5 * scale)):
        exact = (values.astype(np.float64) - low) / (high - low)
        wanted = np.clip(exact, 0, 1) * 255
        found = grey(opened(tmp_path, range=[low, high]))
        assert np.abs(found - wanted).max() <= 0.5 + 1e-9


def test_a_png_says_what_its_16_bits_mean(tmp_path: Path) -> None:
    values = np.round(RAMP * 65535).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / "deep.png")
    assert np.abs(grey(opened(tmp_path)) - values / 257).max() <= 0.5 + 1e-9
    assert np.abs(grey(opened(tmp_path, range=[0, 4095])) - (values / 4095 * 255).clip(0, 255)).max() <= 0.51


def test_pixels_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    values = RAMP.astype(np.float32)
    values[1, 2] = np.nan
    Image.fromarray(values).save(tmp_path / "scan.tif")
    with pytest.raises(EnvironmentProblem, match="VD402 .*1 of its 24 pixels are no numbers"):
        opened(tmp_path, range=[0, 1]).load(0)


@pytest.mark.parametrize("values", [[1, 0], [0, 0], [0], "0-1"])
def test_a_range_is_two_numbers_in_order(tmp_path: Path, values: Any) -> None:
    Image.new("L", (4, 4)).save(tmp_path / "a.png")
    with pytest.raises(StudyError, match="range"):
        opened(tmp_path, range=values)


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    for index in range(6):
        Image.new("RGB", (8, 8), (index * 40, 0, 0)).save(tmp_path / f"{index}.png")
    for index in (1, 4):
        (tmp_path / f"{index}.png").write_bytes(b"no image")
    return tmp_path


def test_all_unreadable_images_are_one_error(damaged: Path) -> None:
    stream = open_stream(Data(source="folder", path="."), seed=0, folder=damaged, transforms={"it": SQUARE})
    with pytest.raises(EnvironmentProblem) as caught:
        list(stream)
    messages = sorted(one.message for one in caught.value.diagnostics)
    assert [one.partition(".png")[0][-1] for one in messages] == ["1", "4"]
    assert all("unreadable: skip" in one.help[0] for one in caught.value.diagnostics)


def test_unreadable_images_are_skipped_where_asked(damaged: Path) -> None:
    source = opened(damaged, unreadable="skip")
    assert [source.id(index) for index in range(len(source))] == ["0.png", "2.png", "3.png", "5.png"]
    (note,) = source.notes
    assert note.startswith(
        "2 of 6 images cannot be read and are skipped: `1.png` (not an image, or cut short), `4"
    )
    (damaged / "1.png").write_bytes((damaged / "0.png").read_bytes())
    assert len(opened(damaged, unreadable="skip")) == 5
    for index in range(6):
        (damaged / f"{index}.png").write_bytes(b"none")
    with pytest.raises(EnvironmentProblem, match="VD403 none of the images"):
        opened(damaged, unreadable="skip")


GREY = changed(TINY_RESNET, {"in_chans": 1})


def test_a_model_of_grey_images_takes_one_channel(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    text = study(
        "grey",
        data={"photos": "{source: folder, path: " + str(tmp_path) + ", batch: 1}"},
        models={"net": changed(GREY, input_size=32)},
        layers={"stages": '{of: net, at: "layer*.*", tokens: mean}'},
        metrics={"out": "{kind: spectrum, x: stages}"},
    )
    plan = bound(text)
    config = plan.models["net"].config
    assert config.input_size == (1, 32, 32)
    rgb = loaded(bound(text.replace("in_chans: 1, ", "").replace(", in_chans: 1", "")), "net").config
    assert config.mean == (sum(rgb.mean) / 3,) and config.std == (sum(rgb.std) / 3,)
    whole = Preprocessing((1, 32, 32), config.mean, config.std, "bilinear", 1.0, "center")
    image = opened(tmp_path).load(0).image
    wanted = (pixels.astype(np.float64) / 255 - config.mean[0]) / config.std[0]
    for look in (transform(whole), training_transform(Augment(), whole)):
        found = look(image)
        assert found.shape == (1, 32, 32)
        assert np.abs(found[0].numpy() - wanted).max() < 1e-6


def test_a_grey_model_is_measured_and_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VITDSL_CACHE", str(tmp_path / "cache"))
    noise = "{source: noise, total: 24, size: 32, classes: 10, batch: 8}"
    text = study(
        "grey",
        data={"probe": noise},
        models={
            "net": GREY,
            "taught": changed(GREY, weights=None, train=f"{{data: {noise}, epochs: 1}}"),
        },
        metrics={"acc": "{kind: accuracy, of: [net, taught]}"},
    )
    found = run(bound(text), out=tmp_path / "runs")
    assert found.folder is not None
    plan = bound(text)
    stream = open_stream(
        plan.data["probe"], seed=0, folder=tmp_path, transforms={"net": plan.models["net"].config}
    )
    module = loaded(plan, "net").module
    right = sum(int((module(batch.images["net"]).argmax(1) == batch.labels).sum()) for batch in stream)
    with xr.open_dataset(found.folder / "results.nc", group="acc/net", engine="h5netcdf") as results:
        assert float(results["top1"][0]) == pytest.approx(right / 24, abs=1e-12)


def test_other_numbers_of_channels_are_refused() -> None:
    text = study(
        "five",
        data={"probe": "{source: noise, total: 4}"},
        models={"net": changed(GREY, {"in_chans": 5})},
        metrics={"out": "{kind: accuracy, of: net}"},
    )
    with pytest.raises(StudyError, match="VD231 `in_chans: 5`: images have three channels, or one as grey"):
        bound(text)
