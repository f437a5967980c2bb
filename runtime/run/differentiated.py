"""The work of gradients, told without the images: how often a tap differentiates, and what one backward pass takes.

Owns these two counts. Does not own the rest of a batch's work (`dry`), or how long it takes (`calibration`).
"""

from collections import Counter
from typing import Any

import torch
from torch import Tensor, fx

from vitdsl.runtime.graph.propagate import OPS
from vitdsl.runtime.graph.work import Op

Calls = Counter[Op]
CONVOLUTION = 2
"""Forward convolutions that take as long as the gradient of one by what it reads, measured on ResNets."""


def backward(node: fx.Node) -> Calls:
    """The calls of one backward pass from a node to the images, for one image.

    Those of the nodes between, once for each of their inputs that depends on the images: weights need no gradient. A
    convolution counts as `CONVOLUTION`.
    """
    between = {node}
    todo = [node]
    while todo:
        new = set(todo.pop().all_input_nodes) - between
        between |= new
        todo += new
    depends: set[fx.Node] = set()
    calls: Calls = Counter()
    for one in node.graph.nodes:
        inputs = sum(source in depends for source in one.all_input_nodes)
        if one.op == "placeholder" or (one in between and inputs):
            depends.add(one)
            for op in one.meta.get(OPS, ()):
                calls[op] += inputs * (CONVOLUTION if op.sort == "convolution" else 1)
    return calls


class Counted(torch.autograd.Function):
    """A tensor that is said to depend on the images; counts how often it is differentiated."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, value: Tensor, passes: list[None]) -> Tensor:
        """The value; `passes` then has an entry for each backward pass."""
        ctx.passes = passes
        ctx.images = images
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        """No gradient, and an entry."""
        ctx.passes.append(None)
        return torch.zeros_like(ctx.images), None, None
