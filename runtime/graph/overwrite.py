"""Values written over one that nobody reads again: what saves memory and the time to fill it.

An activation, or the sum of a skip and a branch, may be written where its operand lies, if that operand is a tensor of
its own (made by an operation that never gives a view of what it was given) and everything else that reads it has done
so and kept no view of it. Both are read off the merged graph, whatever the lanes share there; where it is not certain,
nothing is changed. Numbers are the same bit for bit. Does not own in-place operations of the model (`functional`
removes them all), or whether this may be done at all: not where gradients are taken.
"""

import copy
import operator
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from vitdsl.runtime.graph.propagate import VALUE
from vitdsl.runtime.graph.tap import Reduce
from vitdsl.runtime.graph.units import ADDS, IDENTITIES

ACTIVATIONS = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.CELU, nn.SELU, nn.SiLU, nn.Mish, nn.Hardswish, nn.Hardsigmoid,
    nn.Hardtanh,
)  # fmt: skip
"""Modules that can be told to write over their operand."""
CAN_BE_TOLD = {
    F.relu,
    F.relu6,
    F.leaky_relu,
    F.elu,
    F.celu,
    F.selu,
    F.silu,
    F.mish,
    F.hardswish,
    F.hardsigmoid,
}
"""Functions that can be told so."""
METHODS = {
    torch.relu: "relu_", "relu": "relu_", torch.sigmoid: "sigmoid_", "sigmoid": "sigmoid_",
    torch.tanh: "tanh_", "tanh": "tanh_",
}  # fmt: skip
"""Other functions and methods of one operand, and the method that writes over it."""
NEW_BY_MODULES = (
    *ACTIVATIONS, _ConvNd, _BatchNorm, nn.Linear, nn.LayerNorm, nn.GroupNorm, nn.GELU, nn.Sigmoid, nn.Tanh,
)  # fmt: skip
NEW_BY_CALLS = CAN_BE_TOLD | set(METHODS) | ADDS | {
    operator.sub, operator.mul, operator.truediv, torch.mul, "mul", "sub", "div", "mean", "sum", F.gelu,
    F.conv2d, torch.conv2d, F.linear, F.batch_norm, F.layer_norm, F.group_norm,
}  # fmt: skip
"""What gives a new tensor in every case."""
OVER = "over"
"""In the meta of a node that writes over its operand."""


def overwrite(graph: fx.Graph, modules: dict[str, Any]) -> None:
    """Let activations and sums write over operands that nobody reads again; identities are taken out before.

    Args:
        graph: A graph free of in-place operations, annotated with shapes; it is rewritten.
        modules: What its targets name; takes what it names from now on.
    """
    leave_out_identities(graph, modules)
    order = {node: position for position, node in enumerate(graph.nodes)}
    for node in graph.nodes:
        over = next((one for one in _operands(node, modules) if _is_free(one, node, order, modules)), None)
        if over is None:
            continue
        node.meta[OVER] = True
        if node.op == "call_module":
            twin: Any = copy.copy(modules[str(node.target)])
            twin.inplace = True
            node.target = f"over_{len(modules)}"
            modules[node.target] = twin
        elif node.target in CAN_BE_TOLD:
            node.update_kwarg("inplace", True)
        elif node.target in METHODS:
            node.op, node.target = "call_method", METHODS[node.target]
        else:
            (other,) = [one for one in node.args if one is not over]
            node.op, node.target, node.args = "call_method", "add_", (over, other)


def leave_out_identities(graph: fx.Graph, modules: dict[str, Any]) -> None:
    """Take out what gives back what it was given: a second name of a tensor that hides who reads it."""
    for node in list(graph.nodes):
        if node.op == "call_module" and len(node.args) == 1 and not node.kwargs:
            module = modules[str(node.target)]
            if isinstance(module, IDENTITIES) and not module.training:
                node.replace_all_uses_with(node.args[0])
                graph.erase_node(node)


def _operands(node: fx.Node, modules: dict[str, Any]) -> list[fx.Node]:
    """The operands that a node could be written over; none where it is no operation of that sort."""
    if node.op == "call_module":
        count = 1 if isinstance(modules[str(node.target)], ACTIVATIONS) else 0
    elif node.target in CAN_BE_TOLD or node.target in METHODS:
        count = 1
    else:
        count = 2 if node.op.startswith("call") and node.target in ADDS else 0
    if len(node.args) != count or node.kwargs not in ({}, {"inplace": False}):
        return []
    operands = [one for one in node.args if isinstance(one, fx.Node)]
    return operands if len(set(operands)) == len(operands) and all(map(_tensor, operands)) else []


def _is_free(one: fx.Node, node: fx.Node, order: dict[fx.Node, int], modules: dict[str, Any]) -> bool:
    """Whether an operand is a tensor of its own, like the result, and read by nobody after the node."""
    if not (_gives_new(one, modules) and _alike(one, node)):
        return False
    others = (user for user in one.users if user is not node)
    return all(order[user] < order[node] and _keeps_nothing(user, modules) for user in others)


def _gives_new(node: fx.Node, modules: dict[str, Any]) -> bool:
    """Whether what a node gives is its own alone: new, or written over what was another's own."""
    if node.op == "call_module":
        module = modules[str(node.target)]
        return isinstance(module, NEW_BY_MODULES) and type(module).__module__.startswith(("torch.", "timm."))
    return OVER in node.meta or node.op.startswith("call") and node.target in NEW_BY_CALLS


def _keeps_nothing(node: fx.Node, modules: dict[str, Any]) -> bool:
    """Whether what a node gives is neither a view of what it reads nor written over it."""
    if OVER in node.meta:
        return False
    return _gives_new(node, modules) or (
        node.op == "call_module" and isinstance(modules[str(node.target)], Reduce)
    )


def _alike(one: fx.Node, other: fx.Node) -> bool:
    a, b = one.meta[VALUE], other.meta.get(VALUE)
    return isinstance(b, Tensor) and a.shape == b.shape and a.dtype == b.dtype


def _tensor(node: fx.Node) -> bool:
    return isinstance(node.meta.get(VALUE), Tensor)
