"""A run that computes something else stops, loudly; ablations that change nothing are named."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from studies import RESNET18, TINY_VIT, bound, loaded, study
from vitdsl import run
from vitdsl.dsl.diagnostics import EnvironmentProblem
from vitdsl.runtime.data.stream import Batch, open_stream
from vitdsl.runtime.results.manifest import Check
from vitdsl.runtime.run.compile import compile_model
from vitdsl.runtime.run.execute import Runner
from vitdsl.runtime.run.trust import FirstBatch

STUDY = study(
    "trust",
    data="{probe: {source: noise, total: 16, batch: 16}}",
    models={"vit": TINY_VIT, "resnet": RESNET18},
    layers={"blocks": '{of: vit, at: "blocks.*"}', "stages": '{of: resnet, at: "layer*.*"}'},
    ablations={
        "no_skip": '{kind: remove_skip, of: vit, at: "blocks.*.attn", each: true}',
        "no_branch": '{kind: remove_branch, of: resnet, at: "layer4.1"}',
    },
    metrics={
        "within": "{kind: cka, x: blocks}",
        "across": "{kind: cka, x: blocks, y: stages, under: baseline}",
        "distance": "{kind: attention_distance, of: vit, under: baseline}",
        "ratio": "{kind: skip_ratio, of: resnet}",
    },
)


class Ready:
    """A compiled study and its first batch."""

    def __init__(self, text: str = STUDY) -> None:
        plan = bound(text)
        self.modules = {name: loaded(plan, name).module for name in plan.models}
        configs = {name: planned.config for name, planned in plan.models.items()}
        stream = open_stream(
            plan.data["probe"], seed=0, folder=plan.loaded.folder, transforms=configs, workers=0
        )
        self.batch: Batch = next(iter(stream))
        compiled = {
            name: compile_model(planned, self.modules[name], plan.groups)
            for name, planned in plan.models.items()
        }
        self.runner = Runner(plan, compiled, plan.groups, torch.device("cpu"), "float32")

    def check(self) -> list[Check]:
        found = {name: self.runner.forward(name, images) for name, images in self.batch.images.items()}
        first = FirstBatch(self.runner)
        first(self.batch, self.batch.images, found, self.runner.turns[0])
        return first.checks


def test_all_checks_of_a_right_run() -> None:
    checks = Ready().check()
    assert all(check.ok for check in checks if check.required)
    found = {(check.check, check.model) for check in checks}
    assert found >= {
        ("output", "vit"),
        ("output", "resnet"),
        ("effect", "vit"),
        ("effect", "resnet"),
        ("identity", "vit"),
    }
    output = {check.model: check for check in checks if check.check == "output"}
    assert output["resnet"].value <= 0.02 * output["resnet"].tolerance  # rounding of other products at most
    assert "equals the plain model on 4 images" in output["resnet"].text
    assert output["vit"].value <= output["vit"].tolerance
    assert "un-fused" in output["vit"].text


class Mixing(nn.Module):
    """A model of which an image's output hangs on the other images of its batch."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3 * 16 * 16, 5)

    def forward(self, images: Tensor) -> Tensor:
        flat = images.flatten(1)
        out: Tensor = self.head(flat - flat.mean(0))
        return out


def test_a_model_that_mixes_the_images_of_a_batch_is_named_and_runs(tmp_path: Path) -> None:
    path = tmp_path / "mixing.yaml"
    path.write_text(
        "vitdsl: 1\nstudy: mixing\ndata: {noise: {source: noise, images: 12, size: 16, batch: 6}}\n"
        "models: {mine: {given: true, input_size: 16}}\nlayers: {x: {of: mine, at: head}}\n"
        "metrics: {cka: {kind: cka, x: x}}\n"
    )
    trust = run(path, models={"mine": Mixing().eval()}, out=tmp_path).manifest.trust
    (output,) = [check for check in trust if check.check == "output"]
    assert not output.ok and not output.required
    assert "beside other images" in output.text and output.value > output.tolerance


def test_an_ablation_that_changes_nothing_is_named_and_does_not_stop_the_run() -> None:
    """timm starts the last norm of each ResNet branch at zero, so that a random one has empty branches."""
    checks = Ready().check()
    (idle,) = [check for check in checks if check.check == "effect" and check.model == "resnet"]
    assert not idle.ok
    assert not idle.required
    assert "`resnet` change nothing: `no_branch" in idle.text
    (alive,) = [check for check in checks if check.check == "effect" and check.model == "vit"]
    assert alive.ok
    assert alive.value > 0


class Off(nn.Module):
    """A module with a small error."""

    def __init__(self, inner: nn.Module, by: float) -> None:
        super().__init__()
        self.inner, self.by = inner, by

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.inner(x)
        return out * (1 + self.by)


@pytest.mark.parametrize("by", [0.5, float("nan")])
def test_a_graph_that_is_not_the_model_stops_the_run(by: float) -> None:
    ready = Ready()
    merged = ready.runner.models["vit"].merged.module
    merged.get_submodule("blocks.0.mlp").fc2 = Off(merged.get_submodule("blocks.0.mlp.fc2"), by)
    with pytest.raises(EnvironmentProblem) as raised:
        ready.check()
    assert {problem.code for problem in raised.value.diagnostics} == {"VD501"}
    assert any("compiled `vit`" in problem.message for problem in raised.value.diagnostics)


def test_a_wrong_edge_of_the_graph_stops_the_run() -> None:
    ready = Ready()
    module = ready.runner.models["vit"].merged.module
    gelu = [node for node in module.graph.nodes if str(node.target) == "blocks.0.mlp.act"][
        -1
    ]  # the intact one
    gelu.replace_all_uses_with(gelu.args[0])  # as if the activation were forgotten
    module.recompile()
    with pytest.raises(EnvironmentProblem, match="VD501.*compiled `vit`"):
        ready.check()


def test_a_metric_that_is_not_its_own_identity_stops_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    ready = Ready()
    kind = type(ready.runner.groups[0].kind)
    right = kind.estimate
    monkeypatch.setattr(
        kind,
        "estimate",
        lambda *args, **more: {key: 0.999 * value for key, value in right(*args, **more).items()},
    )
    with pytest.raises(EnvironmentProblem, match="VD501"):
        ready.check()


def test_the_whole_model_is_compared_when_weights_change_after_compiling() -> None:
    """The graph holds the model's own parameters, so both change together."""
    ready = Ready()
    with torch.no_grad():
        next(ready.modules["vit"].parameters()).mul_(2)
    assert all(check.ok for check in ready.check() if check.required)
