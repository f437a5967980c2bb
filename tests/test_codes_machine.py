"""What only this machine, the command line or the run can make wrong: each situation gives the text in errors/machine.

With `REWRITE_GOLDEN=1` in the environment the texts are written instead.

Longer than 300 lines: each situation is a few lines, and all of them share how a situation is shown.
"""

import json
import os
import re
import shutil
import signal
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from median_norm import MedianNorm
from studies import TINY_RESNET, changed, flow
from studies import study as text_of
from vitdsl.cli import run
from vitdsl.dsl.codes import CATALOGUE
from vitdsl.dsl.diagnostics import VitdslError
from vitdsl.dsl.load import load_source
from vitdsl.dsl.render import render
from vitdsl.dsl.sealing import seal, seal_path
from vitdsl.dsl.study import Model
from vitdsl.runtime import kinds
from vitdsl.runtime.metrics._base import METRICS
from vitdsl.runtime.models import loading, plugins
from vitdsl.runtime.models.outside import Given
from vitdsl.runtime.plan.bind import bind
from vitdsl.runtime.run.engine import Engine

ERRORS = Path(__file__).parent / "dsl" / "errors"
MACHINE = ERRORS / "machine"
NET = changed(TINY_RESNET, {"num_classes": 2})

NOT_SHOWN: dict[str, str] = {}
"""Codes that have no text of their own, each with the reason."""


def golden(name: str, found: str, here: Path) -> None:
    """The text of a situation is the one that was written down."""
    import timm

    found = found.replace(str(here), "HERE").replace(f"timm {timm.__version__}", "timm X.Y.Z")
    found = found.replace(torch.__version__, "X.Y.Z")
    found = re.sub(r"CUDA [\d.]+|CUDA \(none\)", "CUDA X.Y", found)
    found = re.sub(r"[0-9a-f]{16}\.safetensors", "KEY.safetensors", found)
    found = re.sub(r"\d{8}T\d{6}Z-[0-9a-f]{8}(-\d+)?", "TIME-HASH", found)
    path = MACHINE / f"{name}.txt"
    if os.environ.get("REWRITE_GOLDEN"):
        path.write_text(found)
    assert found == path.read_text()
    assert name.partition("_")[0] in found and "Traceback" not in found and "help: " in found


