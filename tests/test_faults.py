"""Faults of images, weights and studies: each is named with what to do, and no number comes of it."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from vitdsl.cli import run
from vitdsl.dsl.diagnostics import EnvironmentProblem, StudyError
from vitdsl.dsl.load import load_source, load_text
from vitdsl.dsl.study import Model
from vitdsl.runtime.models import loading
from vitdsl.runtime.plan import bind as binding
from vitdsl.runtime.plan.bind import bind
from vitdsl.runtime.run.run import run as run_plan
from vitdsl.runtime.train import store

NET = "arch: resnet10t, options: {num_classes: 2}, input_size: 32"
STUDY = f"""\
vitdsl: 1
study: s
data: {{photos: {{source: folder, path: ./photos, batch: 4}}}}
models: {{net: {{{NET}, weights: random}}}}
layers: {{stages: {{of: net, at: "layer*.*"}}}}
metrics: {{within: {{kind: cka, x: stages}}}}
"""
RUN = ["run", "study.yaml", "-q", "--no-report", "--device", "cpu"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a study and eight images, which is the current one."""
    for index in range(8):
        folder = tmp_path / "photos" / ("cats", "dogs")[index % 2]
        folder.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(index).integers(0, 255, (32, 32, 3), np.uint8)
        Image.fromarray(noise).save(folder / f"{index}.png")
    (tmp_path / "study.yaml").write_text(STUDY)
    monkeypatch.chdir(tmp_path)
    return tmp_path


REPEATS = """\
vitdsl: 1
study: s
data: {probe: {source: digits, split: test, images: 32, batch: 8}}
models: {vit: {arch: vit_tiny_patch16_224, weights: random}}
layers: {blocks: {of: vit, at: AT, tokens: TOKENS}}
ablations: {mean: {kind: mean_ablate, of: vit, at: "blocks.0.attn", tokens: CHANGED}}
metrics: {within: {kind: cka, x: blocks}}
claims: {c: {say: yes., left: {metric: within, value: cka, where: {x: WHERE}, take: mean}, is: greater, right: 0}}
"""
ONCE = {
    "AT": '["blocks.0", "blocks.1"]',
    "TOKENS": "[0, 1]",
    "CHANGED": "[0, 1]",
    "WHERE": "[blocks.0, blocks.1]",
}
TWICE = {
    "AT": '["blocks.0", "blocks.1", "blocks.0"]',
    "TOKENS": "[0, 1, 1]",
    "CHANGED": "[2, 3, 2]",
    "WHERE": "[blocks.0, blocks.0]",
}


@pytest.mark.parametrize("place", list(TWICE))
def test_what_stands_twice_in_a_list_is_refused_where_it_stands_again(place: str) -> None:
    def text(**more: str) -> str:
        found = REPEATS
        for name, value in (ONCE | more).items():
            found = found.replace(name, value)
        return found

    load_text(text())
    with pytest.raises(StudyError) as raised:
        load_text(text(**{place: TWICE[place]}))
    (problem,) = raised.value.diagnostics
    assert problem.code == "VD209" and problem.span is not None
    line = text(**{place: TWICE[place]}).splitlines()[problem.span.line - 1]
    again = line[problem.span.column - 1 :]
    again_text = TWICE[place].strip("[]").rsplit(", ", 1)[1]
    assert again.startswith(again_text) and line[: problem.span.column - 1].count(again_text) >= 1


