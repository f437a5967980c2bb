"""The page of models says what the program answers: a quarter of its rows are asked again."""

import json

import pytest

from census.census import COUNTS, PAGE, architectures, row, said
from vitdsl.cli import run
from vitdsl.dsl.study import Model
from vitdsl.runtime.plan.fitting import fitting

LINES = PAGE.read_text("utf-8").splitlines()
ASKED = list(architectures())[::4]


def test_the_page_has_every_file_of_timm() -> None:
    rows = [line.split("|")[1:3] for line in LINES if line.startswith("| ")][1:]
    assert {file.strip(): arch.strip(" `") for file, arch in rows} == architectures()


@pytest.mark.parametrize("file", ASKED)
def test_a_row_is_what_the_model_answers(file: str) -> None:
    line, _ = row(file, architectures()[file])
    assert line in LINES


def test_the_page_has_the_counts_of_all() -> None:
    counts = json.loads(COUNTS.read_text("utf-8"))
    assert said(counts) in PAGE.read_text("utf-8")
    assert counts["timm"] in LINES[3] and counts["traced"] == counts["asked"] > 350


def test_reasons_are_those_of_a_study() -> None:
    vit = fitting(Model(arch="test_vit", weights="random"))
    assert set(vit.kinds) >= {"skip_ratio", "attention_distance", "remove_skip", "mask_heads"}
    assert not any(vit.kinds.values()) and len(vit.units) == 2 * len(vit.attention) > 0
    swin = fitting(Model(arch="swin_tiny_patch4_window7_224", weights="pretrained"))
    assert "windows" in swin.kinds["attention_rollout"] and not swin.kinds["attention_entropy"]
    assert swin.kinds["local_attention"].startswith("at `layers.0.blocks.0.attn`, ")
    cnn = fitting(Model(arch="test_resnet", weights="random"))
    assert cnn.kinds["attention_map"] == cnn.kinds["mask_heads"] == "it has no attention weights"
    assert not cnn.kinds["remove_skip"]


def test_a_model_that_cannot_be_traced_says_why() -> None:
    found = fitting(Model(arch="no_such_model", weights="random"))
    assert "no_such_model" in found.trace and not found.kinds


def test_the_command_prints_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["sites", "test_resnet", "--summary"]) == 0
    said = capsys.readouterr().out
    assert "residual units, 0 attention modules" in said and "it has no attention weights" in said
    assert run(["sites", "test_vit", "--summary", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["schema"] == "vitdsl.fitting/1" and found["kinds"]["skip_ratio"] == ""