def study(folder: Path, **sections: str) -> Path:
    """A small study, with some of its sections replaced."""
    text = {
        "data": "{photos: {source: folder, path: ./photos, batch: 4}}",
        "models": flow({"net": NET}),
        "layers": '{stages: {of: net, at: "layer*.*"}}',
        "metrics": "{within: {kind: cka, x: stages}}",
    } | sections
    path = folder / "study.yaml"
    path.write_text(text_of("s", **text))
    return path


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with images of two classes, which is the current one."""
    for index in range(8):
        folder = tmp_path / "photos" / ("cats", "dogs")[index % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (32, 32), (index * 30, 90, 200 - index * 20)).save(folder / f"{index}.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return tmp_path


@pytest.fixture
def fails(here: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., None]:
    """Run the command line, which must end with a code and a text."""

    def check(name: str, code: int, *words: str) -> None:
        capsys.readouterr()
        assert run([*words]) == code
        out, err = capsys.readouterr()
        golden(name, err or out, here)

    return check


def test_files(here: Path, fails: Callable[..., None]) -> None:
    study(here)
    fails("VD001_typo", 2, "check", "studdy.yaml")
    fails("VD001_folder", 2, "plan", ".")
    fails("VD001_nowhere", 2, "plan", "specs/study.yaml")
    (here / "study.yaml").unlink()
    fails("VD001_first", 2, "run", "study.yaml")


def test_overrides(here: Path, fails: Callable[..., None]) -> None:
    study(here)
    fails("VD016_form", 2, "show", "study.yaml", "--set", "seed:3")
    fails("VD018_entry", 2, "show", "study.yaml", "--set", "models.nte.seed=1")
    fails("VD103_set", 2, "show", "study.yaml", "--set", "models.net.sede=1")
    fails("VD102_set", 2, "show", "study.yaml", "--set", "seed=one # two = three")
    fails("VD011_set", 2, "show", "study.yaml", "--set", "seed=.inf")


def test_images(here: Path, fails: Callable[..., None]) -> None:
    study(here)
    (here / "photos" / "cats" / "0.png").write_bytes(b"\x89PNG no")
    fails("VD402_broken", 3, "run", "study.yaml", "-q")
    (here / "photos" / "cats" / "0.png").write_bytes((here / "photos" / "cats" / "2.png").read_bytes()[:60])
    fails("VD402_cut_short", 3, "run", "study.yaml", "-q")
    (here / "photos" / "dogs" / "1.png").write_bytes(b"no image")
    fails("VD402_several", 3, "run", "study.yaml", "-q")
    (here / "photos" / "dogs" / "1.png").unlink()
    (here / "photos" / "cats" / "0.png").unlink()
    Image.new("F", (32, 32), 0.5).save(here / "photos" / "cats" / "scan.tif")
    fails("VD418_float", 3, "run", "study.yaml", "-q")


def test_checkpoints(here: Path, fails: Callable[..., None]) -> None:
    models = flow({"net": changed(NET, weights="{file: ./w.%s}")})
    study(here, models=models % "safetensors")
    save_file({"conv1.weight": torch.zeros(3, 3), "head.bias": torch.zeros(2)}, here / "w.safetensors")
    fails("VD405_other", 3, "run", "study.yaml", "-q")
    (here / "w.pth").write_bytes(b"not a checkpoint")
    study(here, models=models % "pth")
    fails("VD405_no_checkpoint", 3, "run", "study.yaml", "-q")
    study(here, models="{net: {arch: resnet10t, input_size: 32, weights: pretrained}}")
    fails("VD406_offline", 3, "run", "study.yaml", "-q")


def test_output(here: Path, fails: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    study(here)
    monkeypatch.setattr("vitdsl.runtime.run.environment.available", lambda: ["cpu"])
    (here / "taken").write_text("a regular file")
    fails("VD407_below_a_file", 3, "run", "study.yaml", "-q", "--out", "taken/runs")
    fails("VD408_no_device", 3, "run", "study.yaml", "-q", "--device", "quantum:3")


def test_memory(here: Path, fails: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    study(here)
    monkeypatch.setattr("vitdsl.runtime.run.execute.Runner.forward", full)
    monkeypatch.setattr("vitdsl.runtime.run.environment.available", lambda: ["cpu"])
    fails("VD409_smallest", 3, "run", "study.yaml", "-q")
    fails("VD409_full", 3, "run", "study.yaml", "-q", "--set", "data.photos.batch=64")


def test_data_sets(here: Path, fails: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name, package=None: None)
    study(here, data="{photos: {source: timm, name: hfds/timm/mini-imagenet}}")
    fails("VD410_library", 3, "run", "study.yaml", "-q")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, package=None: True)
    study(here, data="{photos: {source: timm, name: wds/photos, root: ./photos}}")
    fails("VD245_no_size", 2, "run", "study.yaml", "-q")
    study(here, data="{photos: {source: timm, name: torch/cifar10, root: ./photos}}")
    fails("VD411_refused", 3, "check", "study.yaml")


TRAINED = """
  net:
    arch: resnet10t
    options: {num_classes: 2}
    input_size: 32
    train: {data: {source: folder, path: ./photos, batch: 4}, epochs: 1, learning_rate: %s}
