"""Training by several processes of `torchrun`: the weights of one, one error, one table, one file."""

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import safetensors
from torch import Tensor

from vitdsl.dsl.diagnostics import EnvironmentProblem
from vitdsl.dsl.load import load_text
from vitdsl.runtime.ranks import Ranks
from vitdsl.runtime.train.store import obtain

SGD = "optimizer: sgd, learning_rate: 0.1, weight_decay: 0.0005"
RECIPES = {
    "sgd": SGD,
    "clipped": f"{SGD}, clip_grad: 0.5, label_smoothing: 0.1, schedule: linear, warmup_epochs: 1",
    "augmented": f"{SGD}, fraction: 0.7, augment: {{hflip: 0.5, color_jitter: 0.3, scale: [0.6, 1.0]}}",
    "without": f"{SGD}, without: [cut]",
    "adamw": "optimizer: adamw, learning_rate: 0.002",
}
TIGHT = 1e-5
TOLERANCES = dict.fromkeys(RECIPES, TIGHT) | {"adamw": 1e-2}
VIT = (
    "vit_tiny_patch16_224, options: "
    "{img_size: 32, patch_size: 8, embed_dim: 24, depth: 2, num_heads: 2, num_classes: 10DROP}"
)
RESNET = "resnet18, input_size: 32, options: {layers: [1, 1, 1, 1], channels: [8, 8, 8, 8], num_classes: 10}"
DATA = "{source: digits, split: train, images: 50, batch: 16}"
"""50 images in batches of 13, 13, 12, 12: two processes take shares of 7 and 6, three of 5, 4 and 4."""


def study(models: dict[str, tuple[str, str]]) -> str:
    """A study of models, each with an architecture and a recipe; `few` has batches of 2 images."""
    lines = [
        f"  {name}: {{arch: {arch}, train: {{data: {DATA}, epochs: 2, seed: 0, {recipe}}}}}"
        for name, (arch, recipe) in models.items()
    ]
    return "\n".join(
        [
            "vitdsl: 1",
            "study: shared",
            "data: {probe: {source: digits, split: test, images: 40, image_blocks: 4, batch: 10}}",
            "models:",
            *(line.replace("batch: 16", "batch: 2") if "few:" in line else line for line in lines),
            *(
                ["ablations: {cut: {kind: remove_branch, of: without, at: blocks.1.mlp}}"]
                if "without" in models
                else []
            ),
            f"metrics: {{accuracy: {{kind: accuracy, of: [{', '.join(models)}]}}}}",
        ]
    )


ONE = study({"m": (VIT.replace("DROP", ""), SGD)})
ALL = study(
    {name: (VIT.replace("DROP", ""), recipe) for name, recipe in RECIPES.items()}
    | {
        "norms": (RESNET, f"{SGD}, clip_grad: 1.0"),
        "few": (VIT.replace("DROP", ""), SGD),
        "dropping": (VIT.replace("DROP", ", drop_rate: 0.1"), SGD),
    }
)


def launch(
    folder: Path,
    *words: str,
    processes: int = 1,
    text: str = ONE,
    script: str = "",
    cache: Path | None = None,
) -> "subprocess.CompletedProcess[str]":
    """`vitdsl` in one process or under torchrun, in a folder that holds the study; a script may come before it."""
    folder.mkdir(exist_ok=True)
    (folder / "study.yaml").write_text(text)
    front = ["-m", "vitdsl"]
    if script:
        (folder / "script.py").write_text(f"{script}\nfrom vitdsl.cli import main\nmain()\n")
        front = ["script.py"]
    if processes > 1:
        front = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", *front]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "VITDSL_CACHE": str(cache or folder / "cache")}
    return subprocess.run(
        [sys.executable, *front, *words], cwd=folder, env=environment, capture_output=True, text=True,
        check=False, timeout=300,
    )  # fmt: skip


@dataclass(frozen=True)
class Ended:
    """A command's end, and the weights and headers that it left, by model."""

    done: "subprocess.CompletedProcess[str]"
    weights: dict[str, dict[str, Tensor]]
    said: dict[str, dict[str, Any]]


def trained(folder: Path, *words: str, text: str = ALL, processes: int = 1) -> Ended:
    done = launch(folder, "train", "study.yaml", *words, text=text, processes=processes)
    assert done.returncode == 0, done.stderr[-3000:]
    weights, said = {}, {}
    for line in done.stdout.splitlines():
        name, _, rest = line.partition(": trained, ")
        with safetensors.safe_open(rest, framework="pt") as file:
            said[name] = json.loads(file.metadata()["vitdsl"])
            weights[name] = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    return Ended(done, weights, said)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ddp")


@pytest.fixture(scope="module")
def one(folder: Path) -> Ended:
    return trained(folder / "one")


@pytest.fixture(scope="module")
def many(folder: Path) -> Ended:
    """By three processes."""
    return trained(folder / "many", processes=3)


