"""Labels of folders as people have them: numbers, splits, CSVs, label sets, lists of classes; and what is left out."""

from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from timm.data import ImageNetInfo

from studies import TINY_RESNET, changed, study
from vitdsl.cli import run
from vitdsl.dsl.diagnostics import EnvironmentProblem, StudyError, VitdslError
from vitdsl.dsl.load import load_text
from vitdsl.dsl.study import Data
from vitdsl.runtime.data.opening import open_source
from vitdsl.runtime.data.sources._base import Source
from vitdsl.runtime.plan.bind import bind_diagnostics


def opened(folder: Path, **fields: Any) -> Source:
    return open_source(Data(source="folder", **{"path": "photos", **fields}), seed=0, folder=folder)


def images(folder: Path, *names: str) -> None:
    """A small image for each name below `photos`."""
    for index, name in enumerate(names):
        path = folder / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (index * 20 % 256, 80, 90)).save(path)


def found(source: Source) -> dict[str, int | None]:
    return {source.id(index): source.label(index) for index in range(len(source))}


def test_numbers_sort_as_numbers(tmp_path: Path) -> None:
    images(tmp_path, *(f"{number}/a.png" for number in range(12)))
    source = opened(tmp_path)
    assert source.classes == tuple(map(str, range(12)))
    assert found(source) == {f"{number}/a.png": number for number in range(12)}
    images(tmp_path, "x/a.png")
    assert opened(tmp_path).classes == ("0", "1", "10", "11", *map(str, range(2, 10)), "x")


@pytest.mark.parametrize(
    ("classes", "labels", "outputs"),
    [
        (["n01440764", "n02123045"], "imagenet", [0, 281]),
        (["7", "999"], "imagenet", [7, 999]),  # as ImageNetV2 has them
        (["goldfish", "tabby_cat", "Great White Shark"], {"to": "imagenet-1k"}, [1, 281, 2]),
        (["kitty", "goldfish"], {"to": "imagenet-1k", "outputs": {"kitty": "tabby cat"}}, [281, 1]),
        (["kitty", "pup"], {"to": "imagenet-1k", "outputs": {"kitty": 281, "pup": 207}}, [281, 207]),
        (["b", "a"], {"outputs": {"b": 0, "a": 1}}, [0, 1]),
    ],
    ids=["ids", "numbers", "names", "renamed", "by number", "own order"],
)
def test_classes_become_the_models_outputs(
    tmp_path: Path, classes: list[str], labels: Any, outputs: list[int]
) -> None:
    images(tmp_path, *(f"{name}/a.png" for name in classes))
    source = opened(tmp_path, labels=labels)
    assert found(source) == {f"{name}/a.png": output for name, output in zip(classes, outputs, strict=True)}
    if "imagenet" in str(labels):
        assert source.classes == tuple(ImageNetInfo("imagenet-1k").label_names())
    assert source.shown[0].startswith(f"labels: {len(classes)} classes of ")


def test_a_list_of_the_models_classes(tmp_path: Path) -> None:
    images(tmp_path, "cat/1.png", "fox/1.png")
    (tmp_path / "classes.txt").write_text("fox\ndog\ncat\n")
    source = opened(tmp_path, labels={"classes": "classes.txt"})
    assert source.classes == ("fox", "dog", "cat") and found(source) == {"cat/1.png": 2, "fox/1.png": 0}
    assert "`cat` is 2 (cat)" in source.shown[0]


def test_a_csv_says_what_each_image_is(tmp_path: Path) -> None:
    images(tmp_path, "1.png", "2.png", "more/3.png", "train/4.png")
    (tmp_path / "labels.csv").write_text(
        '\ufefffile,label\n1.png,"tabby, tabby cat"\n2.png,goldfish\nmore/3.png,0\ntrain/4.png,goldfish\ngone.png,1\n'
    )
    source = opened(tmp_path, labels={"csv": "labels.csv", "to": "imagenet-1k"})
    assert list(found(source).values()) == [281, 1, 0, 1]
    assert opened(tmp_path, labels={"csv": "labels.csv"}).classes == ("0", "goldfish", "tabby, tabby cat")
    some = opened(tmp_path, labels={"csv": "labels.csv", "only": ["goldfish"]})
    assert found(some) == {"2.png": 0, "train/4.png": 0} and some.classes == ("goldfish",)


def test_splits_are_no_classes(tmp_path: Path) -> None:
    images(tmp_path, "train/cat/1.png", "train/dog/2.png", "val/cat/3.png", "val/dog/4.png", "val/dog/5.png")
    with pytest.raises(
        StudyError, match="VD244 the folders of `photos` are splits.*`train`, `val`"
    ) as caught:
        opened(tmp_path)
    assert caught.value.diagnostics[0].help[0] == "write `split: val`"
    source = opened(tmp_path, split="val")
    assert source.classes == ("cat", "dog")
    assert found(source) == {"cat/3.png": 0, "dog/4.png": 1, "dog/5.png": 1}
    with pytest.raises(StudyError, match="VD244 `photos` has no folder `test`: it has `train`, `val`"):
        opened(tmp_path, split="test")
    assert len(opened(tmp_path, labels="none")) == 5
    images(tmp_path, "cats/1.png")  # a class, so these are no splits
    assert opened(tmp_path).classes == ("cats", "train", "val")