"""


def test_stored_weights(here: Path, fails: Callable[..., None]) -> None:
    study(here, models=TRAINED % "0.001")
    assert run(["train", "study.yaml", "-q"]) == 0
    (stored,) = Path(os.environ["VITDSL_CACHE"]).rglob("*.safetensors")
    stored.write_bytes(stored.read_bytes()[:-100])
    fails("VD412_damaged", 3, "run", "study.yaml", "-q")


def test_training_that_diverges(here: Path, fails: Callable[..., None]) -> None:
    study(here, models=TRAINED % "1e30")
    fails("VD503_diverged", 2, "train", "study.yaml", "-q")


def test_trust(here: Path, fails: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    study(here)
    monkeypatch.setattr("vitdsl.runtime.run.trust.IDENTITY", -1.0)
    fails("VD501_identity", 3, "run", "study.yaml", "-q")


def test_a_store_that_another_process_does_not_share(
    here: Path, fails: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    study(here)
    monkeypatch.setattr("vitdsl.runtime.run.engine.Engine._walk", lambda *_: None)
    fails("VD504_elsewhere", 3, "run", "study.yaml", "-q")


def test_weights_that_are_not_finite(here: Path, fails: Callable[..., None]) -> None:
    entry = {"arch": "resnet10t", "options": {"num_classes": 2}, "weights": "random"}
    module = loading.load(Model.model_validate(entry), seed=0, folder=here).module
    state = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    state["fc.bias"][1] = float("nan")
    save_file(state, here / "net.safetensors")
    net = "{arch: resnet10t, options: {num_classes: 2}, input_size: 32, weights: {file: net.safetensors}}"
    study(here, models=f"{{net: {net}}}")
    fails("VD416_nan", 3, "run", "study.yaml", "-q")
    state["fc.bias"][1] = 0
    for name in ("layer2.0.conv1.weight", "layer2.0.conv2.weight"):
        state[name] = state[name] * 1e30
    save_file(state, here / "net.safetensors")
    fails("VD506_overflow", 3, "run", "study.yaml", "-q")


def test_a_full_disk_and_a_removed_folder(
    here: Path, fails: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    study(here)
    real = Engine._walk

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "somewhere")

    def removing(*args: Any) -> None:
        real(*args)
        for path in here.glob("runs/s/*"):
            shutil.rmtree(path)

    monkeypatch.setattr(Engine, "_walk", full)
    fails("VD414_full", 3, "run", "study.yaml", "-q")
    monkeypatch.setattr(Engine, "_walk", removing)
    fails("VD415_removed", 3, "run", "study.yaml", "-q")


def test_a_killed_decoding_process(
    here: Path, fails: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    parent = os.getpid()

    def killed(self: object, index: int) -> None:
        assert os.getpid() != parent
        os.kill(os.getpid(), signal.SIGKILL)

    study(here)
    monkeypatch.setattr("vitdsl.runtime.data.stream.workers_for", lambda *_: 1)
    monkeypatch.setattr("vitdsl.runtime.data.sources.folder.Folder.load", killed)
    fails("VD505_killed", 3, "run", "study.yaml", "-q")


def test_too_much_of_each_image(
    here: Path, fails: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(METRICS.kinds(), "median_norm", MedianNorm)
    monkeypatch.setattr("vitdsl.runtime.plan.bind_memory.MOST_ROWS", 100)
    study(here, metrics="{norms: {kind: median_norm, x: stages}}")
    fails("VD303_rows", 2, "check", "study.yaml")


def test_runs(here: Path, fails: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    study(here)
    fails("VD601_no_run", 3, "report", "photos")
    fails("VD601_nowhere", 3, "report", "runs/s")
    assert run(["run", "study.yaml", "-q", "--json"]) == 0
    folder = Path(json.loads(capsys.readouterr().out)["run"])
    fails("VD601_above", 3, "report", "runs/s")
    folder = folder.rename("done")
    (folder / "results.nc").unlink()
    fails("VD601_no_results", 3, "report", "done")
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"status": "interrupted"}))
    fails("VD601_interrupted", 3, "report", "done")
    (folder / "manifest.json").write_text("{")
    fails("VD601_cut_short", 3, "report", "done")


def test_seals(here: Path, fails: Callable[..., None]) -> None:
    path = study(here)
    made = seal(load_source(path).study, vitdsl="0.1.0", now=datetime(2026, 11, 9, 9, 30, tzinfo=UTC)).text
    seal_path(path).write_text(made[:99])
    fails("VD417_cut_short", 3, "run", "study.yaml", "-q")
    seal_path(path).write_text(made.replace("2026-11-09", "2026-11-02"))
    fails("VD417_dated_back", 3, "run", "study.yaml", "-q")


def test_plugins(fails: Callable[..., None], here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("half", "half_there", kinds.PLUGINS)
    (here / "half_there.py").write_text("raise ValueError('its other half is missing')\n")
    monkeypatch.syspath_prepend(here)
    monkeypatch.setattr(kinds, "entry_points", lambda group: [point])
    monkeypatch.setattr(kinds.Registry, "kinds", kinds.Registry.kinds.__wrapped__)
    fails("VD413_half", 3, "list", "metrics")


def test_models_of_ones_own(fails: Callable[..., None], here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = study(here, models="{net: {given: true}}")
    fails("VD270_command_line", 2, "run", "study.yaml")
    with pytest.raises(VitdslError) as caught:
        bind(load_source(path), {"nett": Given(torch.nn.Flatten()), "net": Given(torch.nn.Flatten())})
    golden("VD271_no_such_model", render(caught.value.diagnostics) + "\n", here)
    monkeypatch.setattr(plugins, "entry_points", lambda group: [EntryPoint("one", "mine.nets:vit", group)])
    study(here, models='{net: {arch: "mine.nets:vitt", weights: random}}')
    fails("VD230_not_offered", 2, "check", "study.yaml")


def test_features(here: Path, fails: Callable[..., None]) -> None:
    rows = torch.arange(16.0).view(8, 2)
    study(here, models="{net: {features: ./net.safetensors}}", layers='{stages: {of: net, at: "*"}}')
    save_file({"late": rows}, here / "net.safetensors")
    fails("VD430_no_ids", 3, "check", "study.yaml")
    ids = [f"{('cats', 'dogs')[index % 2]}/{index}.png" for index in range(8)]
    save_file({"late": rows}, here / "net.safetensors", {"ids": json.dumps([f"/data/{one}" for one in ids])})
    fails("VD431_other_ids", 3, "check", "study.yaml")
    rows[3, 1] = float("nan")
    save_file({"late": rows}, here / "net.safetensors", {"ids": json.dumps(ids)})
    fails("VD432_nan", 3, "check", "study.yaml")
    rows[3, 1] = 0
    save_file({"late": rows}, here / "net.safetensors", {"ids": json.dumps(ids)})
    study(
        here,
        models="{net: {features: ./net.safetensors}}",
        layers='{stages: {of: net, at: "*"}}',
        ablations='{cut: {kind: remove_branch, of: net, at: "*"}}',
        metrics="{right: {kind: accuracy, of: net}, fields: {kind: receptive_field, x: stages}}",
    )
    fails("VD302_features", 2, "check", "study.yaml")


DECIDING = """
from torch import nn

