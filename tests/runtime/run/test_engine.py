"""Saved image blocks: resumed, cached, dealt and merged runs end with the bits of one that was left alone."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from studies import SAVED as STUDY
from vitdsl.dsl.diagnostics import EnvironmentProblem
from vitdsl.dsl.load import load_source, load_text
from vitdsl.runtime.plan.bind import bind
from vitdsl.runtime.ranks import Ranks
from vitdsl.runtime.results.folder import Outcome
from vitdsl.runtime.run import engine as engine_module
from vitdsl.runtime.run.blocks import BlockStore
from vitdsl.runtime.run.run import run


def bound(text: str = STUDY) -> Any:
    return bind(load_text(text))


def bits(outcome: Outcome) -> bytes:
    assert outcome.folder is not None
    return (outcome.folder / "results.nc").read_bytes()


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """What a run gives that was left alone."""
    return bits(run(bound(), out=tmp_path_factory.mktemp("alone")))


class Watched:
    """How many images each walk took, and which groups under which views it computed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, stop_after: int | None = None) -> None:
        self.blocks = 0
        self.units: list[tuple[str, str]] = []
        real = engine_module.walk

        def walk(runner: Any, stream: Any, blocks: Any, **more: Any) -> Any:
            self.units += [(group.path, view.id) for group in runner.groups for view in group.views]
            for done in real(runner, stream, blocks, **more):
                if stop_after is not None and self.blocks >= stop_after:
                    raise KeyboardInterrupt
                yield done
                self.blocks += 1

        monkeypatch.setattr(engine_module, "walk", walk)


