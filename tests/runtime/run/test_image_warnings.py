"""Warnings about images: each where it belongs, once, with its numbers; none of an ordinary study."""

import json
import re
from pathlib import Path

import pytest
from PIL import Image

from studies import OFFLINE, TINY_RESNET, bound, study
from vitdsl.cli import run as command
from vitdsl.dsl.load import load_source
from vitdsl.runtime.data.stream import open_stream
from vitdsl.runtime.plan.bind import bind
from vitdsl.runtime.plan.plan import Plan
from vitdsl.runtime.run.warnings import image_warnings

CKA = {"within": "{kind: cka, x: stages, data: probe}"}
ACCURACY = {"accuracy": "{kind: accuracy, of: net, data: probe}"}


def plan(probe: str, metrics: dict[str, str] = ACCURACY, more: str = "") -> Plan:
    data = {"probe": f"{{{probe}}}"} | ({"more": f"{{{more}}}"} if more else {})
    layers = {"stages": '{of: net, at: "layer*.*"}'}
    return bound(study("s", data=data, models={"net": TINY_RESNET}, layers=layers, metrics=metrics))


def found(made: Plan, folder: Path = Path()) -> tuple[str, ...]:
    streams = {
        name: open_stream(entry, seed=0, folder=folder, transforms={}) for name, entry in made.data.items()
    }
    return image_warnings(made, streams)


def digits(**fields: object) -> str:
    return ", ".join(
        f"{name}: {value}" for name, value in {"source": "digits", "split": "test", **fields}.items()
    )


def colours(folder: Path, colours_: list[int], classes: int = 10) -> str:
    """A folder of images of one colour each, dealt to classes one class after another."""
    for index, colour in enumerate(colours_):
        path = folder / f"class_{index * classes // len(colours_)}" / f"{index:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (colour % 256, colour // 256, 7)).save(path)
    return f"source: folder, path: {folder}, batch: 32"


@pytest.mark.parametrize(
    "probe",
    [
        "images: 512, batch: 32",
        "images: 33, batch: 32",
        "images: 64, shuffle: false",
        "images: 32, batch: 64",
    ],
)
def test_an_ordinary_study_has_none(probe: str) -> None:
    assert found(plan(f"source: digits, split: test, {probe}", ACCURACY | CKA)) == ()


SHIPPED = [path for path in OFFLINE if re.search(r"(?m)^metrics:", path.read_text())]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_studies_have_none(path: Path) -> None:
    assert found(bind(load_source(path)), path.parent) == ()


def test_copies_are_counted_and_named(tmp_path: Path) -> None:
    (text,) = found(plan(colours(tmp_path, [1, 2, 3, 3, 3, 4, 5, 6, 6, *range(20, 51)])))
    assert text.startswith("3 of the 40 images of `probe` are copies of another one (")
    three = {"class_0/002.png", "class_0/003.png", "class_1/004.png"}
    sets = [set(re.findall(r"`([^`]+)`", one)) for one in text.partition("(")[2].partition(")")[0].split(";")]
    assert sorted(sets, key=len) == [{"class_1/007.png", "class_2/008.png"}, three]
    assert "every interval is too narrow. Remove the copies: `images.csv`" in text