def test_what_is_left_out_is_counted(tmp_path: Path) -> None:
    images(tmp_path, "1.png")
    for name in ("a.heic", "b.HEIC", "c.dcm", "scan", "notes.txt", ".hidden.heic"):
        (tmp_path / "photos" / name).write_text("x")
    assert opened(tmp_path).notes == (
        "4 files left out, not read as images: 2 .heic, 1 .dcm, 1 without an ending",
    )


def csv(text: str) -> Any:
    def write(folder: Path) -> dict[str, Any]:
        (folder / "l.csv").write_text(text)
        return {"csv": "l.csv"}

    return write


def classes(text: str) -> Any:
    def write(folder: Path) -> dict[str, Any]:
        (folder / "c.txt").write_text(text)
        return {"classes": "c.txt"}

    return write


@pytest.mark.parametrize(
    ("labels", "kind", "text"),
    [
        ({"csv": "gone.csv"}, EnvironmentProblem, "VD401 the file of labels `gone.csv` does not exist"),
        (csv("name,class\ncat/1.png,0\n"), StudyError, "VD244 .*columns `name`, `class`, not `file`"),
        (csv("file,label\n"), StudyError, "VD244 .*no label for 2 of 2 images, such as `cat/1.png`"),
        (csv("file,label\n1.png,0\n"), StudyError, "VD244 .*did you mean `1.png`"),
        (csv("file,label\ncat/1.png,0\ncat/1.png,1\n"), StudyError, "VD244 .*the labels `0` and `1`"),
        (csv("file,label\ncat/1.png,\n"), StudyError, "VD244 .*no label"),
        ({"to": "imagenet-1k"}, StudyError, "VD244 the class `cat` in `photos` is none of.*; 2 of 2 classes"),
        ({"to": "imagenet-1k", "outputs": {"cat": 281, "crane": "crane"}}, StudyError, "VD244 .*no image has it"),
        ({"to": "imagenet-1k", "outputs": {"cat": "crane", "dog": 1}}, StudyError, "VD244 .*may be 134 .* or 517"),
        ({"to": "imagenet-1k", "outputs": {"cat": 1000, "dog": 1}}, StudyError, "VD244 .*`cat`"),
        ({"to": "imagenet-1k", "classes": "c.txt"}, StudyError, "VD244 `to` and `classes`"),
        (classes("cat\ndog\ncat\n"), StudyError, "VD244 .*the class `cat` twice"),
        (classes("cats\ndog\n"), StudyError, "VD244 .*`cat` in `photos` is none of the 2 .*did you mean `cats`"),
        ({"outputs": {"cat": 0}}, StudyError, "VD244 `outputs` alone must number all 2 classes"),
        ({"only": ["cats"]}, StudyError, "VD244 `only` names the class `cats`.*did you mean `cat`"),
        ({"to": "imagenet"}, StudyError, "VD104"),
        ({"two": "imagenet-1k"}, StudyError, "VD103"),
    ],
)  # fmt: skip
def test_what_is_unclear_is_said(tmp_path: Path, labels: Any, kind: type[VitdslError], text: str) -> None:
    images(tmp_path, "cat/1.png", "dog/2.png")
    with pytest.raises(kind, match=text) as caught:
        opened(tmp_path, labels=labels(tmp_path) if callable(labels) else labels)
    assert caught.value.diagnostics[0].help


NAMED = study(
    "named",
    data={"photos": "{source: folder, path: photos, batch: 4, LABELS}"},
    models={
        "net": changed(TINY_RESNET, {"num_classes": 1000}, arch="resnet18.a1_in1k", weights="pretrained")
    },
    metrics={"acc": "{kind: accuracy, of: net}"},
)


def test_check_shows_the_mapping(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    images(tmp_path, "tench/1.png", "goldfish/2.png")
    (tmp_path / "photos" / "x.heic").write_text("")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "study.yaml").write_text(NAMED.replace("LABELS", "labels: {to: imagenet-1k}"))
    assert run(["check", "study.yaml"]) == 0
    said = [line for line in capsys.readouterr().out.splitlines() if not line.startswith("warning")]
    assert said == [
        "data.photos: labels: 2 classes of 1,000 of `imagenet-1k`: `goldfish` is 1 (goldfish, Carassius auratus); "
        "`tench` is 0 (tench, Tinca tinca)",
        "data.photos: 1 file left out, not read as images: 1 .heic",
        "study.yaml: ok; 1 model, 1 condition, 2 images",
    ]


def test_classes_in_another_order_than_the_models_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info, monkey = ImageNetInfo("imagenet-1k"), monkeypatch
    monkey.chdir(tmp_path)
    names = [info.index_to_description(index).replace("/", " ") for index in range(1000)]
    images(tmp_path, *(f"{name}/a.png" for name in names if name != "crane"), "crane/a.png", "crane 2/a.png")
    (problem,) = bind_diagnostics(load_text(NAMED.replace(", LABELS", "")))
    first = min(names)
    assert problem.code == "VD404" and f"class 0 of source `folder` is `{first}`" in problem.message
    assert f"output {names.index(first)} of" in problem.message
    assert problem.help == ("write `labels: {to: imagenet-1k}` to map the classes by their names",)


def test_wordnet_ids_and_numbers_are_in_the_models_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    images(tmp_path, *(f"{number}/a.png" for number in range(1000)))
    assert bind_diagnostics(load_text(NAMED.replace(", LABELS", ""))) == ()
