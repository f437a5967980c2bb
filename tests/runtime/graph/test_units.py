"""What is a residual unit and what only looks like one, on networks small enough to read."""

from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vitdsl.runtime.graph.sites import Sites, sites_of
from vitdsl.runtime.graph.units import Unit


class Net(nn.Module):
    def __init__(self, body: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.body = body
        self.conv, self.other = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1)
        self.norm, self.norm2 = nn.BatchNorm2d(3), nn.BatchNorm2d(3)
        self.short = nn.Sequential(nn.AvgPool2d(1), nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3))
        self.relu = nn.ReLU(inplace=True)
        self.act = nn.GELU()
        self.idle = nn.Identity()
        self.gamma, self.bias = nn.Parameter(torch.ones(3, 1, 1)), nn.Parameter(torch.zeros(3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(self, x)


def units(body: Callable[[Any, Tensor], Tensor]) -> tuple[list[Unit], Sites]:
    sites = sites_of(Net(body).to("meta").eval(), (3, 8, 8))
    return list(sites.units.values()), sites


def plain(net: Any, x: Tensor) -> Tensor:
    return x + net.act(net.conv(x))


def linear_branch(net: Any, x: Tensor) -> Tensor:
    return x + net.conv(x)  # beside an identity, any branch with parameters is one


def projected(net: Any, x: Tensor) -> Tensor:
    return net.norm(net.other(net.relu(net.conv(x)))) + net.short(x)


def through_identity(net: Any, x: Tensor) -> Tensor:
    return net.idle(x) + net.act(net.conv(x))


def scaled(net: Any, x: Tensor) -> Tensor:
    return x * 0.5 + net.gamma * net.act(net.conv(x))


def by_method(net: Any, x: Tensor) -> Tensor:
    return torch.add(x, net.act(net.conv(x)).add(1))


def in_place(net: Any, x: Tensor) -> Tensor:
    y = net.act(net.conv(x))
    y += x
    result: Tensor = net.relu(y)
    return result


@pytest.mark.parametrize(
    ("body", "is_projected"),
    [
        (plain, False), (linear_branch, False), (projected, True), (through_identity, False), (scaled, True),
        (by_method, False), (in_place, False),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)  # fmt: skip
def test_units(body: Callable[[Any, Tensor], Tensor], is_projected: bool) -> None:
    (unit,), sites = units(body)
    assert (unit.projected, unit.branch_kind, unit.depth) == (is_projected, "conv", 1.0)
    assert {unit.skip, unit.branch} == set(unit.add.all_input_nodes)
    conv = sites.nodes["output"]["conv"]
    assert _reaches(conv, unit.branch)
    assert not _reaches(conv, unit.skip)


def _reaches(source: Any, end: Any) -> bool:
    return source is end or any(_reaches(source, node) for node in end.all_input_nodes)


def added_bias(net: Any, x: Tensor) -> Tensor:
    return net.conv(x) + net.bias


def added_number(net: Any, x: Tensor) -> Tensor:
    return net.conv(x) + 1.0


def two_streams(net: Any, x: Tensor) -> Tensor:
    return net.act(net.conv(x)) + net.act(net.other(x))


def rotary(net: Any, x: Tensor) -> Tensor:
    y = net.conv(x)
    return y * net.gamma + y.roll(1, 2) * net.bias


def without_parameters(net: Any, x: Tensor) -> Tensor:
    y = net.conv(x)
    return y + F.avg_pool2d(y, 3, 1, 1)


def gate(net: Any, x: Tensor) -> Tensor:
    y = net.conv(x)
    return y * (net.other(y).sigmoid() + 1)


@pytest.mark.parametrize(
    "body",
    [added_bias, added_number, two_streams, rotary, without_parameters, gate],
    ids=lambda body: body.__name__,
)
def test_adds_that_are_no_units(body: Callable[[Any, Tensor], Tensor]) -> None:
    assert units(body)[0] == []


def test_the_sum_of_parallel_convolutions_has_no_projected_unit() -> None:
    """RepVGG's block in training form: two linear paths and the input; no path does anything non-linear."""
    found, _ = units(lambda net, x: net.act(net.norm(net.conv(x)) + net.norm2(net.other(x))))
    assert found == []


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(8), nn.LayerNorm(8)
        self.mixer = nn.Sequential(nn.Linear(8, 2), nn.GELU(), nn.Linear(2, 8))
        self.mlp = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.mixer(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Stack(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(Block(), Block())

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.blocks(x.flatten(2).transpose(1, 2)[..., :1].expand(-1, -1, 8))
        return out


def test_names_depths_and_order() -> None:
    sites = sites_of(Stack().to("meta").eval(), (3, 4, 4))
    names = [f"blocks.{i}.{part}" for i in (0, 1) for part in ("mixer", "mlp")]
    assert list(sites.units) == names
    assert [unit.depth for unit in sites.units.values()] == [0.25, 0.5, 0.75, 1.0]
    assert sites.names("stream") == sites.names("skip") == sites.names("branch") == names
    assert sites.nodes["output"]["blocks.0"] is sites.nodes["stream"]["blocks.0.mlp"]
    assert sites.nodes["skip"]["blocks.1.mixer"] is sites.nodes["stream"]["blocks.0.mlp"]
    assert sites.nodes["branch"]["blocks.1.mlp"] is sites.nodes["output"]["blocks.1.mlp"]


def part_of_the_stream(net: Any, x: Tensor) -> Tensor:
    return torch.cat([x[:, :1] + net.act(net.conv(x))[:, :1], x[:, 1:]], 1)


def largest_of_a_projection(net: Any, x: Tensor) -> Tensor:
    normed = net.norm(x)
    return net.short(normed).amax(3, keepdim=True) + net.act(net.conv(normed)).mean(3, keepdim=True)


def joined_again(net: Any, x: Tensor) -> Tensor:
    return torch.cat([x[:, :1], F.max_pool2d(x[:, 1:], 1)], 1) + net.act(net.conv(x))


@pytest.mark.parametrize(
    ("body", "projected"),
    [(part_of_the_stream, False), (largest_of_a_projection, True), (joined_again, True)],
)
def test_skips_run_through_parts_pooling_and_joins(body: Any, projected: bool) -> None:
    found, _ = units(body)
    assert [unit.projected for unit in found] == [projected]


def channels_in_turn(net: Any, x: Tensor) -> Tensor:
    """As Res2Net adds its groups: each convolution reads another group than the one that it is added to."""
    one, two = x[:, :, :4], x[:, :, 4:]
    return torch.cat([one, two + net.act(net.conv(one))], 2)


def parts_after_an_identity(net: Any, x: Tensor) -> Tensor:
    """As VOLO joins its two heads."""
    return net.short(net.idle(x)[:, :, :4]) + net.act(net.conv(net.idle(x)[:, :, 4:]))


@pytest.mark.parametrize("body", [channels_in_turn, parts_after_an_identity])
def test_other_parts_are_no_skip(body: Any) -> None:
    found, _ = units(body)
    assert found == []


def test_ratios_of_dpn_are_those_of_plain_hooks() -> None:
    """The first channels of a dual path block are residual: both operands taken off the convolutions around."""
    torch.manual_seed(0)
    model = timm.create_model("dpn68", num_classes=4).double().eval()
    for value in model.state_dict().values():
        if value.is_floating_point():
            value.add_(0.05 * torch.randn_like(value))
    sites = sites_of(timm.create_model("dpn68", num_classes=4).to("meta").eval(), (3, 64, 64))
    name = "features.conv3_2"
    unit = sites.units[name]
    assert not unit.projected and unit.branch_kind == "conv"
    seen: dict[str, Tensor] = {}
    block = model.get_submodule(name)
    block.register_forward_hook(lambda module, args, output: seen.update(given=args[0], out=output))
    block.c1x1_c.register_forward_hook(lambda module, args, output: seen.update(branch=output))
    with torch.no_grad():
        model(torch.randn(2, 3, 64, 64, dtype=torch.float64))
    count = block.num_1x1_c
    given = seen["given"] if isinstance(seen["given"], Tensor) else torch.cat(seen["given"], 1)
    torch.testing.assert_close(
        given[:, :count] + seen["branch"][:, :count],
        (seen["out"] if isinstance(seen["out"], Tensor) else seen["out"][0])[:, :count],
    )
    assert tuple(unit.skip.meta["value"].shape[1:]) == tuple(given[:, :count].shape[1:])
    assert tuple(unit.branch.meta["value"].shape[1:]) == tuple(given[:, :count].shape[1:])
