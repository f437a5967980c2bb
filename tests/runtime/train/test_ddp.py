"""Training by several processes of `torchrun`: the weights of one, one error, one table, one file."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import safetensors
import torch
from torch import Tensor

STUDY = """\
vitdsl: 1
study: shared
data: {probe: {source: digits, split: test, images: 40, image_blocks: 4, batch: 10}}
models:
  m:
    arch: vit_tiny_patch16_224
    options: {img_size: 32, patch_size: 8, embed_dim: 24, depth: 2, num_heads: 2, num_classes: 10}
    train: {data: {source: digits, split: train, images: 50, batch: 16}, epochs: 2, seed: 0, RECIPE}
metrics: {accuracy: {kind: accuracy, of: m}}
"""
SGD = "optimizer: sgd, learning_rate: 0.1, weight_decay: 0.0005"
RESNET = STUDY.replace("vit_tiny_patch16_224", "resnet10t").replace(
    "{img_size: 32, patch_size: 8, embed_dim: 24, depth: 2, num_heads: 2, num_classes: 10}",
    "{num_classes: 10}\n    input_size: 32",
)


def launch(
    folder: Path, *words: str, recipe: str = SGD, processes: int = 1, study: str = STUDY, script: str = "",
    cache: Path | None = None,
) -> "subprocess.CompletedProcess[str]":  # fmt: skip
    """`vitdsl` in one process or under torchrun, in a folder that holds the study; a script may come before it."""
    folder.mkdir(exist_ok=True)
    (folder / "study.yaml").write_text(study.replace("RECIPE", recipe))
    front = ["-m", "vitdsl"]
    if script:
        (folder / "script.py").write_text(f"{script}\nfrom vitdsl.cli import main\nmain()\n")
        front = ["script.py"]
    if processes > 1:
        front = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", *front]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "VITDSL_CACHE": str(cache or folder / "cache")}
    return subprocess.run(
        [sys.executable, *front, *words], cwd=folder, env=environment, capture_output=True, text=True,
        check=False, timeout=180,
    )  # fmt: skip


def trained(folder: Path, *words: str, **more: Any) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The weights that `vitdsl train` stores, and what they say of themselves."""
    done = launch(folder, "train", "study.yaml", "-q", *words, **more)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("m: trained") == 1 == len(done.stdout.splitlines())
    (path,) = (folder / "cache" / "weights").iterdir()
    with safetensors.safe_open(str(path), framework="pt") as file:
        header = json.loads(file.metadata()["vitdsl"])
        return {name: file.get_tensor(name) for name in file.keys()}, header  # noqa: SIM118


