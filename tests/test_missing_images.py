"""A study whose images are not on this machine: checked, planned and sealed, and not run."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from studies import TINY_RESNET, TINY_VIT, study
from vitdsl.cli import run
from vitdsl.dsl.diagnostics import Diagnostic, EnvironmentProblem, StudyError
from vitdsl.dsl.load import load_text
from vitdsl.runtime.plan.bind import bind
from vitdsl.runtime.plan.plan import Plan

SECTIONS: dict[str, Any] = {
    "data": {
        "val": "{source: folder, path: ./val, images: 100, batch: 40}",
        "more": "{source: folder, path: ./val, images: 64, batch: 16}",
    },
    "models": {"vit": TINY_VIT, "net": TINY_RESNET},
    "layers": {"blocks": '{of: vit, at: "blocks.*"}'},
    "metrics": {
        "right": "{kind: accuracy, of: [vit, net], data: val}",
        "within": "{kind: cka, x: blocks, data: more}",
    },
    "claims": {"some": "{say: Some are right., left: {metric: right, value: top1}, is: greater, right: 0.1}"},
}
STUDY = study("photos", **SECTIONS)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "study.yaml").write_text(STUDY)
    return tmp_path


def images(folder: Path, count: int, classes: int = 10) -> None:
    """A folder of images, one folder for each class."""
    for index in range(count):
        place = folder / f"class_{index % classes}"
        place.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (index, 0, 0)).save(place / f"{index}.png")


def bound(text: str) -> tuple[Plan, list[Diagnostic]]:
    """The plan, and what is missing."""
    missing: list[Diagnostic] = []
    return bind(load_text(text), missing=missing), missing


def test_each_entry_whose_folder_is_missing_is_said(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["check", "study.yaml"]) == 0
    first, second, last = capsys.readouterr().out.splitlines()
    assert first.startswith("missing: data.val: the image folder `./val` does not exist (looked for `")
    assert f"`{here / 'val'}`" in first and first.endswith(", or `--set data.val.path=...`")
    assert second.startswith("missing: data.more: ") and second.endswith(", or `--set data.more.path=...`")
    assert last.startswith("study.yaml: ok, but for images: how many there are, their labels and classes; ")
    assert last.endswith("; 2 models, 2 conditions, 164 images")
    images(here / "val", 100)
    assert run(["check", "study.yaml"]) == 0
    assert capsys.readouterr().out == "study.yaml: ok; 2 models, 2 conditions, 164 images\n"


def test_a_name_that_is_near_is_said(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images(here / "vall", 10)
    assert run(["check", "study.yaml"]) == 0
    assert "did you mean `./vall`?" in capsys.readouterr().out


def test_an_entry_is_moved_by_set(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images(here / "elsewhere" / "val", 100)
    moved = ["--set", "data.val.path=./elsewhere/val"]
    assert run(["check", "study.yaml", *moved]) == 0
    out = capsys.readouterr().out
    assert "missing: data.more: " in out and "data.val" not in out
    assert run(["check", "study.yaml", "--set", "folder=elsewhere"]) == 0
    assert capsys.readouterr().out == "study.yaml: ok; 2 models, 2 conditions, 164 images\n"


def test_the_other_forms(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    check = ["check", "study.yaml", "--output-format"]
    assert run([*check, "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["count"], found["diagnostics"]) == (0, [])
    assert [(one["code"], one["place"]["line"]) for one in found["missing"]] == [("VD401", 4), ("VD401", 5)]
    assert run([*check, "github"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 and all(one.startswith("::warning file=study.yaml,line=") for one in lines)
    assert run([*check, "concise"]) == 0
    assert capsys.readouterr().out.startswith("study.yaml:4:31: missing: data.val: ")


def test_a_run_still_refuses(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["run", "study.yaml", "-q"]) == 3
    refused = capsys.readouterr().err
    assert refused.startswith("error[VD401]: the image folder `./val` does not exist\n")
    assert run(["check", "study.yaml", "--need-images"]) == 3
    assert capsys.readouterr().out == refused
    with pytest.raises(EnvironmentProblem, match="VD401"):
        bind(load_text(STUDY))


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ("value: top1", "value: top7", "VD250"),  # a claim
        ("blocks.*", "bloks.*", "VD210"),  # a selector
        ("kind: accuracy", "kind: acuracy", "VD220"),  # a kind
        ("batch: 16", "batch: 2", "VD302"),  # a batch
        ("images: 64, batch: 16", "images: 3, batch: 16", "VD302"),  # images that are asked for
    ],
)
def test_the_rest_is_checked(
    here: Path, old: str, new: str, code: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert STUDY.count(old) == 1
    (here / "study.yaml").write_text(STUDY.replace(old, new))
    assert run(["check", "study.yaml"]) == 2
    found = capsys.readouterr().out
    assert f"error[{code}]" in found and "VD401" not in found
    assert run(["plan", "study.yaml"]) == 2 and code in capsys.readouterr().err


def test_a_plan_has_as_many_images_as_asked_for(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plan", "study.yaml", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [(one["data"], one["images"], one["batches"]) for one in found["passes"]] == [
        ("val", 100, 3),
        ("more", 64, 4),
    ]
    assert [one.partition(": the")[0] for one in found["missing"]] == [
        "missing: data.val",
        "missing: data.more",
    ]
    (here / "study.yaml").write_text(STUDY.replace(" images: 100,", ""))
    assert run(["plan", "study.yaml"]) == 0
    out = capsys.readouterr().out
    assert "missing: data.val: the image folder" in out and " all " in out


def test_what_is_kept_of_images_that_are_not_here_is_bounded() -> None:
    many = study(
        "many", **{**SECTIONS, "metrics": {"near": "{kind: mutual_knn, x: blocks, data: val}"}, "claims": ""}
    )
    bound(many)
    with pytest.raises(StudyError, match="VD303"):
        bound(many.replace("images: 100,", "images: 10000000,"))


def test_a_sweep_says_each_folder_once() -> None:
    swept = STUDY.replace(
        "images: 100, batch: 40", "images: 100, batch: 40, vary: {seed: [0, 1], path: [./a, ./b]}"
    )
    plan, missing = bound(swept)
    assert len([one for one in plan.data if one.startswith("val[")]) == 4
    assert [one.message.split("`")[1] for one in missing] == ["./a", "./b", "./val"]


def test_folders_of_timm_too(here: Path) -> None:
    text = STUDY.replace("source: folder, path: ./val", 'source: timm, name: "", root: ./val')
    _, missing = bound(text)
    assert [one.about[0] for one in missing] == [("data", "val", "root"), ("data", "more", "root")]


@pytest.mark.parametrize(
    ("there", "code"), [("a file", "VD401"), ("an empty folder", "VD403"), ("too few images", "VD243")]
)
def test_what_is_there_and_wrong_is_an_error(here: Path, there: str, code: str) -> None:
    if there == "a file":
        (here / "val").write_text("")
    elif there == "an empty folder":
        (here / "val").mkdir()
    else:
        images(here / "val", 99)
    with pytest.raises((EnvironmentProblem, StudyError), match=code):
        bound(STUDY)


def test_a_folder_of_checks_says_it_once(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "other.yaml").write_text("vitdsl: 1\nextends: ./study.yaml\nstudy: other\n")
    (here / "offline.yaml").write_text(
        study("offline", **{**SECTIONS, "data": "{val: {source: noise, total: 64, size: 32, classes: 10}}"})
        .replace("data: more", "data: val")
    )  # fmt: skip
    assert run(["check", "."]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [one.partition(" ")[0] for one in lines] == [
        "missing:", "missing:", "offline.yaml:", "other.yaml:", "study.yaml:",
    ]  # fmt: skip
    assert [": ok, but" in one for one in lines[2:]] == [False, True, True]
