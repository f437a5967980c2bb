"""Values written over others: the same numbers bit for bit, and only where nobody reads what was there."""

from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from vitdsl.runtime.graph.edit import Lane
from vitdsl.runtime.graph.merge import merge
from vitdsl.runtime.graph.overwrite import OVER
from vitdsl.runtime.graph.sites import sites_of
from vitdsl.runtime.graph.tap import Reduce, Reducer, Tap


def view(tensor: Tensor, *, site: Any) -> Tensor:
    """What a careless reducer gives: a view of what it reads."""
    return tensor.flatten(1)[:, :7]


def written_over(module: fx.GraphModule) -> list[fx.Node]:
    return [node for node in module.graph.nodes if OVER in node.meta]


class Net(nn.Module):
    """A convolution whose map is read once, twice, or through a view, by activations and sums."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how, self.conv, self.relu, self.drop = how, nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Dropout()

    def forward(self, images: Tensor) -> Tensor:
        x: Tensor = self.conv(images)
        match self.how:
            case "once":
                return self.relu(x)
            case "function":
                return F.relu(x)
            case "method":
                return x.sigmoid()
            case "sum":
                return x + self.conv(images.flip(2))
            case "read before":
                return x.mean() + self.relu(x)
            case "read after":
                return self.relu(x) * x
            case "view before":
                kept = x.flatten(2)
                return self.relu(x).flatten(2) + kept
            case "dropped":
                kept = self.drop(x)
                return self.relu(x) - kept
            case "of images":
                return self.conv(self.relu(images) + images)
            case "wider":
                return x.mean((2, 3), keepdim=True) + x
            case _:
                return self.relu(self.drop(x))


WHERE = {
    "once": 1, "function": 1, "method": 1, "sum": 1, "read before": 2, "read after": 0, "view before": 0,
    "dropped": 0, "of images": 1, "wider": 1, "through a dropout": 1,
}  # fmt: skip


@pytest.mark.parametrize("how", WHERE)
def test_only_what_is_certain_is_written_over(how: str) -> None:
    net = Net(how).eval()
    sites = sites_of(net, (3, 8, 8))
    output = Tap((sites.traced.output,), Reducer(view), sites.site("conv", "output"))
    taps = {"baseline": [output]}
    ours = merge(net, sites.traced.graph, [Lane("baseline")], taps, over=True)
    assert len(written_over(ours.module)) == WHERE[how], ours.module.code
    images = torch.randn(2, 3, 8, 8)
    kept = images.clone()
    with torch.inference_mode():
        assert torch.equal(ours.module(images)[0][0], net(images).flatten(1)[:, :7])
    assert torch.equal(images, kept)


def test_what_a_tap_gives_does_not_share_memory_with_what_it_read() -> None:
    net = Net("once").eval()
    sites = sites_of(net, (3, 8, 8))
    tensor = torch.randn(2, 4, 8, 8)
    (found,) = Reduce(Reducer(view), sites.site("conv", "output"))(tensor)
    assert torch.equal(found, tensor.flatten(1)[:, :7])
    assert found.untyped_storage().nbytes() == found.nbytes