def test_many_copies_are_cut_to_a_few(tmp_path: Path) -> None:
    (text,) = found(plan(colours(tmp_path, [0] * 6 + [n // 2 for n in range(2, 36)])))
    assert text.startswith("22 of the 40 images of `probe` are copies")
    assert text.count("; ") == 3 and "; and 15 more sets)" in text and text.count("`class_") <= 3 * 4


def test_one_copy_and_images_that_are_drawn(tmp_path: Path) -> None:
    (text,) = found(plan(colours(tmp_path, [1, 1, *range(20, 58)])))
    assert text.startswith("1 of the 40 images of `probe` is a copy of another one (`class_0/")
    assert found(plan("source: noise, total: 64, size: 8, classes: 10")) == ()


def test_an_order_that_is_sorted_by_class(tmp_path: Path) -> None:
    folder = colours(tmp_path, list(range(200)))
    assert found(plan(folder)) == ()
    (text,) = found(plan(f"{folder}, shuffle: false"))
    assert (
        "its 200 images are 10 runs of one label, the longest of 20; shuffled, there would be about 181."
        in text
    )
    assert "A batch of 32 holds 2.1 classes on average" in text and "the stream has 10 of all 10." in text
    assert text.endswith("Leave `shuffle: false` out.")


def test_the_first_images_of_a_sorted_source_may_be_of_one_class(tmp_path: Path) -> None:
    folder = colours(tmp_path, list(range(400)))
    (text,) = found(plan(f"{folder}, shuffle: false, images: 40"))
    assert "its 40 images are 1 run of one label, the longest of 40" in text
    assert "holds 1.0 classes on average" in text and "the stream has 1 of all 10." in text


def test_few_images() -> None:
    (text,) = found(plan(digits(images=7)))
    assert "`probe` has 7 images, so that intervals come from 7 groups of images at most" in text
    assert text.endswith("Write `images: 8` or more: 32 make as many groups as there can be.")
    assert found(plan(digits(images=8))) == ()
    (text,) = found(plan("source: noise, total: 1, size: 8, classes: 10"))
    assert "has 1 image, so that intervals come from 1 group" in text and "Take a source with more" in text


def test_small_batches_matter_to_what_compares_within_them() -> None:
    assert found(plan(digits(images=64, batch=8))) == ()
    more = {"drift": "{kind: cka, x: stages, against: baseline, data: probe}"}
    (text,) = found(plan(digits(images=64, batch=8), ACCURACY | CKA | more))
    assert (
        "`within`, `drift` (cka) compare images within a batch, and a batch of `probe` has 8: below 32"
        in text
    )
    assert text.endswith("Write `batch: 32` or more.")
    (text,) = found(plan(digits(images=20, batch=64), CKA))
    assert "`within` (cka) compares" in text and "a batch of `probe` has 20" in text
    assert "Take 32 images or more, and write `batch: 32` or more." in text
    assert found(plan(digits(images=500, batch=33), CKA)) == ()


def test_a_sweep_says_it_once_of_the_worst() -> None:
    (text,) = found(plan(digits(images=64, batch=64, vary="{batch: [16, 4, 8, 32]}"), CKA))
    assert "a batch of `probe[batch=4]` has 4" in text
    assert text.endswith("The same holds for 2 other variants of `probe`.")


def test_a_stream_that_only_fits_is_not_measured() -> None:
    made = study(
        "s",
        data={"probe": f"{{{digits(images=64)}}}", "few": f"{{{digits(images=4)}}}"},
        models={"net": TINY_RESNET},
        ablations={"mean": "{kind: mean_ablate, of: net, at: layer1.0, over: few}"},
        metrics=ACCURACY,
    )
    assert found(bound(made)) == ()


def test_they_reach_the_terminal_the_manifest_and_the_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = colours(tmp_path / "photos", [1, 1, 2, 3, 4, 5])
    net = {**TINY_RESNET, "options": {"num_classes": 6}}
    data = {"probe": f"{{{folder}, shuffle: false}}"}
    text = study(
        "s", data=data, models={"net": net}, layers={"stages": '{of: net, at: "layer*.*"}'}, metrics=CKA
    )
    Path("study.yaml").write_text(text)
    assert command(["run", "study.yaml", "-q"]) == 0
    err = capsys.readouterr().err
    (path,) = Path("runs").glob("s/*/manifest.json")
    warnings = json.loads(path.read_text())["warnings"]
    assert len(warnings) == 3 and [err.count(f"note: {one}\n") for one in warnings] == [1, 1, 1]
    page = re.sub("</?code>", "`", (path.parent / "report.html").read_text())
    log = (path.parent / "log.txt").read_text()
    for one in warnings:
        assert page.count(f"<li>{one}</li>") == 1 and log.count(f"warning: {one}\n") == 1
    assert command(["run", "study.yaml", "-q", "--json", "--no-report"]) == 0
    assert json.loads(capsys.readouterr().out)["warnings"] == warnings
