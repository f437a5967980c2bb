"""`vitdsl runs` and `vitdsl clean`: what there is, what nobody needs, and nothing that somebody needs is removed."""

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from vitdsl.cli import run as command
from vitdsl.runtime.results.folder import BLOCKS
from vitdsl.runtime.run.blocks import BlockStore

STUDY = """
vitdsl: 1
study: NAME
data: {probe: {source: noise, total: 16, size: 32, batch: 8, classes: 10, seed: SEED}}
models:
  vit: {arch: vit_tiny_patch16_224, weights: random,
        options: {img_size: 32, patch_size: 8, embed_dim: 24, num_heads: 3, depth: 2, num_classes: 10}}
metrics: {accuracy: {kind: accuracy, of: vit}}
claims:
  good: {say: It is good., left: {metric: accuracy, value: top1}, is: greater, right: 0.9}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two studies that ran, on other images each."""
    monkeypatch.chdir(tmp_path)
    for name, seed in (("one", "0"), ("two", "1")):
        (tmp_path / f"{name}.yaml").write_text(STUDY.replace("NAME", name).replace("SEED", seed))
        assert command(["run", f"{name}.yaml", "--no-report", "-q"]) == 0
    return tmp_path


def answer(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    capsys.readouterr()
    assert command([*words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_runs_are_listed_with_their_verdicts(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = answer(capsys, "runs")["runs"]
    assert [one["study"] for one in found] == ["one", "two"]
    assert {one["status"] for one in found} == {"success"}
    assert all(sum(one["verdicts"].values()) == 1 for one in found)
    assert [one["study"] for one in answer(capsys, "runs", "two")["runs"]] == ["two"]
    assert command(["runs"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and found[0]["folder"] in lines[1]


def test_a_run_whose_manifest_is_not_one_is_listed_as_unreadable(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = folder / "runs" / "one" / "broken"
    broken.mkdir()
    for text in ("{", "[]", "{}", '{"study": 1, "claims": 3}'):
        (broken / "manifest.json").write_text(text)
        assert sorted(one["status"] for one in answer(capsys, "runs")["runs"]) == [
            "success",
            "success",
            "unreadable",
        ]


def test_no_runs_say_what_makes_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(["runs", "--out", str(tmp_path / "nothing")]) == 2
    assert "vitdsl run STUDY" in capsys.readouterr().err


def age(path: Path, hours: float) -> None:
    for one in [path, *path.rglob("*")]:
        os.utime(one, times=(time.time() - hours * 3600,) * 2)


def test_blocks_that_a_run_is_made_of_stay(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    age(folder / "runs", 48)
    assert answer(capsys, "clean")["needless"] == []


def test_blocks_of_a_removed_run_go_when_asked_for(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import shutil

    shutil.rmtree(folder / "runs" / "two")
    before = set(BlockStore(folder / "runs").root.rglob("*.block"))
    assert len(before) == 4
    assert answer(capsys, "clean")["needless"] == []  # they were written just now
    age(folder / "runs" / ".store", 48)
    found = answer(capsys, "clean")
    whys = [one["why"] for one in found["needless"]]
    assert whys == ["an image block that no run is made of"] * 2 + ["the answer of a run that is gone"]
    assert not found["removed"]
    assert set(BlockStore(folder / "runs").root.rglob("*.block")) == before
    assert answer(capsys, "clean", "--yes")["removed"]
    assert len(set(BlockStore(folder / "runs").root.rglob("*.block"))) == 2
    assert command(["run", "one.yaml", "--no-report", "-q"]) == 0
    assert answer(capsys, "clean")["needless"] == []


def test_failed_runs_and_what_was_left_half_written_go_when_asked_for(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (run,) = (folder / "runs" / "two").iterdir()
    manifest = json.loads((run / "manifest.json").read_text())
    (run / "manifest.json").write_text(json.dumps({**manifest, "status": "interrupted"}))
    (kept,) = (folder / "runs" / "one").iterdir()
    block = BlockStore(folder / "runs").folder((kept / BLOCKS).read_text().split()[0])
    (block / ".half.block.abc").write_bytes(b"half")
    age(folder / "runs", 48)
    whys = [one["why"] for one in answer(capsys, "clean")["needless"]]
    assert whys == ["what an ended process left half written"]
    whys = [one["why"] for one in answer(capsys, "clean", "--failed")["needless"]]
    assert "a run with status `interrupted`" in whys and len(whys) == 4
    assert command(["clean", "--failed", "--yes"]) == 0
    assert not run.exists() and (folder / "runs" / "one").exists()
