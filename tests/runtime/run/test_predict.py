"""What a run is predicted to take: the work against counts by hand, its growth, and what is kept of a machine."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from speed import SPEED
from studies import TINY_RESNET, TINY_VIT, bound, loaded, study
from vitdsl.cli import run as command
from vitdsl.runtime.graph.work import Op
from vitdsl.runtime.run import calibration as calibrations
from vitdsl.runtime.run import cost as pricing
from vitdsl.runtime.run.calibration import LARGE, SMALL, calibration, kept, measure
from vitdsl.runtime.run.compile import compile_model
from vitdsl.runtime.run.cost import predicted
from vitdsl.runtime.run.differentiated import CONVOLUTION
from vitdsl.runtime.run.dry import Dry
from vitdsl.runtime.run.run import run

CPU = torch.device("cpu")
LAYERS = {"v": '{of: vit, at: "blocks.*"}', "r": '{of: net, at: "layer*.*"}'}
METRICS = {
    "accuracy": "{kind: accuracy, of: [vit, net]}",
    "across": "{kind: cka, x: v, y: r, under: baseline}",
    "drift": "{kind: cka, x: v, against: baseline}",
    "probe": "{kind: linear_probe, x: v, under: baseline, train: probe}",
}


def text(images: int = 64, at: str = "blocks.*", batch: int = 16, *, only: str = "") -> str:
    """A study of a ViT and a ResNet, or of the ViT alone by some metrics."""
    known = {name: one for name, one in METRICS.items() if not only or name in only.split()}
    return study(
        "priced",
        data={"probe": {"source": "noise", "images": images, "size": 32, "batch": batch, "classes": 10}},
        models={"vit": TINY_VIT} if only else {"vit": TINY_VIT, "net": TINY_RESNET},
        layers={"v": LAYERS["v"]} if only else LAYERS,
        ablations={"cut": f'{{kind: remove_skip, of: vit, at: "{at}", each: true}}'},
        metrics=known,
    )


def test_the_work_of_a_batch_is_that_of_its_graph_and_of_each_gram_matrix() -> None:
    """A Gram matrix of `b` images with `f` features is a product of 2 b b f, taken of every site once."""
    plan, batch = bound(text()), 16
    one = plan.passes[-1]
    one = replace(one, groups=tuple(group for group in one.groups if group.metric != "probe"))
    compiled = {
        name: compile_model(plan.models[name], plan.models[name].sites.model, one.groups)
        for name in one.models
    }
    found = Dry().work(one.groups, compiled, batch)
    assert not found.unknown
    for name, calls in found.models.items():
        whole = sum(op.flops * count for op, count in calls.items() if not op.exact)
        merged = compiled[name].merged
        grams = {
            position: math.prod(tap.site.shape)
            for (_, tap), position in merged.slots.items()
            if tap.reducer.function.__name__ == "u_gram"
        }
        wanted = merged.work["merged"] * batch + sum(2 * batch * batch * width for width in grams.values())
        assert whole == pytest.approx(wanted), name


def test_seconds_of_a_call_by_hand() -> None:
    """Calls, operations and bytes add; the speed of memory goes from that of small to that of large tensors."""
    assert SPEED.seconds(Op("plain", 0, SMALL)) == pytest.approx(4e-6 + SMALL / 1e11)
    assert SPEED.seconds(Op("dear", 0, 4 * LARGE)) == pytest.approx(4e-6 + 4 * LARGE / 1e10)
    middle = math.sqrt(SMALL * LARGE)
    assert SPEED.seconds(Op("plain", 0, middle)) == pytest.approx(4e-6 + middle / 7.5e10)
    assert SPEED.seconds(Op("product", 1e9, 0)) == pytest.approx(4e-6 + 1e-2)
    assert SPEED.seconds(Op("product", 1e9, 0, exact=True)) == pytest.approx(4e-6 + 2e-2)
    assert SPEED.seconds(Op("convolution", 1e9, 0)) == pytest.approx(3e-5 + 5e-3)
    assert SPEED.seconds(Op("view", 0, 0)) == pytest.approx(2e-6)


def test_more_images_and_more_conditions_take_longer_and_images_no_more_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pricing, "reading_seconds", lambda stream: 1e-4)
    small = "drift probe"
    plans = [bound(text(*given, only=small)) for given in ((64,), (640,), (64, "blocks.0.*"))]
    prices, (few, many, fewer) = zip(*(predicted(plan, SPEED) for plan in plans), strict=True)
    assert not few.unknown and not many.unknown
    assert 4 < many.parts["images"] / few.parts["images"] < 10  # graphs are made and checked once
    assert fewer.parts["images"] < few.parts["images"] and fewer.seconds < few.seconds < many.seconds
    assert prices[0].memory == prices[1].memory >= prices[2].memory > 0 and few.memory > prices[0].memory
    assert few.calibrated_at == SPEED.made_at


class Counter(TorchDispatchMode):
    """Operations of each call, as PyTorch's own formulas count them."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: list[tuple[str, int]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        if (formula := flop_registry.get(func.overloadpacket)) is not None:
            self.counts.append((str(func), formula(*args, **(kwargs or {}), out_val=found)))
        return found


