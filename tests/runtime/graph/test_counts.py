"""One trace serves where a program takes the number of images as it comes, and a second one settles what it cannot."""

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

from vitdsl.runtime.graph import trace as tracing
from vitdsl.runtime.graph.counts import BATCH, Count, Doubts
from vitdsl.runtime.graph.trace import Traced, trace


@pytest.mark.parametrize(
    ("work", "times"),
    [
        (lambda n: n * 2, 12), (lambda n: 2 * n, 12), (lambda n: n // 3, 2), (lambda n: math.prod([n, 4]), 24),
        (lambda n: n // Count(2 * BATCH, n.doubts), 3 / BATCH), (lambda n: n % 3, 0), (lambda n: n * 0, 0),
        (lambda n: n % Count(3 * BATCH, n.doubts), 0), (lambda n: n == 1, False), (lambda n: n > 1, True),
        (lambda n: n != n * 1, False), (lambda n: n > n // 2, True), (lambda n: copy.deepcopy(n), 6),
    ],
)  # fmt: skip
def test_what_holds_for_any_number_of_images_is_no_doubt(work: Callable[[Any], Any], times: Any) -> None:
    doubts = Doubts()
    found = work(Count(6 * BATCH, doubts))
    assert not doubts.any and found == (times if isinstance(times, bool) else round(times * BATCH))


@pytest.mark.parametrize(
    "work",
    [
        lambda n: n + 1, lambda n: 1 - n, lambda n: n * n, lambda n: n * 0.5, lambda n: n // 4, lambda n: n % 4,
        lambda n: 1 / n, lambda n: n / 2, lambda n: n > 13, lambda n: [0] * (n // 6), lambda n: int(n),
        lambda n: float(n), lambda n: -n, lambda n: n**0.5, lambda n: n & 7, lambda n: divmod(n, 2), lambda n: n * -1,
    ],
)  # fmt: skip
def test_whatever_else_is_done_with_it_is_a_doubt(work: Callable[[Any], Any]) -> None:
    doubts = Doubts()
    found = work(Count(6 * BATCH, doubts))
    assert doubts.any and found == work(6 * BATCH)


def once_and_twice(model: nn.Module, size: tuple[int, ...], monkeypatch: Any) -> tuple[bool, Traced, Traced]:
    """Whether one trace served, the graph, and that of two traces."""
    served: list[Any] = []
    once = tracing._once
    with monkeypatch.context() as patch:
        patch.setattr(tracing, "_once", lambda *given: served.append(once(*given)) or served[-1])
        first = trace(model, size)
        patch.setattr(tracing, "_once", lambda *given: None)
        return served[-1] is not None, first, trace(model, size)


def text(traced: Traced) -> list[str]:
    """All that two graphs must have in common."""
    nodes = [
        f"{n} {n.op} {n.target} {n.args} {n.kwargs} {n.meta[tracing.POSITION]}" for n in traced.graph.nodes
    ]
    return [*nodes, str(traced.outputs), str(traced.inputs), str(traced.when)]


@pytest.mark.parametrize(
    "arch",
    [
        "test_vit",
        "resnet18",
        "swin_tiny_patch4_window7_224",
        "mobilevit_xxs",
        "twins_svt_small",
        "halonet26t",
    ],
)
def test_one_trace_gives_what_two_give(arch: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with torch.device("meta"):
        model = timm.create_model(arch).eval()
    served, one, two = once_and_twice(model, timm.get_pretrained_cfg(arch).input_size, monkeypatch)
    assert served and text(one) == text(two)


class Net(nn.Module):
    def __init__(self, body: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


def head_first(x: Tensor) -> Tensor:
    y = x.transpose(0, 1)
    return y.reshape(y.shape[0], y.shape[1], -1).transpose(0, 1)


def whole_share(x: Tensor) -> Tensor:
    images = int(x.flatten(0, 1).shape[0] / x.shape[1])
    return x.view(images, -1)


def large_batches_otherwise(x: Tensor) -> Tensor:
    return x * 2 if x.shape[0] > 64 else x + 1


def by_len(x: Tensor) -> Tensor:
    return x.reshape(len(x), -1)


@pytest.mark.parametrize("body", [head_first, whole_share, large_batches_otherwise, by_len])
def test_a_doubt_is_settled_by_two_traces(body: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    served, one, two = once_and_twice(Net(body).eval(), (4, 6), monkeypatch)
    assert not served and text(one) == text(two)
