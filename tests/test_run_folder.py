"""A folder of studies is run as one: what is a study in it, one table of claims, one answer as JSON."""

import json
from pathlib import Path

import pytest

from studies import TINY_VIT, study
from vitdsl.cli import run as command


def text(name: str, claim: str, right: float) -> str:
    sides = f"left: {{metric: accuracy, value: top1}}, is: less, right: {right}"
    return study(
        name,
        data={"probe": {"source": "digits", "split": "test", "images": 16, "batch": 8}},
        models={"vit": TINY_VIT},
        metrics={"accuracy": {"kind": "accuracy", "of": "vit"}},
        claims=f"  one: {{say: {claim}, {sides}}}\n",
    )


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    here = tmp_path / "studies"
    here.mkdir()
    (here / "b_second.yaml").write_text(text("second", "It is worse than perfect.", 0.9))
    (here / "a_first.yaml").write_text(text("first", "It is worse than nothing.", 0.0))
    (here / "recipe.yaml").write_text("vitdsl: 1\nrecipe: mine\n")
    (here / "notes.txt").write_text("study: no\n")
    return here


def test_all_studies_run_by_name_and_end_in_one_table(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(["run", "studies", "--no-report", "-q"]) == 0
    said = capsys.readouterr().out
    lines = said[said.index("2 studies in") :].splitlines()
    assert lines[-1].split() == ["index:", "runs/index.html"]
    assert [line.split() for line in lines[1:-1]] == [
        ["study", "verdict", "claim"],
        ["first", "x", "refuted", "It", "is", "worse", "than", "nothing."],
        ["second", "+", "supported", "It", "is", "worse", "than", "perfect."],
    ]
    assert {path.name for path in (folder.parent / "runs").iterdir()} == {
        ".store",
        "first",
        "index.html",
        "second",
    }


def test_as_json_it_is_a_list_and_check_looks_at_all(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(["run", "studies", "--no-report", "-q", "--json", "--check"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert [one["claims"]["one"]["verdict"] for one in found] == ["refuted", "supported"]
    assert command(["run", "studies/b_second.yaml", "--no-report", "-q", "--json", "--check"]) == 0
    assert json.loads(capsys.readouterr().out)["claims"]["one"]["verdict"] == "supported"


def test_a_folder_without_studies_is_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in folder.glob("*_*.yaml"):
        path.unlink()
    assert command(["run", "studies", "-q"]) == 2
    assert "studies" in capsys.readouterr().err