def apart(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """The largest difference of a tensor's norm, over the norm."""
    assert one.keys() == other.keys()
    return max(
        float((a - other[name]).double().norm() / a.double().norm().clamp_min(1e-12))
        for name, a in one.items()
        if a.is_floating_point()
    )


@pytest.mark.parametrize(
    ("recipe", "processes", "tolerance"),
    [
        (SGD, 2, 1e-5),  # 50 images in batches of 13, 13, 12, 12: shares of 7 and 6
        (f"{SGD}, clip_grad: 0.5, label_smoothing: 0.1, schedule: linear, warmup_epochs: 1", 3, 1e-5),
        (f"{SGD}, augment: {{hflip: 0.5, color_jitter: 0.3, scale: [0.6, 1.0]}}, fraction: 0.7", 2, 1e-5),
        ("optimizer: adamw, learning_rate: 0.002", 2, 1e-2),
    ],
    ids=["sgd", "clipped", "augmented", "adamw"],
)
def test_the_weights_are_those_of_one_process(
    tmp_path: Path, recipe: str, processes: int, tolerance: float
) -> None:
    one, said = trained(tmp_path / "one", recipe=recipe)
    many, also = trained(tmp_path / "many", recipe=recipe, processes=processes)
    assert apart(one, many) < tolerance
    assert (said["training"].pop("processes"), also["training"].pop("processes")) == (1, processes)
    assert also["key"] == said["key"]
    assert also["training"].pop("train_loss") == pytest.approx(said["training"].pop("train_loss"), rel=1e-4)
    assert also["training"] == said["training"]


def test_trained_without_a_part(tmp_path: Path) -> None:
    study = STUDY.replace(
        "metrics:", "ablations: {cut: {kind: remove_branch, of: m, at: blocks.1.mlp}}\nmetrics:"
    )
    recipe = f"{SGD}, without: [cut]"
    (one, _), (many, also) = (
        trained(tmp_path / str(n), recipe=recipe, study=study, processes=n) for n in (1, 2)
    )
    assert apart(one, many) < 1e-5 and also["training"]["processes"] == 2


def test_batch_norm_on_the_cpu_is_trained_by_one_and_says_so(tmp_path: Path) -> None:
    one, _ = trained(tmp_path / "one", study=RESNET, recipe=f"{SGD}, clip_grad: 1.0")
    folder = tmp_path / "two"
    done = launch(
        folder, "train", "study.yaml", study=RESNET, recipe=f"{SGD}, clip_grad: 1.0", processes=2
    )
    assert done.returncode == 0, done.stderr[-3000:]
    said = [line for line in done.stderr.splitlines() if "trains it alone" in line]
    assert len(said) == 1 and "batch norms" in said[0]
    (path,) = (folder / "cache" / "weights").iterdir()
    with safetensors.safe_open(str(path), framework="pt") as file:
        assert json.loads(file.metadata()["vitdsl"])["training"]["processes"] == 1
        assert all(torch.equal(file.get_tensor(name), value) for name, value in one.items())


def test_more_processes_than_images_of_a_batch(tmp_path: Path) -> None:
    done = launch(
        tmp_path, "train", "study.yaml", processes=3, study=STUDY.replace("batch: 16", "batch: 2"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stderr.count("a batch of 2 has no image for each process") == 1


def test_dropout_of_several_draws_is_told(tmp_path: Path) -> None:
    study = STUDY.replace("depth: 2", "depth: 2, drop_rate: 0.1")
    done = launch(tmp_path, "train", "study.yaml", processes=2, study=study)
    assert done.returncode == 0 and done.stderr.count("draw other masks") == 1, done.stderr[-3000:]


def test_a_run_trains_together_and_one_process_reads_the_same_weights(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    study = STUDY.replace("seed: 0, RECIPE", f"seed: 0, {SGD}").replace(
        "batch: 16}, epochs: 2", "batch: 16}, epochs: 2, vary: {}"
    )
    study = STUDY
    done = launch(tmp_path / "two", "run", "study.yaml", "--no-report", processes=2, study=study, cache=cache)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("trust checks:") == 1 and "train m: 2/2 epochs" in done.stderr
    alone = launch(tmp_path / "one", "run", "study.yaml", "--no-report", study=study, cache=cache)
    assert alone.returncode == 0 and "train m" not in alone.stderr
    one, two = (next((tmp_path / n / "runs" / "shared").iterdir()) / "results.nc" for n in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()


FAULT = """
import os
from vitdsl.runtime.train import images
whole = images.Images.epoch
def broken(self, epoch, batches):
    for index, batch in enumerate(whole(self, epoch, batches)):
        if epoch == 1 and index == 1 and os.environ["RANK"] == "1":
            raise RAISED
        yield batch
images.Images.epoch = broken
"""
RAISED = {
    "a bug": 'RuntimeError("out of luck")',
    "a problem": 'EnvironmentProblem(Diagnostic("VD402", "out of luck"))',
}
IMPORTS = "from vitdsl.dsl.diagnostics import Diagnostic, EnvironmentProblem"


@pytest.mark.parametrize("kind", list(RAISED))
@pytest.mark.parametrize("command", ["train", "run"])
def test_a_rank_that_fails_ends_all_with_its_error(tmp_path: Path, kind: str, command: str) -> None:
    began = time.monotonic()
    script = IMPORTS + FAULT.replace("RAISED", RAISED[kind])
    done = launch(tmp_path, command, "study.yaml", processes=2, script=script)
    assert done.returncode != 0 and time.monotonic() - began < 60
    lines = [line for line in done.stderr.splitlines() if "out of luck" in line]
    assert len(lines) == 1 and "rank 1: " in lines[0], done.stderr
    assert done.stderr.count("internal error") == (kind == "a bug"), done.stderr
    assert not (tmp_path / "cache" / "weights").exists()


@pytest.mark.parametrize("command", ["train", "run"])
@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ("kind: accuracy", "kind: acuracy", "VD1"),
        ("vit_tiny_patch16_224", "vit_tinny", "VD2"),
        ("source: digits, split: train, images: 50", "source: folder, path: ./nowhere", "VD4"),
    ],
)
def test_what_all_find_wrong_is_said_once(tmp_path: Path, command: str, old: str, new: str, code: str) -> None:
    done = launch(tmp_path, command, "study.yaml", processes=3, study=STUDY.replace(old, new))
    assert done.returncode != 0
    assert done.stderr.count(f"[{code}") == 1 and "rank 1: " not in done.stderr, done.stderr


@pytest.mark.gpu
@pytest.mark.parametrize("study", [STUDY, RESNET], ids=["vit", "batch norm"])
def test_two_processes_on_cuda(tmp_path: Path, study: str) -> None:
    """NCCL where there are two GPUs, gloo where they share one."""
    (one, _), (two, also) = (
        trained(tmp_path / str(n), "--device", "cuda", study=study, recipe=SGD, processes=n) for n in (1, 2)
    )
    assert apart(one, two) < 1e-2 and also["training"]["processes"] == 2