def apart(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    """The largest norm of a tensor's difference over the tensor's norm."""
    assert a.keys() == b.keys()
    return max(
        float((x - b[name]).double().norm() / x.double().norm().clamp_min(1e-6)) for name, x in a.items()
    )


@pytest.mark.parametrize("name", list(RECIPES))
def test_the_weights_are_those_of_one_process(one: Ended, many: Ended, name: str) -> None:
    assert apart(one.weights[name], many.weights[name]) < TOLERANCES[name]
    said, also = one.said[name], many.said[name]
    assert (said["training"]["processes"], also["training"]["processes"]) == (1, 3)
    assert said["key"] == also["key"]
    rest = {"processes": 0, "train_loss": 0}
    assert said["training"] | rest == also["training"] | rest
    assert also["training"]["train_loss"] == pytest.approx(said["training"]["train_loss"], rel=1e-4)


def test_the_table_is_printed_once(many: Ended) -> None:
    assert [line.partition(":")[0] for line in many.done.stdout.splitlines()] == list(many.weights)


@pytest.mark.parametrize("name", ["norms", "few"])
def test_what_several_cannot_train_one_trains_and_says_so(one: Ended, many: Ended, name: str) -> None:
    (line,) = [line for line in many.done.stderr.splitlines() if line.startswith(f"{name}: ")]
    why = {"norms": "its batch norms need whole batches", "few": "a batch of 2 has no image for each process"}
    assert why[name] in line and "the first of 3 processes trains it alone" in line
    assert many.said[name]["training"]["processes"] == 1
    assert many.said[name]["sha256"] == one.said[name]["sha256"]


def test_dropout_of_several_draws_is_told(one: Ended, many: Ended) -> None:
    assert many.done.stderr.count("dropout: 3 processes draw other masks than one would") == 1
    assert "other masks" not in one.done.stderr
    assert apart(one.weights["dropping"], many.weights["dropping"]) > TIGHT


def test_a_run_trains_together_and_one_process_reads_the_same_weights(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    done = launch(tmp_path / "two", "run", "study.yaml", "--no-report", processes=2, cache=cache)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("trust checks:") == 1 and done.stderr.count("train m: 2/2 epochs") == 1
    alone = launch(tmp_path / "one", "run", "study.yaml", "--no-report", cache=cache)
    assert alone.returncode == 0 and "train m" not in alone.stderr
    found, two = (next((tmp_path / n / "runs" / "shared").iterdir()) / "results.nc" for n in ("one", "two"))
    assert found.read_bytes() == two.read_bytes()


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


@pytest.mark.parametrize(("kind", "command"), [("a bug", "train"), ("a problem", "run")])
def test_a_rank_that_fails_ends_all_with_its_error(tmp_path: Path, kind: str, command: str) -> None:
    began = time.monotonic()
    script = IMPORTS + FAULT.replace("RAISED", RAISED[kind])
    done = launch(tmp_path, command, "study.yaml", processes=2, script=script)
    assert done.returncode != 0 and time.monotonic() - began < 60
    lines = [line for line in done.stderr.splitlines() if "out of luck" in line]
    assert len(lines) == 1 and "rank 1: " in lines[0], done.stderr
    assert done.stderr.count("internal error") == (kind == "a bug"), done.stderr
    assert not (tmp_path / "cache" / "weights").exists()


@pytest.mark.parametrize(
    ("command", "old", "new", "code"),
    [
        ("run", "metrics: ", "metrik: ", "VD1"),
        ("train", "source: digits, split: train, images: 50", "source: folder, path: ./nowhere", "VD4"),
    ],
)
def test_what_all_find_wrong_is_said_once(
    tmp_path: Path, command: str, old: str, new: str, code: str
) -> None:
    done = launch(tmp_path, command, "study.yaml", processes=2, text=ONE.replace(old, new))
    assert done.returncode != 0
    assert done.stderr.count(f"[{code}") == 1 and "rank 1: " not in done.stderr, done.stderr


def test_weights_that_another_process_does_not_see(tmp_path: Path) -> None:
    class Apart(Ranks):
        def gathered(self, value: Any) -> list[Any]:
            return [value, False] if isinstance(value, bool) else [value]

    model = load_text(ONE).study.models["m"]
    with pytest.raises(EnvironmentProblem, match="VD407 not every process sees") as caught:
        obtain(model, seed=0, folder=tmp_path, store=tmp_path, ranks=Apart())
    assert "VITDSL_CACHE" in caught.value.diagnostics[0].help[0]


@pytest.mark.gpu
@pytest.mark.parametrize("arch", [VIT.replace("DROP", ""), RESNET], ids=["vit", "batch norm"])
def test_two_processes_on_cuda(tmp_path: Path, arch: str) -> None:
    """NCCL where there are two GPUs, gloo where they share one."""
    text = study({"m": (arch, SGD)})
    alone, two = (trained(tmp_path / str(n), "--device", "cuda", text=text, processes=n) for n in (1, 2))
    assert apart(alone.weights["m"], two.weights["m"]) < 1e-2 and two.said["m"]["training"]["processes"] == 2
