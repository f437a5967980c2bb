"""Saved image blocks: resumed, cached, dealt and merged runs end with the bits of one that was left alone."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from vitdsl.cli import run as command
from vitdsl.dsl.diagnostics import EnvironmentProblem
from vitdsl.dsl.load import load_source, load_text
from vitdsl.runtime.plan.bind import bind
from vitdsl.runtime.ranks import Ranks
from vitdsl.runtime.run import engine as engine_module
from vitdsl.runtime.run.blocks import BlockStore
from vitdsl.runtime.run.run import Outcome, run

STUDY = """
vitdsl: 1
study: saved
data:
  probe: {source: digits, split: test, images: 60, batch: 8, image_blocks: 4}
  few: {source: digits, split: test, images: 8, batch: 4}
  train: {source: digits, split: train, images: 24, batch: 8}
models:
  vit: {arch: vit_tiny_patch16_224, weights: random,
        options: {img_size: 32, patch_size: 8, embed_dim: 24, num_heads: 3, depth: 2, num_classes: 10}}
layers:
  blocks: {of: vit, at: "blocks.*"}
ablations:
  no_skip: {kind: remove_skip, of: vit, at: "blocks[0:1].attn", each: true}
  mean_here: {kind: mean_ablate, of: vit, at: "blocks.1.mlp"}
  mean_there: {kind: mean_ablate, of: vit, at: "blocks.1.attn", over: train, role: stream}
metrics:
  accuracy: {kind: accuracy, of: vit, data: probe}
  drift: {kind: cka, x: blocks, against: baseline, data: probe}
  field: {kind: receptive_field, x: blocks, under: baseline, data: few, channels: 4}
"""


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


def environment() -> dict[str, str]:
    return {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}


def test_killed_at_any_moment_it_goes_on_with_the_same_bits(tmp_path: Path, alone: bytes) -> None:
    """`kill -9`, three times in one run, each a little later."""
    (tmp_path / "study.yaml").write_text(STUDY)
    words = [sys.executable, "-m", "vitdsl", "run", "study.yaml", "--no-report", "-q"]
    for seconds in (3.2, 3.6, 4.2):
        started = subprocess.Popen(words, cwd=tmp_path, env=environment())
        time.sleep(seconds)
        started.send_signal(signal.SIGKILL)
        started.wait()
    done = subprocess.run(words, cwd=tmp_path, env=environment(), check=True, capture_output=True, text=True)
    (path,) = [
        path
        for path in (tmp_path / "runs" / "saved").iterdir()
        if json.loads((path / "manifest.json").read_text())["status"] == "success"
    ]
    assert str(path.name) in done.stdout
    assert (path / "results.nc").read_bytes() == alone


def test_any_number_of_processes_gives_the_same_bits(tmp_path: Path, alone: bytes) -> None:
    (tmp_path / "study.yaml").write_text(STUDY)
    words = [
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "3",
        "-m",
        "vitdsl",
        "run",
        "study.yaml",
    ]
    done = subprocess.run(
        [sys.executable, "-m", *words, "--no-report"],
        cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    (path,) = (tmp_path / "runs" / "saved").iterdir()
    assert (path / "results.nc").read_bytes() == alone
    assert done.stdout.count("trust checks:") == 1


def test_one_failing_process_ends_all_with_its_error(tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    from PIL import Image

    for i in range(24):
        Image.new("RGB", (32, 32), (i * 10, 0, 0)).save(images / f"{i:02d}.png")
    broken = images / "13.png"
    broken.write_bytes(broken.read_bytes()[:-40])
    text = STUDY.replace(
        "{source: digits, split: test, images: 60,", "{source: folder, path: images, shuffle: false,"
    )
    (tmp_path / "study.yaml").write_text(
        text.replace("  accuracy: {kind: accuracy, of: vit, data: probe}\n", "")
    )
    words = [
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "-m",
        "vitdsl",
        "run",
        "study.yaml",
    ]
    done = subprocess.run(
        [sys.executable, "-m", *words, "--no-report"],
        cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode != 0
    assert "VD402" in done.stderr and "13.png" in done.stderr


@pytest.mark.parametrize("words", ["0/3", "4/3", "x", "1", "1/0", "-1/3"])
def test_a_wrong_share_is_told(words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "study.yaml").write_text(STUDY)
    assert command(["run", str(tmp_path / "study.yaml"), "--shard", words]) == 2
    assert "3/16" in capsys.readouterr().err


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


RESNET = (
    STUDY.replace(
        "layers:",
        """  res: {arch: resnet10t, weights: random, input_size: 32, options: {num_classes: 10, zero_init_last: true}}
layers:""",
    )
    .replace("of: vit, data: probe", "of: [vit, res], data: probe")
    .replace("metrics:", '  idle: {kind: remove_branch, of: res, at: "layer1.0"}\nmetrics:')
)


def trust(outcome: Outcome) -> set[tuple[str, str, bool]]:
    return {(one.check, one.model, one.ok) for one in outcome.manifest.trust}


def test_trust_checks_come_with_the_numbers_that_they_vouch_for_and_with_no_others(tmp_path: Path) -> None:
    idle = run(bound(RESNET), out=tmp_path)
    assert ("effect", "res", False) in trust(idle) and ("effect", "vit", True) in trust(idle)
    acts = bound(RESNET.replace("zero_init_last: true", "zero_init_last: false"))
    assert trust(run(acts, out=tmp_path)) == trust(run(acts, out=tmp_path / "fresh"))
    renamed = run(bound(STUDY.replace("vit:", "net:").replace("of: vit", "of: net")), out=tmp_path)
    assert set(renamed.manifest.reused) and {one.model for one in renamed.manifest.trust} == {"net"}
    assert not any("vit" in one.text + one.about for one in renamed.manifest.trust)


def test_two_runs_at_once_on_one_store_are_both_right(tmp_path: Path, alone: bytes) -> None:
    (tmp_path / "study.yaml").write_text(STUDY)
    words = [sys.executable, "-m", "vitdsl", "run", "study.yaml", "--no-report", "-q", "--device", "cpu"]
    both = [subprocess.Popen(words, cwd=tmp_path, env=environment()) for _ in range(2)]
    assert [one.wait(timeout=180) for one in both] == [0, 0]
    found = list(tmp_path.glob("runs/saved/*/results.nc"))
    assert len(found) == 2 and all(path.read_bytes() == alone for path in found)


def test_memory_does_not_grow_with_images(tmp_path: Path) -> None:
    peaks = []
    for images in (128, 2048):
        text = (
            "vitdsl: 1\nstudy: many\n"
            f"data: {{probe: {{source: noise, total: {images}, size: 64, classes: 10, batch: 64}}}}\n"
            "models: {net: {arch: resnet10t, weights: random, input_size: 64, options: {num_classes: 10}}}\n"
            'layers: {stages: {of: net, at: "layer*.*"}}\n'
            "metrics: {within: {kind: cka, x: stages}, accuracy: {kind: accuracy, of: net}}\n"
        )
        (tmp_path / "study.yaml").write_text(text)
        code = (
            "import resource; from vitdsl.cli import run\n"
            "assert run(['run', 'study.yaml', '--no-report', '-q', '--device', 'cpu']) == 0\n"
            "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
        )
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=tmp_path,
            env=environment(),
            capture_output=True,
            text=True,
            check=True,
        )
        peaks.append(int(done.stdout.splitlines()[-1]))
    assert peaks[1] <= 1.05 * peaks[0]
