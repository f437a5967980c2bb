"""What training is predicted to take: its work against PyTorch's own counts, its growth, and what is trained at all."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from speed import SPEED
from studies import TINY_RESNET, TINY_VIT, bound, changed, study
from vitdsl.cli import run as command
from vitdsl.runtime.graph.work import Work
from vitdsl.runtime.models.loading import load
from vitdsl.runtime.run import training
from vitdsl.runtime.run.cost import predicted
from vitdsl.runtime.run.training import Trainings
from vitdsl.runtime.train import cost
from vitdsl.runtime.train.cost import calls_of
from vitdsl.runtime.train.loop import criterion_of, descend, optimizer_of

DIGITS = {"source": "digits", "split": "train", "images": 96, "batch": 32}
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _reading(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading an image takes the same wherever the tests run."""
    monkeypatch.setattr(training, "shortest", lambda read, images: 1e-6)


def text(*recipes: dict[str, Any], model: Any = TINY_VIT, ablations: str = "") -> str:
    """A study of models that are trained by some recipes."""
    untrained = {name: value for name, value in model.items() if name != "weights"}
    models = {
        f"m{number}": changed(untrained, train={"data": DIGITS, "epochs": 2, **recipe})
        for number, recipe in enumerate(recipes)
    }
    return study(
        "trained",
        data={"test": "{source: digits, split: test, images: 16, batch: 8}"},
        models=models,
        ablations=ablations,
        metrics={"right": "{kind: accuracy, of: [" + ", ".join(models) + "]}"},
    )


def seconds(*recipes: dict[str, Any], model: Any = TINY_VIT, ablations: str = "") -> list[float]:
    trainings = Trainings(bound(text(*recipes, model=model, ablations=ablations)), SPEED)
    found = [trainings.seconds(f"m{number}") for number in range(len(recipes))]
    return [one for one in found if one is not None]


@pytest.mark.parametrize("model", [TINY_VIT, TINY_RESNET])
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_the_work_of_an_update_is_what_pytorch_counts_of_one(model: Any, optimizer: str) -> None:
    """Products and convolutions, forwards and backwards; the calls besides are those of the same update with data."""
    plan = bound(text({"optimizer": optimizer, "clip_grad": 1.0}, model=model))
    planned, batch = plan.models["m0"], 4
    calls = calls_of(planned.entry, planned.config, batch)
    module = load(planned.entry, seed=0, folder=Path()).module.requires_grad_().train()
    recipe = planned.entry.train
    assert recipe is not None
    steps, criterion = optimizer_of(module, recipe), criterion_of(recipe)
    pixels = torch.rand(batch, *planned.config.input_size)

    def update() -> None:
        with sdpa_kernel(SDPBackend.MATH):
            descend(criterion(module(pixels), torch.arange(batch)), module, steps, recipe.clip_grad)

    update()
    with FlopCounterMode(display=False) as counter:
        update()
    with Work() as work:
        update()
    assert sum(op.flops * count for op, count in calls.items()) == counter.get_total_flops()
    moved, told = (sum(op.bytes * count for op, count in one.items()) for one in (Counter(work.ops), calls))
    assert told == pytest.approx(moved, rel=0.15)


def test_epochs_images_and_batches_make_it_longer() -> None:
    once, longer, half, small, noisy = seconds(
        {},
        {"epochs": 6},
        {"fraction": 0.5},
        {"data": {**DIGITS, "batch": 8}},
        {"augment": {"hflip": 0.5}, "epochs": 6},
    )
    assert longer / once == pytest.approx(3, rel=0.2)
    assert 0.3 < half / once < 0.9
    assert small > 2 * once  # most of so small a model's time are calls
    assert noisy > longer  # images that chance changes are read in every epoch


