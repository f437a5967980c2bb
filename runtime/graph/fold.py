"""Batch norms folded into the convolutions before them: one operation and one map less for each.

In evaluation a batch norm is an affine map of each channel, and the convolution before it can carry it. That is done
where the merged graph proves that nobody but the norm sees the convolution's output: a tap or an edit that reads it
keeps it as it is, in the lanes that share it. Weights are computed in float64 and rounded once, into modules of our
own; the model stays as it is. Numbers differ by rounding. Does not own who asks for it (`run.engine`).
"""

import copy
from typing import Any

from timm.layers import BatchNormAct2d, Conv2dSame
from torch import Tensor, fx, nn

from vitdsl.runtime.graph.functional import out_of_place
from vitdsl.runtime.graph.overwrite import leave_out_identities
from vitdsl.runtime.graph.units import IDENTITIES

CONVOLUTIONS = {nn.Conv1d, nn.Conv2d, nn.Conv3d, Conv2dSame}
"""What is linear in its weight and its bias as they are; not those that make others of them in every call."""
NORMS = {nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, BatchNormAct2d}


Folded = dict[tuple[nn.Module, nn.Module], nn.Module]
"""For a convolution and a batch norm, the convolution with the norm in its weights; graphs of one model share it."""


def fold(graph: fx.Graph, modules: dict[str, Any], known: Folded) -> int:
    """Fold batch norms into the convolutions before them, where nothing else sees these; how many were folded.

    Args:
        graph: A graph free of in-place operations; it is rewritten.
        modules: What its targets name, with their weights; takes what it names from now on.
        known: Those that were folded before; takes the others.
    """
    leave_out_identities(graph, modules)
    made: dict[tuple[str, str], tuple[str, str]] = {}
    folded = 0
    for node in list(graph.nodes):
        source = _foldable(node, modules)
        if source is None:
            continue
        folded += 1
        both = str(source.target), str(node.target)
        if both not in made:
            made[both] = f"folded_{len(modules)}", f"after_folded_{len(modules)}"
            conv, norm = (modules[name] for name in both)
            if (conv, norm) not in known:
                known[conv, norm] = _folded(conv, norm)
            modules[made[both][0]] = known[conv, norm]
            if isinstance(norm, BatchNormAct2d):
                modules[made[both][1]] = out_of_place(norm.act)
        source.target, after = made[both]
        if after in modules:
            node.target = after
        else:
            node.replace_all_uses_with(source)
            graph.erase_node(node)
    leave_out_identities(graph, modules)
    return folded


def _foldable(node: fx.Node, modules: dict[str, Any]) -> fx.Node | None:
    """The convolution that a node's batch norm can be folded into."""
    norm = _plain(node, modules, NORMS)
    if (
        norm is None
        or norm.running_mean is None
        or isinstance(norm, BatchNormAct2d)
        and not _drops_nothing(norm)
    ):
        return None
    source = node.args[0]
    if (
        not isinstance(source, fx.Node)
        or len(source.users) > 1
        or _plain(source, modules, CONVOLUTIONS) is None
    ):
        return None
    return source


def _plain(node: fx.Node, modules: dict[str, Any], types: set[type]) -> Any:
    """The module that a node calls on one tensor, in evaluation, if it is of these types and has no hooks."""
    if node.op != "call_module" or len(node.args) != 1 or node.kwargs:
        return None
    module = modules[str(node.target)]
    if type(module) not in types or module.training or module._forward_hooks or module._forward_pre_hooks:
        return None
    return module


def _drops_nothing(norm: BatchNormAct2d) -> bool:
    return (
        isinstance(norm.drop, IDENTITIES) and not norm.act._forward_hooks and not norm.act._forward_pre_hooks
    )


def _folded(conv: Any, norm: Any) -> nn.Module:
    """The convolution with the batch norm in its weights."""
    scale = (_exact(norm.running_var) + norm.eps).rsqrt()
    shift = -_exact(norm.running_mean) * scale
    if norm.affine:
        scale, shift = scale * _exact(norm.weight), shift * _exact(norm.weight) + _exact(norm.bias)
    if conv.bias is not None:
        shift = shift + _exact(conv.bias) * scale
    weight = _exact(conv.weight) * scale.reshape(-1, *(1,) * (conv.weight.ndim - 1))
    twin: nn.Module = copy.copy(conv)
    twin._parameters = {
        name: nn.Parameter(exact.to(conv.weight), False)
        for name, exact in (("weight", weight), ("bias", shift))
    }
    return twin


def _exact(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().double()
