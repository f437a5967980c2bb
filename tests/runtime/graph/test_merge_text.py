"""Merged graphs as text: small graphs in, the merged graph out, word for word."""

import textwrap
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn

from vitdsl.runtime.graph.edit import Lane, Operation, Place, Rewrite, Rewriter
from vitdsl.runtime.graph.merge import merge
from vitdsl.runtime.graph.site import Site
from vitdsl.runtime.graph.tap import Reducer, Tap

SITE = Site("x", "output", (4,), "vector", 0.0)


def keep(tensor: Tensor, *, site: Site) -> Tensor:
    return tensor.clone()


KEEP = Reducer(keep)


class Line(nn.Module):
    """Four layers in a row, with the second and third added around."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c, self.d = (nn.Linear(4, 4) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        a = self.a(x)
        b = a + self.b(a)
        c = b + self.c(b)
        out: Tensor = self.d(c)
        return out


def node(graph: fx.Graph, name: str) -> fx.Node:
    return next(one for one in graph.nodes if one.name == name)


def text(
    model: nn.Module,
    graph: fx.Graph,
    edits: Mapping[str, Mapping[str, Rewrite]],
    taps: Mapping[str, list[str]],
) -> str:
    """The merged graph, one line for each node."""
    lanes = [
        Lane(name, tuple((Place(node(graph, at)), rewrite) for at, rewrite in one.items()))
        for name, one in edits.items()
    ]
    wanted = {
        name: [Tap((node(graph, at),), KEEP, Site(at, "output", (4,), "vector", 0.0)) for at in ats]
        for name, ats in taps.items()
    }
    merged = merge(model.eval(), graph, lanes, wanted)
    lines = []
    for one in merged.module.graph.nodes:
        given = ", ".join(map(str, one.args)) if one.op != "output" else str(one.args[0])
        what = one.target if isinstance(one.target, str) else one.target.__name__
        lines.append(f"{one.name} = {what}({given})" if one.op != "placeholder" else one.name)
    return "\n".join(lines)


def check(found: str, expected: str) -> None:
    assert found == textwrap.dedent(expected).strip()


def operand(graph: fx.Graph, at: str, which: int) -> Rewrite:
    return lambda build: build.value(node(graph, at).args[which])


def test_a_lane_is_laid_whole_at_its_edit_and_each_tap_right_after_its_tensor() -> None:
    graph = fx.Tracer().trace(Line())
    check(
        text(
            Line(),
            graph,
            {"baseline": {}, "no skip": {"add": operand(graph, "add", 1)}},
            {"baseline": ["a", "d"], "no skip": ["a", "d"]},
        ),
        """
        x
        a = a(x)
        tap_0 = tap_0(a)
        b = b(a)
        c = c(b)
        add = add(b, c)
        d = d(add)
        tap_1 = tap_1(d)
        add_1 = add(a, b)
        c_1 = c(add_1)
        add_2 = add(add_1, c_1)
        d_1 = d(add_2)
        tap_2 = tap_2(d_1)
        output = output((tap_0, tap_1, tap_2))
        """,
    )


def test_what_no_tap_needs_is_not_there() -> None:
    graph = fx.Tracer().trace(Line())
    check(
        text(
            Line(),
            graph,
            {"baseline": {}, "no branch": {"add_1": operand(graph, "add_1", 0)}},
            {"baseline": ["a"], "no branch": ["add_1"]},
        ),
        """
        x
        a = a(x)
        tap_0 = tap_0(a)
        b = b(a)
        add = add(a, b)
        tap_1 = tap_1(add)
        output = output((tap_0, tap_1))
        """,
    )


def test_equal_lanes_are_one() -> None:
    graph = fx.Tracer().trace(Line())
    double = Operation(torch.mul, (("other", 2),))

    def doubled(build: Rewriter) -> Any:
        return build.call(double, build.value(node(graph, "add")))

    found = text(
        Line(),
        graph,
        {"one": {"add": doubled}, "other": {"add": doubled}},
        {"one": ["d"], "other": ["d"]},
    )
    check(
        found,
        """
        x
        a = a(x)
        b = b(a)
        add = add(a, b)
        edit_0 = edit_0(add)
        c = c(edit_0)
        add_1 = add(edit_0, c)
        d = d(add_1)
        tap_1 = tap_1(d)
        output = output((tap_1,))
        """,
    )


def of(body: Callable[[Any], Any]) -> fx.Graph:
    """A graph of plain code: `body` gets a proxy of the images."""

    class Code(nn.Module):
        def forward(self, x: Tensor) -> Any:
            return body(x)

    return fx.Tracer().trace(Code())


def count(body: Callable[[Any], Any], target: str, *, training: bool = False) -> int:
    """How often an operation is in the merged graph of a lane."""
    graph = of(body)
    result = next(one for one in graph.nodes if one.op == "output").args[0]
    merged = merge(
        nn.Identity().train(training),
        graph,
        [Lane("baseline")],
        {"baseline": [Tap((result,), KEEP, SITE)]},
    )
    names = [getattr(one.target, "__name__", one.target) for one in merged.module.graph.nodes]
    return names.count(target)


@pytest.mark.parametrize(
    ("body", "target", "number"),
    [
        (lambda x: x * 2 + x * 2, "mul", 1),
        (lambda x: x * 1 + x * 1.0, "mul", 2),
        (lambda x: x * 1 + x * True, "mul", 2),
        (lambda x: x * 0.0 + x * -0.0, "mul", 2),
        (lambda x: x[:, 0:2] + x[:, 0:2], "getitem", 1),
        (lambda x: x[:, 0:2] + x[:, 0:3], "getitem", 2),
        (lambda x: x[:, None] + x[:, ...], "getitem", 2),
        (lambda x: torch.cat([x, x]) + torch.cat([x, x]), "cat", 1),
        (lambda x: torch.cat([x, x]) + torch.cat([x, x], 1), "cat", 2),
        (lambda x: torch.cat([x, x]) + torch.cat(tensors=[x, x]), "cat", 2),
        (lambda x: x.to(torch.float32) + x.to(torch.float64), "to", 2),
        (lambda x: x.to(torch.float32) + x.to(torch.float32), "to", 1),
        (lambda x: x.sum(dim=1, keepdim=True) + x.sum(keepdim=True, dim=1), "sum", 1),
        (lambda x: torch.rand_like(x) + torch.rand_like(x), "rand_like", 2),
        (lambda x: torch.bernoulli(x) + torch.bernoulli(x), "bernoulli", 2),
        (lambda x: x.bernoulli(0.5) + x.bernoulli(0.5), "bernoulli", 2),
        (lambda x: nn.functional.dropout(x, 0.5, True) + nn.functional.dropout(x, 0.5, True), "dropout", 2),
        (lambda x: nn.functional.dropout(x, 0.5, False) + nn.functional.dropout(x, 0.5, False), "dropout", 1),
    ],
)
def test_only_what_is_certainly_equal_is_shared(body: Callable[[Any], Any], target: str, number: int) -> None:
    assert count(body, target) == number


def test_nothing_is_shared_in_training_where_modules_draw_and_remember() -> None:
    assert count(lambda x: x * 2 + x * 2, "mul", training=True) == 2


def test_a_module_that_is_called_twice_is_two_calls_on_two_inputs_and_one_on_one() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.f = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.f(self.f(x)) + self.f(x)
            return out

    graph = fx.Tracer().trace(Twice())
    check(
        text(Twice(), graph, {"baseline": {}}, {"baseline": ["add"]}),
        """
        x
        f = f(x)
        f_1 = f(f)
        add = add(f_1, f)
        tap_0 = tap_0(add)
        output = output((tap_0,))
        """,
    )