def test_weights_that_are_not_finite_are_named(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    module = loading.load(
        Model.model_validate({"arch": "resnet10t", "options": {"num_classes": 2}, "weights": "random"}),
        seed=0,
        folder=here,
    ).module
    state = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    state["layer2.0.conv1.weight"][0, 0, 0, :2] = torch.tensor([float("nan"), float("inf")])
    save_file(state, here / "net.safetensors")
    (here / "study.yaml").write_text(STUDY.replace("weights: random", "weights: {file: net.safetensors}"))
    assert run(RUN) == 3
    err = capsys.readouterr().err
    assert (
        "VD416" in err and "2 of 73,728 values of `layer2.0.conv1.weight`" in err and "report it" not in err
    )


def test_a_checkpoint_that_is_cut_short_is_told(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "net.safetensors").write_bytes(b"\x08\x00\x00\x00\x00\x00\x00\x00{}")
    (here / "study.yaml").write_text(STUDY.replace("weights: random", "weights: {file: net.safetensors}"))
    assert run(RUN) in (2, 3)
    assert "VD405" in capsys.readouterr().err


def test_weights_are_hashed_as_they_were_loaded(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Changed on disk between planning and loading: what counts is what was loaded."""
    entry = {"arch": "resnet10t", "options": {"num_classes": 2}, "weights": "random"}
    states = [
        loading.load(Model.model_validate(entry), seed=seed, folder=here).module.state_dict()
        for seed in (0, 1)
    ]
    path = here / "net.safetensors"
    save_file(states[0], path)
    (here / "study.yaml").write_text(STUDY.replace("weights: random", "weights: {file: net.safetensors}"))
    plan = bind(load_source(here / "study.yaml"))
    save_file(states[1], path)
    outcome = run_plan(plan, out=here / "runs")
    wanted = loading.checkpoints.digest(loading.load(plan.models["net"].entry, seed=0, folder=here).module)
    assert outcome.manifest.models["net"].weights.sha256 == wanted
    assert all(torch.equal(load_file(path)[name], states[1][name]) for name in states[1])


def test_odd_images_are_named(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import warnings

    warnings.simplefilter("error")
    odd = here / "photos" / "cats" / "odd.png"
    for image, words in (
        (Image.new("1", (50_000, 1)), "50,000 x 1 pixels"),
        (Image.new("1", (14_000, 13_000)), "decompression bomb"),
    ):
        image.save(odd)
        capsys.readouterr()
        assert run(RUN) == 3
        err = capsys.readouterr().err
        assert "VD402" in err and "odd.png" in err and words in err
    Image.new("1", (10_000, 9_500)).save(odd)
    assert run(RUN) == 0


def test_no_other_program_decodes_an_image(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("RGB", (32, 32)).save(here / "photos" / "cats" / "drawing.eps")
    assert run(RUN) == 0, "an .eps file is not an image here"
    (here / "photos" / "cats" / "drawing.eps").rename(here / "photos" / "cats" / "drawing.png")
    capsys.readouterr()
    assert run(RUN) == 3
    assert "drawing.png" in capsys.readouterr().err


def test_image_names_that_are_not_utf8_lose_nothing(here: Path) -> None:
    Image.new("RGB", (32, 32)).save(here / "photos" / "cats" / os.fsdecode(b"\xff.png"))
    assert run(["run", "study.yaml", "-q", "--device", "cpu"]) == 0
    (folder,) = here.glob("runs/s/*")
    assert "cats/\\udcff.png" in (folder / "images.csv").read_text("utf-8")
    assert json.loads((folder / "manifest.json").read_text("utf-8"))["status"] == "success"


TRAINED = STUDY.replace(
    "weights: random",
    "train: {data: {source: folder, path: ./photos, batch: 4}, epochs: 1, learning_rate: 0.001}",
)


def test_a_weight_store_that_cannot_be_written_is_found_before_training(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "study.yaml").write_text(TRAINED)
    (here / "file").write_text("")
    monkeypatch.setenv("VITDSL_CACHE", str(here / "file" / "cache"))
    monkeypatch.setattr(store.train, "train", lambda *_, **__: pytest.fail("trained for nothing"))
    assert run(RUN) == 3
    assert "VD407" in capsys.readouterr().err


def test_weights_are_kept_where_the_store_fills_up_while_training(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "study.yaml").write_text(TRAINED)
    monkeypatch.setenv("VITDSL_CACHE", str(here / "cache"))
    monkeypatch.setenv("TMPDIR", str(here))
    monkeypatch.setattr("tempfile.tempdir", None)
    real, folders = store.save, []

    def full(done: Any, content: Any, folder: Path) -> Path:
        folders.append(folder)
        if len(folders) == 1:
            raise EnvironmentProblem(store.Diagnostic("VD407", "cannot write: no space"))
        return real(done, content, folder)

    monkeypatch.setattr(store, "save", full)
    assert run(["run", "study.yaml", "--no-report", "--device", "cpu"]) == 0
    assert "the trained weights are kept in" in capsys.readouterr().err
    assert list(folders[1].glob("*.safetensors"))


def test_a_study_that_is_edited_while_it_starts_is_the_one_that_was_read(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = binding.sites_of

    def edited(*args: Any, **more: Any) -> Any:
        (here / "study.yaml").write_text("edited: meanwhile\n")
        return real(*args, **more)

    monkeypatch.setattr(binding, "sites_of", edited)
    assert run(RUN) == 0
    (folder,) = here.glob("runs/s/*")
    assert (folder / "spec.source.yaml").read_text() == STUDY