def test_an_unchanged_study_is_answered_and_says_so(
    tmp_path: Path, alone: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert bits(run(bound(), out=tmp_path)) == alone
    watched = Watched(monkeypatch)
    again = run(bound(), out=tmp_path)
    assert bits(again) == alone and watched.blocks == 0
    assert {name: (one.found, one.of) for name, one in again.manifest.reused.items()} == {
        "probe, fits": (4, 4),
        "train, fits": (3, 3),
        "probe": (4, 4),
        "few, gradients": (2, 2),
    }
    assert again.manifest.trust and all(check.ok for check in again.manifest.trust)


def test_force_computes_again(tmp_path: Path, alone: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    run(bound(), out=tmp_path)
    watched = Watched(monkeypatch)
    assert bits(run(bound(), out=tmp_path, force=True)) == alone
    assert watched.blocks == 13


@pytest.mark.parametrize("after", [0, 3, 5, 8, 11])
def test_an_interrupted_run_goes_on_and_ends_with_the_same_bits(
    tmp_path: Path, alone: bytes, after: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        Watched(patch, stop_after=after)
        with pytest.raises(KeyboardInterrupt):
            run(bound(), out=tmp_path)
    (manifest,) = (json.loads(path.read_text()) for path in tmp_path.glob("saved/*/manifest.json"))
    assert manifest["status"] == "interrupted"
    with pytest.MonkeyPatch.context() as patch:
        watched = Watched(patch)
        assert bits(run(bound(), out=tmp_path)) == alone
        assert watched.blocks == 13 - after


def test_a_new_metric_computes_that_metric(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(bound(), out=tmp_path)
    watched = Watched(monkeypatch)
    more = STUDY + "  within: {kind: cka, x: blocks, under: baseline, data: probe}\n"
    found = run(bound(more), out=tmp_path)
    assert set(watched.units) == {("within/vit", "baseline")}
    assert bits(found) == bits(run(bound(more), out=tmp_path / "fresh"))


def test_a_new_condition_computes_that_lane_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(bound(), out=tmp_path)
    watched = Watched(monkeypatch)
    wider = STUDY.replace("blocks[0:1].attn", "blocks.*.attn")
    found = run(bound(wider), out=tmp_path)
    new = "no_skip@blocks.1.attn"
    assert set(watched.units) == {("accuracy/vit", new), ("drift/vit", new)}
    (work,) = found.manifest.work
    assert work.conditions == ("baseline", new)
    assert bits(found) == bits(run(bound(wider), out=tmp_path / "fresh"))


RENAMED = (
    STUDY.replace("study: saved", "study: other_name\ntitle: Another title")
    .replace("  vit:", "  model:")
    .replace("of: vit", "of: model")
    .replace("no_skip:", "without_it:")
    .replace("probe", "images")
)


def test_names_do_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(bound(), out=tmp_path)
    watched = Watched(monkeypatch)
    run(bound(RENAMED), out=tmp_path)
    assert watched.blocks == 0


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("batch: 8, image_blocks", "batch: 10, image_blocks"),
        ("images: 60", "images: 56"),
        ("weights: random", "weights: random, seed: 1"),
        ("split: test, images: 60", "split: test, seed: 3, images: 60"),
        ("split: train, images: 24", "split: train, images: 16"),
        ("role: stream", "role: branch"),
        ("over: train, role", "over: train, tokens: spatial, role"),
        ("channels: 4", "channels: 5"),
        ("embed_dim: 24", "embed_dim: 48"),
    ],
)
def test_what_changes_a_number_counts(
    tmp_path: Path, old: str, new: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert old in STUDY
    run(bound(), out=tmp_path)
    watched = Watched(monkeypatch)
    changed = STUDY.replace(old, new)
    found = run(bound(changed), out=tmp_path)
    assert watched.blocks > 0
    assert bits(found) == bits(run(bound(changed), out=tmp_path / "fresh"))


@pytest.mark.parametrize("size", [2, 3, 7])
def test_shards_merge_to_the_same_bits(
    tmp_path: Path, alone: bytes, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for rank in range(size):
        assert run(bound(), out=tmp_path, ranks=Ranks(rank, size, shard=True)).folder is None
    watched = Watched(monkeypatch)
    assert bits(run(bound(), out=tmp_path)) == alone
    assert watched.blocks == 0
    assert not list(tmp_path.glob("saved/*/.*")) and len(list(tmp_path.glob("saved/*"))) == 1


def test_a_run_merges_the_shards_that_are_there_and_computes_the_rest(tmp_path: Path, alone: bytes) -> None:
    run(bound(), out=tmp_path, ranks=Ranks(1, 3, shard=True))
    found = run(bound(), out=tmp_path)
    assert bits(found) == alone
    assert 0 < found.manifest.reused["probe"].found < 4


def test_a_damaged_block_is_said_and_computed_again(tmp_path: Path, alone: bytes) -> None:
    run(bound(), out=tmp_path)
    paths = sorted(BlockStore(tmp_path).root.rglob("*.block"))
    for path in paths[::3]:
        path.write_bytes(path.read_bytes()[:-50])
    found = run(bound(), out=tmp_path)
    assert bits(found) == alone
    assert any("damaged" in warning for warning in found.manifest.warnings)
    assert bits(run(bound(), out=tmp_path)) == alone


FOLDER = """
vitdsl: 1
study: photos
data: {probe: {source: folder, path: images, batch: 4, shuffle: false}}
models:
  vit: {arch: vit_tiny_patch16_224, weights: random,
        options: {img_size: 32, patch_size: 8, embed_dim: 24, num_heads: 3, depth: 2, num_classes: 10}}
layers: {blocks: {of: vit, at: "blocks.*"}}
metrics: {within: {kind: cka, x: blocks}}
"""


def photos(folder: Path) -> Path:
    """A study in a folder with twelve images."""
    from PIL import Image

    (folder / "images").mkdir(parents=True)
    for i in range(12):
        Image.effect_noise((40, 40), 10 + i).convert("RGB").save(folder / "images" / f"{i:02d}.png")
    path = folder / "study.yaml"
    path.write_text(FOLDER)
    return path


def test_images_count_by_content_and_not_by_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = photos(tmp_path / "here")
    first = run(bind(load_source(path)), out=tmp_path / "runs")
    (tmp_path / "here").rename(tmp_path / "there")
    watched = Watched(monkeypatch)
    again = run(bind(load_source(tmp_path / "there" / "study.yaml")), out=tmp_path / "runs")
    assert watched.blocks == 0 and bits(again) == bits(first)


def test_a_changed_image_is_computed_again_with_its_block_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = photos(tmp_path)
    run(bind(load_source(path)), out=tmp_path / "runs")
    shutil.copy(tmp_path / "images" / "01.png", tmp_path / "images" / "05.png")
    watched = Watched(monkeypatch)
    found = run(bind(load_source(path)), out=tmp_path / "runs")
    assert watched.blocks == 1
    assert bits(found) == bits(run(bind(load_source(path)), out=tmp_path / "fresh"))


def test_an_image_that_changes_between_planning_and_reading_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = photos(tmp_path)
    real = engine_module.walk

    def late(*args: Any, **more: Any) -> Any:
        shutil.copy(tmp_path / "images" / "01.png", tmp_path / "images" / "09.png")
        yield from real(*args, **more)

    monkeypatch.setattr(engine_module, "walk", late)
    with pytest.raises(EnvironmentProblem, match="VD402.*09.png.*changed while the study ran"):
        run(bind(load_source(path)), out=tmp_path / "runs")


def test_an_image_that_vanishes_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = photos(tmp_path)
    real = engine_module.walk

    def late(*args: Any, **more: Any) -> Any:
        (tmp_path / "images" / "09.png").unlink()
        yield from real(*args, **more)

    monkeypatch.setattr(engine_module, "walk", late)
    with pytest.raises(EnvironmentProblem, match="VD402.*09.png"):
        run(bind(load_source(path)), out=tmp_path / "runs")


def test_changed_weights_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import safetensors.torch
    import timm
    import torch

    path = photos(tmp_path)
    options = {
        "img_size": 32,
        "patch_size": 8,
        "embed_dim": 24,
        "num_heads": 3,
        "depth": 2,
        "num_classes": 10,
    }
    state = timm.create_model("vit_tiny_patch16_224", **options).state_dict()
    file = tmp_path / "vit.safetensors"
    safetensors.torch.save_file(state, file)
    path.write_text(FOLDER.replace("weights: random", "weights: {file: vit.safetensors}"))
    first = run(bind(load_source(path)), out=tmp_path / "runs")
    assert bits(run(bind(load_source(path)), out=tmp_path / "runs")) == bits(first)
    state["blocks.0.mlp.fc1.weight"] += torch.randn_like(state["blocks.0.mlp.fc1.weight"])
    safetensors.torch.save_file(state, file)
    watched = Watched(monkeypatch)
    changed = run(bind(load_source(path)), out=tmp_path / "runs")
    assert watched.blocks == 3 and bits(changed) != bits(first)
