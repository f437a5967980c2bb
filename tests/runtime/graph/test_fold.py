"""Batch norms folded into convolutions: equal to rounding, and only where nobody else sees the convolution."""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import timm
import torch
from timm.layers import BatchNormAct2d, Conv2dSame, StdConv2d
from torch import Tensor, fx, nn

from vitdsl.runtime.graph.edit import Lane, Operation, Place, Rewriter
from vitdsl.runtime.graph.fold import Folded, fold
from vitdsl.runtime.graph.merge import Merged, merge
from vitdsl.runtime.graph.sites import Sites, same_sites, sites_of
from vitdsl.runtime.graph.tap import Reducer, Tap

SIZE = (3, 10, 12)


def whole(tensor: Tensor, *, site: Any) -> Tensor:
    return tensor.clone()


def norm(cls: type[nn.BatchNorm2d] = nn.BatchNorm2d, channels: int = 6, **options: Any) -> nn.BatchNorm2d:
    """A batch norm that has seen data."""
    made = cls(channels, **options)
    if made.running_mean is not None and made.running_var is not None:
        made.running_mean.normal_()
        made.running_var.uniform_(0.1, 3.0)
    if made.affine:
        nn.init.normal_(made.weight)
        nn.init.normal_(made.bias)
    return made


class Batchwise(nn.BatchNorm2d):
    """A batch norm of somebody's own, of which nothing is known."""


class Net(nn.Module):
    """A convolution and a norm; then both again, behind an activation."""

    def __init__(self, conv: nn.Module | None = None, bn: nn.Module | None = None) -> None:
        super().__init__()
        self.conv, self.bn = conv or nn.Conv2d(3, 6, 3, stride=2, padding=1), bn or norm()
        self.act, self.drop = nn.ReLU(inplace=True), nn.Dropout(0.5)
        self.conv2, self.bn2 = nn.Conv2d(6, 6, 3, padding=1, groups=2, bias=False), norm()

    def forward(self, images: Tensor) -> Tensor:
        x = self.act(self.bn(self.drop(self.conv(images))))
        out: Tensor = self.bn2(self.conv2(x)) + x
        return out


class Read(Net):
    """The same, but the first convolution's output is read twice."""

    def forward(self, images: Tensor) -> Tensor:
        x = self.conv(images)
        out: Tensor = self.bn2(self.conv2(self.bn(x))) + x
        return out


def built(make: Callable[[], nn.Module]) -> tuple[nn.Module, Sites]:
    torch.manual_seed(0)
    net = make().eval()
    return net, same_sites(net, sites_of(copy.deepcopy(net).to("meta"), SIZE))


def tap(sites: Sites, path: str = "") -> Tap:
    node = sites.nodes["output"][path] if path else sites.traced.output
    return Tap((node,), Reducer(whole), sites.site("conv2", "output"))


def merged(
    net: nn.Module,
    sites: Sites,
    taps: dict[str, list[Tap]],
    lanes: Sequence[Lane] = (Lane("baseline"),),
    over: bool = True,
) -> Merged:
    return merge(net, sites.traced.graph, lanes, taps, over=over, folds={})


def exact(net: nn.Module, images: Tensor) -> Tensor:
    """The plain model in float64."""
    found: Tensor = copy.deepcopy(net).double()(images.double())
    return found


def images() -> Tensor:
    return torch.randn(4, *SIZE, generator=torch.Generator().manual_seed(1))


def near(ours: Tensor, right: Tensor) -> bool:
    """Equal to what rounding of float32 gives: eight units of the largest number."""
    return float((ours.double() - right).abs().max()) <= 8 * torch.finfo(torch.float32).eps * float(
        right.abs().max()
    )


CASES: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "plain": (Net, 2),
    "no bias": (lambda: Net(nn.Conv2d(3, 6, 3, bias=False)), 2),
    "padded by itself": (lambda: Net(Conv2dSame(3, 6, 3, stride=2)), 2),
    "norm and activation": (lambda: Net(bn=norm(BatchNormAct2d, act_layer=nn.SiLU)), 2),
    "norm without weights": (lambda: Net(bn=norm(affine=False)), 2),
    "norm by the batch": (lambda: Net(bn=norm(track_running_stats=False)), 1),
    "weights made in every call": (lambda: Net(StdConv2d(3, 6, 3, padding=1)), 1),
    "another norm": (lambda: Net(bn=norm(Batchwise)), 1),
    "read twice": (Read, 1),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("over", [False, True])
def test_numbers_are_the_plain_models_to_rounding(case: str, over: bool) -> None:
    make, count = CASES[case]
    net, sites = built(make)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    ours = merged(net, sites, {"baseline": [tap(sites)]}, over=over)
    assert ours.folded == count
    with torch.inference_mode():
        assert near(ours.module(images())[0][0], exact(net, images()))
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def norms(module: fx.GraphModule) -> int:
    return sum(
        isinstance(module.get_submodule(str(node.target)), nn.BatchNorm2d)
        for node in module.graph.nodes
        if node.op == "call_module"
    )


