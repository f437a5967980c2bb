"""A plain forward is read as it is written, and the program's reading is found wanting where it does not agree."""

from typing import Any

import timm
import torch
from torch import Tensor, nn

from census.counting import count, kinds_of_names, totals
from census.plainly import plainly
from census.readings import wrong_readings
from vitdsl.runtime.graph.sites import same_sites, sites_of


class Block(nn.Module):
    def __init__(self, attends: bool = True) -> None:
        super().__init__()
        self.norm, self.qkv, self.mlp, self.attends = (
            nn.LayerNorm(8),
            nn.Linear(8, 24),
            nn.Linear(8, 8),
            attends,
        )

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm(x)).chunk(3, -1)
        weights = q @ k.transpose(1, 2)
        weights = weights.softmax(-1) if self.attends else weights.sigmoid()
        x = x + weights @ v
        return x + self.mlp(x).relu()


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cut, self.one, self.two, self.gate = (
            nn.Conv2d(3, 8, 4, 4),
            Block(),
            Block(False),
            nn.Linear(8, 2),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.cut(x).flatten(2).transpose(1, 2)
        x = self.two(self.one(x + self.cut.bias))
        shares = self.gate(x.mean(1)).softmax(-1)
        return (torch.stack([x.mean(1), x.amax(1)], -1) * shares[:, None]).sum(-1)


def test_sums_and_softmaxes_of_a_network_to_read() -> None:
    found = plainly(Net().to("meta").eval(), (3, 16, 16))
    assert found.residual == {"one": 2, "two": 2}
    assert found.attention == {"one": 1} and found.gates == {"": [2]}


def test_a_reading_that_is_not_so_is_found() -> None:
    torch.manual_seed(0)
    model = timm.create_model("test_vit", depth=1).eval()
    with torch.device("meta"):
        sites = same_sites(model, sites_of(timm.create_model("test_vit", depth=1).eval(), (3, 160, 160)))
    assert wrong_readings(model, sites) == []
    (name,), (weights,) = sites.attention.weights, sites.attention.weights.values()
    logits = next(node for node in weights.steps if node.target == "softmax").all_input_nodes[0]
    sites.attention.weights[name] = _with(weights, node=logits)
    assert wrong_readings(model, sites) == [
        f"{name}: its shares do not sum to one", f"{name}: no softmax gives its weights"
    ]  # fmt: skip
    sites.attention.weights[name] = weights
    turned = sites.nodes["skip"]["blocks.0.attn"].graph
    with turned.inserting_after(sites.nodes["skip"]["blocks.0.attn"]):
        flipped = turned.call_method("flip", (sites.nodes["skip"]["blocks.0.attn"], 1))
    flipped.meta = sites.nodes["skip"]["blocks.0.attn"].meta
    sites.nodes["skip"]["blocks.0.attn"] = flipped  # type: ignore[index]
    assert any("change token" in one for one in wrong_readings(model, sites))


def _with(weights: Any, **changes: Any) -> Any:
    from dataclasses import replace

    return replace(weights, **changes)


def test_totals_name_what_is_lacking() -> None:
    right = count("test_vit")
    assert right["units"] == 12 and right["attention"] == 6 and right["wrong"] == []
    wrong = right | {"arch": "other", "units_missing": {"a": 1}, "attention_more": {"a": 1}, "wrong": ["a"]}
    found = totals([right, wrong, {"arch": "huge", "giant": True}, {"arch": "odd", "refused": "why"}])
    assert (found["asked"], found["traced"], found["not_traced"]) == (3, 2, {"odd": "why"})
    assert (
        found["units"]["lacking"] == found["attention"]["lacking"] == found["numbers"]["wrong"] == ["other"]
    )
    assert found["units"]["complete"] == found["attention"]["complete"] == 1


def test_one_of_each_kind_of_name_is_asked() -> None:
    asked = kinds_of_names()
    assert (
        asked["vision_transformer/vit"] == "test_vit" and asked["swin_transformer/swin"] == "swin_s3_tiny_224"
    )
    assert len(asked) > 350