class Net(nn.Module):
    def __init__(self, threshold, sign):
        super().__init__()
        self.stem, self.more, self.head = nn.Conv2d(3, 4, 8, 8), nn.Identity(), nn.Linear(4, 2)
        self.threshold, self.sign = threshold, sign

    def forward(self, x):
        y = self.stem(x)
        if x.mean() > self.threshold:
            y = self.more(self.sign * y)
        return self.head(y.mean((2, 3)))

def net(threshold=0.0, sign=-1):
    return Net(threshold, sign)
"""


def test_models_whose_program_cannot_be_followed(
    here: Path, fails: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "deciding_net.py").write_text(DECIDING)
    monkeypatch.syspath_prepend(here)
    monkeypatch.setattr(
        plugins, "entry_points", lambda group: [EntryPoint("one", "deciding_net:net", plugins.MODELS)]
    )
    written = {"layers": '{stages: {of: net, at: "stem"}}', "metrics": "{right: {kind: accuracy, of: net}}"}
    arch = 'arch: "deciding_net:net", weights: random, input_size: 32'
    study(here, models=f"{{net: {{{arch}}}}}", **written)
    fails("VD301_by_others", 2, "check", "study.yaml")
    rare = f"{{net: {{{arch}, options: {{threshold: 1.0, sign: 1}}}}}}"
    ablations = '{cut: {kind: mean_ablate, of: net, at: "stem"}}'
    study(here, models=rare, ablations=ablations, **written)
    fails("VD305_hooks", 2, "check", "study.yaml")
    Image.new("RGB", (32, 32), (255, 255, 255)).save(here / "photos" / "cats" / "0.png")
    photos = "{photos: {source: folder, path: ./photos, batch: 1, shuffle: false}}"
    study(here, data=photos, models=rare, **written)
    fails("VD507_other_calls", 3, "run", "study.yaml", "-q")


def test_every_code_has_a_text() -> None:
    shown = {path.stem.partition("_")[0] for path in ERRORS.rglob("VD*.txt")}
    assert set(CATALOGUE) - shown == set(NOT_SHOWN) and not shown - set(CATALOGUE)


def test_every_text_has_a_situation() -> None:
    text = Path(__file__).read_text()
    assert all(f'"{path.stem}"' in text for path in MACHINE.glob("*.txt"))