def test_what_reads_a_convolution_keeps_it_as_it_is() -> None:
    """A tap of the first convolution's output: its norm stays, the other is folded, and what it gives is exact."""
    net, sites = built(Net)
    first, output = tap(sites, "conv"), tap(sites)
    ours = merged(net, sites, {"baseline": [first, output]})
    assert (ours.folded, norms(ours.module)) == (1, 1)
    plain = merge(net, sites.traced.graph, [Lane("baseline")], {"baseline": [first, output]})
    with torch.inference_mode():
        found, right = ours.module(images()), plain.module(images())
        (seen,) = found[ours.slots["baseline", first]]
        assert torch.equal(seen, right[plain.slots["baseline", first]][0]) and torch.equal(
            seen, net.conv(images())
        )
        assert near(found[ours.slots["baseline", output]][0], exact(net, images()))


def half(tensor: Tensor) -> Tensor:
    return 0.5 * tensor


def halved(at: Rewriter) -> Any:
    return at.call(Operation(half), at.before)


def test_an_edit_of_a_convolution_keeps_it_in_the_lanes_that_share_it() -> None:
    """What is before the edit is shared, and stays; what is behind it is folded in both lanes."""
    net, sites = built(Net)
    assert isinstance(net, Net)
    lanes = [Lane("baseline"), Lane("half", ((Place(sites.nodes["output"]["conv"]), halved),))]
    output = tap(sites)
    ours = merged(net, sites, {"baseline": [output], "half": [output]}, lanes)
    assert (ours.folded, norms(ours.module)) == (2, 2)

    class Halved(Net):
        def forward(self, images: Tensor) -> Tensor:
            x = self.act(self.bn(0.5 * self.conv(images)))
            out: Tensor = self.bn2(self.conv2(x)) + x
            return out

    twin = copy.deepcopy(net)
    twin.__class__ = Halved
    with torch.inference_mode():
        found = ours.module(images())
        assert near(found[ours.slots["baseline", output]][0], exact(net, images()))
        assert near(found[ours.slots["half", output]][0], exact(twin, images()))


def test_a_tap_behind_an_edit_keeps_that_lane_alone() -> None:
    """Of two lanes that differ before a convolution, the one whose convolution is read keeps it."""
    net, sites = built(Net)
    lanes = [Lane("baseline"), Lane("half", ((Place(sites.nodes["output"]["act"]), halved),))]
    output, second = tap(sites), tap(sites, "conv2")
    ours = merged(net, sites, {"baseline": [output], "half": [output, second]}, lanes)
    assert (ours.folded, norms(ours.module)) == (2, 1)
    with torch.inference_mode():
        found = ours.module(images())
        x = 0.5 * net.get_submodule("act")(net.get_submodule("bn")(net.get_submodule("conv")(images())))
        assert near(found[ours.slots["half", second]][0], net.get_submodule("conv2")(x).double())
        assert near(found[ours.slots["baseline", output]][0], exact(net, images()))


@pytest.mark.parametrize("hook", ["register_forward_hook", "register_forward_pre_hook"])
@pytest.mark.parametrize("where", ["conv", "bn"])
def test_modules_that_somebody_watches_stay(hook: str, where: str) -> None:
    net, sites = built(Net)
    getattr(net.get_submodule(where), hook)(lambda *_: None)
    assert merged(net, sites, {"baseline": [tap(sites)]}).folded == 1


def test_in_training_nothing_is_folded() -> None:
    net, sites = built(Net)
    graph = fx.Graph()
    graph.output(graph.call_module("bn", (graph.call_module("conv", (graph.placeholder("images"),)),)))
    modules = dict(net.named_modules())
    net.get_submodule("bn").train()
    assert fold(graph, modules, {}) == 0
    net.get_submodule("bn").eval()
    assert fold(graph, modules, {}) == 1


def test_graphs_of_one_model_share_what_was_folded() -> None:
    net, sites = built(Net)
    known: Folded = {}
    one, two = (
        merge(net, sites.traced.graph, [Lane("baseline")], {"baseline": [tap(sites)]}, folds=known)
        for _ in range(2)
    )
    convolutions = [
        {module for module in each.module.modules() if isinstance(module, nn.Conv2d)} for each in (one, two)
    ]
    assert convolutions[0] == convolutions[1] == set(known.values()) and len(known) == 2


@pytest.mark.parametrize(
    ("arch", "norms", "folded"),
    [
        ("mobilenetv3_small_050", 34, 34),
        ("tf_efficientnet_b0", 49, 49),
        ("seresnet18", 20, 20),
        ("densenet121", 121, 59),  # its norms stand before convolutions, but for those within a layer
    ],
)
def test_models_are_as_near_to_float64_as_they_were(arch: str, norms: int, folded: int) -> None:
    torch.manual_seed(0)
    model, size = timm.create_model(arch, num_classes=5).eval(), (3, 96, 96)
    found = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    for module in found:
        assert module.running_mean is not None and module.running_var is not None
        module.running_mean.normal_(0, 0.1)
        module.running_var.uniform_(0.5, 2.0)
        nn.init.uniform_(module.weight, 0.5, 1.5)
        nn.init.normal_(module.bias, 0, 0.1)
    sites = same_sites(model, sites_of(copy.deepcopy(model).to("meta"), size))
    output = Tap(
        (sites.traced.output,), Reducer(whole), sites.site(next(iter(sites.nodes["output"])), "output")
    )
    ours = merged(model, sites, {"baseline": [output]})
    images = torch.randn(2, *size, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        right = exact(model, images)
        off, before = (float((one - right).abs().max()) for one in (ours.module(images)[0][0], model(images)))
    assert (len(found), ours.folded) == (norms, folded)
    assert off <= 2 * before + 8 * torch.finfo(torch.float32).eps * float(right.abs().max())