@pytest.mark.parametrize(
    ("model", "at", "convolutions"), [(TINY_VIT, "blocks.*", False), (TINY_RESNET, "layer*.*", True)]
)
def test_the_work_of_gradients_is_what_pytorch_counts_of_them(
    model: str, at: str, convolutions: bool
) -> None:
    """Products, or convolutions, of all backward passes: against PyTorch's own counter."""
    field = study(
        "field",
        data={"p": "{source: noise, images: 8, size: 32, batch: 4}"},
        models={"m": model},
        layers={"v": f'{{of: m, at: "{at}"}}'},
        metrics={"field": "{kind: receptive_field, x: v, channels: 3}"},
    )
    plan, batch = bound(field), 4
    groups, planned = plan.passes[-1].groups, plan.models["m"]
    module = loaded(plan, "m").module
    compiled = compile_model(planned, module, groups)
    found = Dry().work(groups, {"m": compiled}, batch)
    assert not found.unknown and not predicted(plan, SPEED)[1].unknown
    sort, per = ("convolution", CONVOLUTION) if convolutions else ("product", 1)
    said = sum(op.flops * count / per for op, count in found.metrics.items() if op.sort == sort)
    images = torch.rand(batch, 3, 32, 32).requires_grad_()
    with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH), Counter() as counter:
        compiled.merged.module(images)
    whole = sum(count for op, count in counter.counts if ("convolution" in op) is convolutions)
    forward = sum(
        op.flops * count for op, count in found.models["m"].items() if op.sort == sort and not op.exact
    )
    assert said == pytest.approx(whole - forward, rel=0.1)


def test_a_machine_is_measured_once_and_again_when_it_is_another(monkeypatch: pytest.MonkeyPatch) -> None:
    measured = []

    def noted(device: torch.device, machine: dict[str, object]) -> calibrations.Calibration:
        measured.append(machine)
        return SPEED.updated(machine=machine)

    monkeypatch.setattr(calibrations, "measure", noted)
    assert kept(CPU) is None
    first = calibration(CPU)
    assert calibration(CPU) == first == kept(CPU) and len(measured) == 1
    assert calibration(CPU, anew=True) and len(measured) == 2
    for name, other in (("cpu_facts", lambda: {"cpu": "another", "cores": 1}), ("VERSION", 1_000)):
        with monkeypatch.context() as patch:
            patch.setattr(calibrations, name, other)
            assert kept(CPU) is None
            calibration(CPU)
    assert len(measured) == 4 and kept(CPU) == first
    (path, _) = calibrations._place(CPU)
    for damaged in ("{", "{}", json.dumps({**first.model_dump(), "machine": {}})):
        path.write_text(damaged)
        assert kept(CPU) is None
    calibration(CPU)
    assert len(measured) == 5 and kept(CPU) == first


def test_where_nothing_can_be_kept_it_is_measured_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("VITDSL_CACHE", str(tmp_path / "file"))
    assert calibration(CPU).product == SPEED.product and kept(CPU) is None


def test_measuring_gives_speeds_of_a_computer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not slower than one of the last century, not faster than any: a slip of units is a factor of 1,000."""
    monkeypatch.setattr(calibrations, "ROUNDS", 1)
    monkeypatch.setattr(calibrations, "SECONDS", 0.0)
    found = measure(CPU, {})
    for speed in (found.product, found.convolution, found.exact, *found.plain, *found.dear):
        assert 1e8 < speed < 1e14
    assert 1e-7 < found.call < 1e-3 and 1e-7 < found.call_convolution < 1e-2
    assert 1e-4 < found.decode < 0.5 and 1e-4 < found.python < 0.5


def test_a_run_says_what_was_predicted_and_its_numbers_stay(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Random numbers that stand for images leave no trace; without a measured machine there is no prediction."""
    path = tmp_path / "study.yaml"
    path.write_text(text(32, "blocks.0.*", only="drift probe"))
    plain = run(bound(path.read_text()), out=tmp_path / "plain").manifest
    assert plain.predicted is None and plain.peak is not None and plain.peak > 1e8
    assert command(["plan", str(path)]) == 0
    said = capsys.readouterr().out.splitlines()[-1]
    assert said.startswith("predicted ") and said.endswith(" GB (calibrated 2026-01-02)")
    assert command(["run", str(path), "--out", str(tmp_path / "runs"), "--no-report", "-q"]) == 0
    time = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("time:"))
    (manifest,) = (json.loads(one.read_text()) for one in (tmp_path / "runs").glob("*/*/manifest.json"))
    there = manifest["predicted"]
    assert f"; predicted {there['seconds'] - there['parts']['drawing']:.1f} s" in time
    assert manifest["results_sha256"] == plain.results_sha256
    assert command(["plan", str(path), "--calibrate", "--json"]) == 0
    planned = json.loads(capsys.readouterr().out)["predicted"]
    assert planned["parts"]["images"] == pytest.approx(there["parts"]["images"], rel=0.5)