def test_trainings_that_differ_in_their_seeds_are_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many, images would be opened and read as often."""
    opened: list[None] = []
    real = cost.open_images
    monkeypatch.setattr(cost, "open_images", lambda *given: opened.append(None) or real(*given))
    one, another, longer = seconds({"seed": 1}, {"seed": 2}, {"epochs": 3})
    assert one == another < longer and len(opened) == 2


def test_parts_that_are_trained_without_are_not_counted() -> None:
    model = changed(TINY_VIT, options={"depth": 6})
    without = '  cut: {kind: remove_branch, of: m1, at: "blocks.*.attn"}'
    whole, less = seconds({}, {"without": "cut"}, model=model, ablations=without)
    assert less < 0.9 * whole


def test_what_is_stored_is_not_trained_and_a_recipe_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "study.yaml"
    path.write_text(text({}, {}, {"epochs": 1}))

    def planned() -> tuple[dict[str, Any], str]:
        assert command(["plan", "study.yaml", "--json", "--device", "cpu"]) == 0
        parts = json.loads(capsys.readouterr().out)["predicted"]
        assert command(["plan", "study.yaml", "--device", "cpu"]) == 0
        return parts, capsys.readouterr().out.splitlines()[-1]

    before, said = planned()
    assert Trainings(bound(path.read_text()), SPEED).missing() == ["m0", "m2"]
    each = Trainings(bound(path.read_text()), SPEED)
    both = (each.seconds("m0") or 0.0) + (each.seconds("m2") or 0.0)
    assert before["parts"]["training"] == pytest.approx(both, rel=0.5)
    assert before["seconds"] == pytest.approx(sum(before["parts"].values())) and " of it training)" in said
    assert command(["train", "study.yaml", "m0", "m2", "--device", "cpu"]) == 0
    assert "2 models to train, 3 epochs in all, about " in capsys.readouterr().err
    after, said = planned()
    assert "training" not in after["parts"] and "training" not in said


def test_a_run_that_trains_predicts_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "study.yaml").write_text(text({"epochs": 1}))
    assert command(["plan", "study.yaml", "--device", "cpu"]) == 0
    assert command(["run", "study.yaml", "-q", "--no-report", "--device", "cpu", "--out", "runs"]) == 0
    (manifest,) = (json.loads(one.read_text()) for one in tmp_path.glob("runs/*/*/manifest.json"))
    assert manifest["predicted"]["parts"]["training"] > 0


def test_images_that_are_not_here_count_as_photographs_or_are_said(tmp_path: Path) -> None:
    far = {"data": {"source": "folder", "path": str(tmp_path / "far"), "batch": 32}}
    told = {"data": {**far["data"], "images": 96}, "epochs": 2}
    plan = bound(text(far, told))
    trainings = Trainings(plan, SPEED)
    assert trainings.seconds("m0") is None and predicted(plan, SPEED)[1].unknown == ("training m0",)
    (near,) = seconds({})
    assert trainings.seconds("m1") == pytest.approx(near + 96 * (SPEED.decode - 1e-6))


class Wilful(nn.Module):
    """Wants to see the data."""

    num_classes = 10

    def forward(self, images: Tensor) -> Tensor:
        """Logits, but only of images."""
        return images.new_zeros(int(images.sum()))


def test_a_model_that_computes_with_data_alone_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = bound(text({}))
    monkeypatch.setattr("vitdsl.runtime.train.cost.architectures.on_meta", lambda model: Wilful())
    assert predicted(plan, SPEED)[1].unknown == ("training m0",)


def test_convolutions_take_longer_where_channels_lie_first() -> None:
    """In training they do, and the speed that is measured is of channels that lie last, as in runs on the CPU."""
    plan = bound(text({}, model=TINY_RESNET))
    on_gpu, on_cpu = (
        Trainings(plan, SPEED.updated(machine={"device": device})).seconds("m0")
        for device in ("NVIDIA", "cpu")
    )
    assert on_gpu is not None and on_cpu is not None and on_gpu < on_cpu < 1.5 * on_gpu
