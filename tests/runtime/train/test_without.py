"""Models that are trained without parts: the form that is trained, and the form that is measured."""

from types import MethodType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from studies import RESNET18, TINY_VIT, bound, changed, loaded, study
from vitdsl.runtime.plan.plan import Plan
from vitdsl.runtime.run.compile import compile_model
from vitdsl.runtime.run.execute import Runner
from vitdsl.runtime.train.without import training_form, without_parts

DIGITS = "{source: digits, split: train}"
STUDY = study(
    "without",
    data="{probe: {source: noise, total: 8, batch: 8}}",
    models={
        "vit": changed(
            TINY_VIT,
            {"depth": 3, "num_classes": "CLASSES"},
            weights=None,
            train=f"{{data: {DIGITS}, without: no_skip}}",
        ),
        "resnet": changed(
            RESNET18,
            {"zero_init_last": False},
            weights=None,
            train=f"{{data: {DIGITS}, without: [no_shortcut]}}",
        ),
    },
    ablations={
        "no_skip": '{kind: remove_skip, of: vit, at: "blocks.1.attn"}',
        "no_mlp": '{kind: remove_branch, of: vit, at: "blocks.*.mlp", each: true}',
        "no_shortcut": '{kind: remove_skip, of: resnet, at: "layer2.0"}',
    },
    metrics={"ratio": "{kind: skip_ratio, of: [vit, resnet], under: [baseline, no_mlp]}"},
)


def planned(more: str = "num_classes: 10") -> Plan:
    return bound(STUDY.replace("num_classes: CLASSES", more))


def start(plan: Plan, name: str) -> nn.Module:
    return loaded(plan, name).module.requires_grad_(True)


def vit_block(self: Any, x: Tensor, **_: Any) -> Tensor:
    x = self.drop_path1(self.ls1(self.attn(self.norm1(x))))
    return x + self.drop_path2(self.ls2(self.mlp(self.norm2(x))))


def resnet_block(self: Any, x: Tensor) -> Tensor:
    x = self.act1(self.bn1(self.conv1(x)))
    return self.act2(self.bn2(self.conv2(x)))


CHANGED = {"vit": ("blocks.1", vit_block), "resnet": ("layer2.0", resnet_block)}


def by_hand(module: nn.Module, name: str) -> nn.Module:
    path, forward = CHANGED[name]
    part = module.get_submodule(path)
    part.forward = MethodType(forward, part)  # type: ignore[method-assign, assignment]
    return module


@pytest.mark.parametrize("name", ["vit", "resnet"])
def test_outputs_gradients_and_running_statistics_are_those_of_a_model_written_so(name: str) -> None:
    plan = planned()
    ours, theirs = start(plan, name), by_hand(start(plan, name), name).train()
    form = without_parts(ours, plan.models[name])
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    for _ in range(2):
        one, other = form(images), theirs(images)
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
        one.square().mean().backward()
        other.square().mean().backward()
    grads = {key: parameter.grad for key, parameter in theirs.named_parameters()}
    for key, parameter in ours.named_parameters():
        if grads[key] is None:
            assert parameter.grad is None, key
        else:
            assert parameter.grad is not None, key
            torch.testing.assert_close(parameter.grad, grads[key], rtol=1e-3, atol=1e-6, msg=key)
    for key, buffer in ours.named_buffers():
        if "downsample" not in key or name != "resnet" or "layer2.0" not in key:
            torch.testing.assert_close(
                buffer, dict(theirs.named_buffers())[key], rtol=1e-5, atol=1e-6, msg=key
            )
    unused = [key for key, parameter in ours.named_parameters() if parameter.grad is None]
    assert all(key.startswith("layer2.0.downsample") for key in unused)
    assert bool(unused) == (name == "resnet")


@pytest.mark.parametrize("name", ["vit", "resnet"])
def test_the_form_holds_the_very_parameters_of_the_model(name: str) -> None:
    plan = planned()
    module = start(plan, name)
    form = without_parts(module, plan.models[name])
    mine, theirs = {id(p) for p in form.parameters()}, {id(p): key for key, p in module.named_parameters()}
    assert mine <= set(theirs)
    assert all("layer2.0.downsample" in theirs[one] for one in set(theirs) - mine)


def test_dropout_draws_in_training_and_not_in_evaluation() -> None:
    plan = planned("num_classes: 10, drop_rate: 0.5, attn_drop_rate: 0.3, drop_path_rate: 0.5")
    module = start(plan, "vit")
    form = without_parts(module, plan.models["vit"])
    images = torch.randn(2, 3, 32, 32)
    torch.manual_seed(0)
    assert not torch.equal(form(images), form(images))
    torch.manual_seed(3)
    one = form(images)
    torch.manual_seed(3)
    torch.testing.assert_close(one, by_hand(module, "vit").train()(images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["vit", "resnet"])
def test_what_was_trained_without_is_measured_without(name: str) -> None:
    plan = planned()
    module = start(plan, name).eval()
    compiled = compile_model(plan.models[name], module, plan.groups)
    assert plan.models[name].always
    images = torch.randn(2, 3, 32, 32)
    runner = Runner(plan, {"vit": compiled, "resnet": compiled}, (), torch.device("cpu"), "float32")
    found = runner.forward(name, images)
    ours = found[compiled.merged.slots["baseline", compiled.output]][0]
    with torch.inference_mode():
        intact = module(images)
        theirs = by_hand(module, name)(images)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(ours, intact, rtol=1e-3, atol=1e-3)


def test_conditions_keep_it_too_and_it_is_none_itself() -> None:
    plan = planned()
    assert [c.id for c in plan.models["vit"].conditions] == [
        "baseline", "no_mlp@blocks.0.mlp", "no_mlp@blocks.1.mlp", "no_mlp@blocks.2.mlp",
    ]  # fmt: skip


def test_what_is_stored_names_the_parts() -> None:
    plan = planned()
    form = training_form(plan.models["vit"])
    assert form["without"] == [{"kind": "remove_skip", "version": 1, "params": {}, "at": ("blocks.1.attn",)}]
    assert callable(form["wrap"])
    bare = bound(STUDY.replace("CLASSES", "10").replace(", without: no_skip", ""))
    assert training_form(bare.models["vit"]) == {}
