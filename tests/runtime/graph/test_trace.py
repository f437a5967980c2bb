"""Tracing names every call, un-fuses for a while only, and says why where it cannot."""

from typing import Any

import numpy as np
import pytest
import timm
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from vitdsl.dsl.diagnostics import StudyError
from vitdsl.runtime.graph.trace import fusable, trace, unfused

TINY: dict[str, Any] = {"img_size": 32, "patch_size": 16, "embed_dim": 24, "num_heads": 3, "depth": 2}


def vit(**more: Any) -> nn.Module:
    with torch.device("meta"):
        model: nn.Module = timm.create_model("vit_tiny_patch16_224", **{**TINY, **more}).eval()
    return model


def test_every_module_that_ran_has_its_output_in_order_of_execution() -> None:
    model = vit()
    traced = trace(model, (3, 32, 32))
    order = {node: i for i, node in enumerate(traced.graph.nodes)}
    positions = [order[node] for node in traced.outputs.values()]
    assert positions == sorted(positions)
    never = {"", "pos_drop", "patch_drop"}
    missing = {path for path, _ in model.named_modules()} - set(traced.outputs) - never
    assert all(path.endswith(("q_norm", "k_norm")) or "." not in path for path in missing), missing
    assert traced.outputs["blocks.1"] is traced.inputs["norm"]
    assert sum(node.op == "placeholder" for node in traced.graph.nodes) == 1


def test_attention_is_unfused_only_where_asked_and_only_for_a_while() -> None:
    model = vit()
    assert fusable(model) == ["blocks.0.attn", "blocks.1.attn"]
    for unfuse, fused in ((None, 0), (frozenset({"blocks.1.attn"}), 1), (frozenset(), 2)):
        graph = trace(model, (3, 32, 32), unfuse=unfuse).graph
        assert sum(node.target is F.scaled_dot_product_attention for node in graph.nodes) == fused
        assert fusable(model) == ["blocks.0.attn", "blocks.1.attn"]


def test_flags_come_back_after_an_error() -> None:
    model = vit()
    with pytest.raises(ZeroDivisionError), unfused(model, None):
        assert fusable(model) == []
        raise ZeroDivisionError
    assert fusable(model) == ["blocks.0.attn", "blocks.1.attn"]

    def broken(x: Tensor) -> Tensor:
        raise ValueError("broken")

    model.get_submodule("blocks.1").mlp.forward = broken  # type: ignore[union-attr, assignment]
    with pytest.raises(StudyError):
        trace(model, (3, 32, 32))
    assert fusable(model) == ["blocks.0.attn", "blocks.1.attn"]


def test_a_module_that_was_not_fused_stays_so() -> None:
    model = vit()
    model.get_submodule("blocks.0.attn").fused_attn = False  # type: ignore[assignment]
    trace(model, (3, 32, 32), unfuse=None)
    assert fusable(model) == ["blocks.1.attn"]


class Calls(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.f, self.never = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor, scale: float = 2.0, mask: Tensor | None = None) -> Tensor:
        if mask is not None:
            x = x * mask
        out: Tensor = self.f(self.f(self.f(x))) * scale
        return out


def test_repeated_calls_are_numbered_and_arguments_keep_their_defaults() -> None:
    model = Calls().eval()
    traced = trace(model, (4,))
    assert list(traced.outputs) == ["f", "f:1", "f:2"]
    assert traced.inputs["f:2"] is traced.outputs["f:1"]
    x = torch.randn(2, 4)
    assert torch.equal(fx.GraphModule(model, traced.graph)(x), model(x))
    assert [node.name for node in traced.graph.nodes if node.op == "placeholder"] == ["x"]


class Decides(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 2 if x.sum() > 0 else x


class Pair(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, x * 2


class Leaves(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * float(np.asarray(x).size)


class Keeps(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.kept = [torch.ones(4)]

    def forward(self, x: Tensor) -> Tensor:
        return x * self.kept[0]


OWN = [
    (Decides(), "decides by the numbers", "`torch.where`"),
    (Pair(), "returns a tuple", "wrap it in a module that does"),
    (Leaves(), "in `forward`", "with operations of torch"),
    (Keeps(), "keeps a tensor", "`register_buffer`"),
]


@pytest.mark.parametrize(("model", "why", "help"), OWN)
def test_what_cannot_be_traced_says_why_and_what_to_change(model: nn.Module, why: str, help: str) -> None:
    with pytest.raises(StudyError) as raised:
        trace(model.eval(), (4,))
    (problem,) = raised.value.diagnostics
    assert problem.code == "VD301"
    assert why in problem.message and help in problem.help[0] and "family" not in problem.help[0]


@pytest.mark.parametrize("kind", [Decides, Pair, Leaves, Keeps])
@pytest.mark.parametrize("home", ["torch.nn", "mine"])
def test_a_module_of_ones_own_inside_a_librarys_model_has_no_family(
    kind: type[nn.Module], home: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kind, "__module__", "timm.models.made_up")
    model = kind().eval()
    model.inside = type("Inside", (nn.Identity,), {"__module__": home})()
    with pytest.raises(StudyError) as raised:
        trace(model, (4,))
    (said,) = raised.value.diagnostics[0].help
    assert ("options" in said) is (home == "torch.nn")
