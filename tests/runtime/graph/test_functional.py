"""No tensor is overwritten, and every name reads what it held when it was seen."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from vitdsl.dsl.diagnostics import StudyError
from vitdsl.runtime.graph.functional import functionalise, settled
from vitdsl.runtime.graph.propagate import modules_of
from vitdsl.runtime.graph.trace import Traced, trace


class Net(nn.Module):
    """A linear layer, then a body of plain code."""

    def __init__(self, body: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = body
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.relu = nn.ReLU(inplace=True)
        self.shift = nn.Parameter(torch.ones(4))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(self, self.first(x))


def pure(model: nn.Module) -> tuple[fx.GraphModule, Traced]:
    traced = trace(model.eval(), (4,))
    functionalise(traced.graph, dict(model.named_modules()))
    return fx.GraphModule(modules_of(model, traced.graph), traced.graph), settled(traced)


def no_rebinding(net: Any, y: Tensor) -> Tensor:
    net.relu(y)
    return y + 1


def iadd(net: Any, y: Tensor) -> Tensor:
    kept = y
    y += net.second(y)
    return y * kept  # `kept` is the same tensor: it sees the sum


def isub_imul_idiv(net: Any, y: Tensor) -> Tensor:
    y -= 0.5
    y *= 3.0
    y /= 7.0
    return y


def chained(net: Any, y: Tensor) -> Tensor:
    before = y * 1
    return y.add_(1).mul_(2).relu_() + y + before


def functional_relu(net: Any, y: Tensor) -> Tensor:
    return F.relu(y, True) + F.leaky_relu_(y - 1, 0.1)


def module_relu(net: Any, y: Tensor) -> Tensor:
    z = net.relu(net.second(y))
    return net.relu(z + y) - z


def clamp_and_fill(net: Any, y: Tensor) -> Tensor:
    z = (y * 2).clamp_(min=0.1)
    ones = (y * 0).fill_(1.5)
    zeros = y.clone().zero_()
    return z + ones + zeros + y.masked_fill_(y > 0, 9.0)


def last_view_is_written(net: Any, y: Tensor) -> Tensor:
    return y.view(-1, 2, 2).add_(1).flatten(1)


def parameter_added(net: Any, y: Tensor) -> Tensor:
    y += net.shift
    return net.second(y)


def keyword_module(net: Any, y: Tensor) -> Tensor:
    net.relu(input=y)
    return y


BODIES = [
    no_rebinding, iadd, isub_imul_idiv, chained, functional_relu, module_relu, clamp_and_fill, last_view_is_written,
    parameter_added, keyword_module,
]  # fmt: skip


@pytest.mark.parametrize("body", BODIES, ids=lambda body: body.__name__)
def test_the_same_values_without_writing(body: Callable[[Any, Tensor], Tensor]) -> None:
    net = Net(body).eval()
    x = torch.randn(5, 4)
    graph, _ = pure(net)
    snapshots: list[tuple[fx.Node, Tensor, Tensor]] = []

    class Watch(fx.Interpreter):
        def run_node(self, n: fx.Node) -> Any:
            value = super().run_node(n)
            if isinstance(value, Tensor):
                snapshots.append((n, value, value.clone()))
            return value

    with torch.inference_mode():
        ours = Watch(graph).run(x)
        assert torch.equal(ours, net(x))
    for node, value, then in snapshots:
        assert torch.equal(value, then), f"{node} was overwritten"
    assert net.relu.inplace is True


@pytest.mark.parametrize("body", BODIES, ids=lambda body: body.__name__)
def test_each_module_output_is_what_a_cloning_hook_sees(body: Callable[[Any, Tensor], Tensor]) -> None:
    net = Net(body).eval()
    x = torch.randn(5, 4)
    seen: dict[str, list[Tensor]] = {}
    for path, part in net.named_children():
        part.register_forward_hook(
            lambda _, __, out, path=path: seen.setdefault(path, []).append(out.clone())
        )
    with torch.inference_mode():
        net(x)
        graph, traced = pure(net)
        values: dict[str, Tensor] = {}

        class Keep(fx.Interpreter):
            def run_node(self, n: fx.Node) -> Any:
                values[n.name] = super().run_node(n)
                return values[n.name]

        Keep(graph).run(x)
    for name, node in traced.outputs.items():
        path, _, call = name.partition(":")
        assert torch.equal(values[node.name], seen[path][int(call or 0)]), name


class Inner(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.fc(x)
        y.add_(1)
        return y


def test_a_module_that_returns_what_it_wrote_to_gives_the_written_value() -> None:
    net = nn.Sequential(Inner(), nn.Linear(4, 4))
    graph, traced = pure(net)
    assert traced.outputs["0.fc"] is not traced.outputs["0"]
    assert traced.outputs["0"].target == "add"
    assert traced.inputs["1"] is traced.outputs["0"]
    x = torch.randn(3, 4)
    assert torch.equal(graph(x), net(x))


def two_views(net: Any, y: Tensor) -> Tensor:
    one, other = y.view(-1), y.view(-1)
    one.add_(1)
    return other


def base_is_read(net: Any, y: Tensor) -> Tensor:
    y.view(-1).mul_(2)
    return y


def view_is_read(net: Any, y: Tensor) -> Tensor:
    view = y.transpose(0, 1)
    y.add_(1)
    return view


def slice_is_written(net: Any, y: Tensor) -> Tensor:
    y[:, 0].add_(1)
    return y


def chunk_is_written(net: Any, y: Tensor) -> Tensor:
    one, other = y.chunk(2, dim=1)
    one.add_(1)
    return other + y.sum()


def copied(net: Any, y: Tensor) -> Tensor:
    z = y * 1
    return z.copy_(y)


def drawn(net: Any, y: Tensor) -> Tensor:
    return (y * 1).normal_()


def out(net: Any, y: Tensor) -> Tensor:
    z = y * 1
    torch.add(y, 1, out=z)
    return z


@pytest.mark.parametrize(
    "body",
    [two_views, base_is_read, view_is_read, slice_is_written, chunk_is_written, copied, drawn, out],
    ids=lambda body: body.__name__,
)
def test_what_cannot_be_rewritten_is_refused(body: Callable[[Any, Tensor], Tensor]) -> None:
    with pytest.raises(StudyError) as raised:
        pure(Net(body))
    (problem,) = raised.value.diagnostics
    assert problem.code == "VD301"
    assert (
        "in-place" in problem.message and "family" not in problem.help[0] and "`x = x + y`" in problem.help[0]
    )


def test_setitem_of_a_hand_written_graph() -> None:
    import operator

    graph = fx.Graph()
    x = graph.placeholder("x")
    y = graph.call_method("clone", (x,))
    graph.call_function(operator.setitem, (y, 0, 7.0))
    graph.output(graph.call_method("mul", (y, 2)))
    functionalise(graph, {})
    given = torch.arange(3.0)
    assert fx.GraphModule({}, graph)(given).tolist() == [14.0, 2.0, 4.0]
    assert given.tolist() == [0.0, 1.0, 2.0]
