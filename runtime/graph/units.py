"""Residual units: the branches of a model and the skips around them, found in its graph.

An add is a unit when one operand, the skip, is something that the other, the branch, was computed from. The skip may
run through identities, reshapes, slices, scales, pooling or a linear projection (a downsampling shortcut), and
through a concatenation of such ways from one place. The branch must have parameters, beside a projected skip it must
do something non-linear, and beside a part of a tensor it must read more than other parts. So rotary embeddings, sums
of parallel convolutions, window bookkeeping, groups of channels that are added in turn and the fusion of two streams
are not units.

Does not own what units are called (`unit_names`).
"""

import operator
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import fx, nn
from torch.nn import functional as F

from vitdsl.runtime.graph.propagate import VALUE
from vitdsl.runtime.graph.unit_names import names_of

BranchKind = Literal["attention", "mlp", "conv", "mixer", "other"]

ADDS = {operator.add, torch.add, "add"}
RESHAPES = {
    "reshape", "view", "flatten", "unflatten", "permute", "transpose", "contiguous", "squeeze", "unsqueeze",
    "movedim", "to", "clone", "window_reverse", "window_reverse_nchw", "roll", "pad",
}  # fmt: skip
SCALES = {operator.mul, torch.mul, "mul", operator.truediv, "div"}
IDENTITIES = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)
LINEAR = (
    nn.Conv1d, nn.Conv2d, nn.Linear, nn.BatchNorm1d, nn.BatchNorm2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d,
    nn.MaxPool2d, nn.Flatten, nn.Unflatten, nn.ZeroPad2d,
)  # fmt: skip
LINEAR_NAMES = {
    "DropPath", "DropBlock2d", "LayerScale", "LayerScale2d", "BatchNormAct2d", "FrozenBatchNormAct2d",
    "AvgPool2dSame", "MaxPool2dSame", "Conv2dSame", "StdConv2d", "StdConv2dSame", "ScaledStdConv2d",
    "ScaledStdConv2dSame", "Affine", "BlurPool2d",
}  # fmt: skip
PROJECTIONS = {
    "conv2d", "linear", "batch_norm", "avg_pool2d", "adaptive_avg_pool2d", "mean", "amax", "max_pool2d",
}  # fmt: skip
PARTS = {"getitem", "split", "chunk", "narrow"}
JOINS = {"cat"}
SOFTMAX: set[object] = {"softmax", torch.softmax, F.softmax}
ATTENTION: set[object] = {F.scaled_dot_product_attention}
PRODUCTS = {operator.matmul, torch.matmul, "matmul", torch.bmm, "bmm", torch.einsum}
BILINEAR = PRODUCTS | {operator.mul, torch.mul, "mul"}
WEIGHTED = {
    "conv1d", "conv2d", "linear", "matmul", "bmm", "einsum", "mul", "layer_norm", "group_norm", "batch_norm",
    "rms_norm",
}  # fmt: skip


@dataclass(frozen=True)
class Unit:
    """One residual unit.

    Attributes:
        name: `blocks.3.attn`, `layer2.1`.
        add: The node where the branch joins the skip: the stream after it.
        branch: The node of what is added.
        skip: The node of what is carried, after a projection where there is one.
        projected: Whether the skip is a projection rather than the stream itself.
        branch_kind: What the branch does.
        depth: Share of the model's units that the stream has behind it here, 0 to 1.
    """

    name: str
    add: fx.Node
    branch: fx.Node
    skip: fx.Node
    projected: bool
    branch_kind: BranchKind
    depth: float = 0.0


def find_units(graph: fx.Graph, model: nn.Module) -> list[Unit]:
    """The residual units of a propagated graph, in order of execution.

    Args:
        graph: Free of in-place operations, with shapes (`propagate`).
        model: The traced model, for its modules.
    """
    finder = _Finder(graph, model)
    found = [unit for node in graph.nodes if (unit := finder.unit(node)) is not None]
    names = names_of(found, model)
    return [
        Unit(name, unit.add, unit.branch, unit.skip, unit.projected, unit.branch_kind, (i + 1) / len(found))
        for i, (unit, name) in enumerate(zip(found, names, strict=True))
    ]


class _Finder:
    """Ancestors and step kinds of one graph."""

    def __init__(self, graph: fx.Graph, model: nn.Module) -> None:
        self.modules = dict(model.named_modules())
        self.order = list(graph.nodes)
        self.position = {node: i for i, node in enumerate(self.order)}
        self.data: set[fx.Node] = set()
        self.weights: set[fx.Node] = set()
        self.ancestors: dict[fx.Node, int] = {}
        for i, node in enumerate(self.order):
            if node.op == "placeholder" or (
                _is_data(node) and any(n in self.data for n in node.all_input_nodes)
            ):
                self.data.add(node)
            elif node.op == "get_attr" or any(n in self.weights for n in node.all_input_nodes):
                self.weights.add(node)
            mask = 1 << i
            for source in node.all_input_nodes:
                if source in self.data:
                    mask |= self.ancestors[source]
            self.ancestors[node] = mask

    def unit(self, node: fx.Node) -> Unit | None:
        """The unit whose add a node is, or None."""
        if not _is(node, ADDS) or node not in self.data:
            return None
        operands = node.args[:2] if len(node.args) >= 2 else (node.args[0], node.kwargs.get("other"))
        if not all(isinstance(operand, fx.Node) and operand in self.data for operand in operands):
            return None
        one, other = operands
        assert isinstance(one, fx.Node) and isinstance(other, fx.Node)
        candidates = [
            unit for unit in (self._read(node, one, other), self._read(node, other, one)) if unit is not None
        ]
        candidates.sort(key=lambda unit: unit.projected)
        if len(candidates) == 2 and candidates[0].projected == candidates[1].projected:
            return None
        return candidates[0] if candidates else None

    def _read(self, add: fx.Node, skip: fx.Node, branch: fx.Node) -> Unit | None:
        """Read an add with one operand as the skip; None where that makes no sense."""
        source: fx.Node | None = skip
        projected = cut = False
        while source is not None:
            if self._precedes(source, branch):
                between = self._between(source, branch)
                if self._is_branch(between, projected) and not (cut and self._reads_parts(source, between)):
                    return Unit("", add, branch, skip, projected, self._kind(between, branch))
                if between:
                    return None
            step = self._linear_step(source)
            projected = projected or step == "linear"
            cut = cut or step == "part"
            source = self._source(source) if step else None
        return None

    def _precedes(self, node: fx.Node, later: fx.Node) -> bool:
        return node is not later and bool(self.ancestors[later] >> self.position[node] & 1)

    def _between(self, source: fx.Node, end: fx.Node) -> list[fx.Node]:
        """Nodes on the ways from a source (left out) to an end (included)."""
        first, last = self.position[source], self.position[end]
        return [
            node
            for node in self.order[first + 1 : last + 1]
            if node in self.data
            and self.ancestors[node] >> first & 1
            and self.ancestors[end] >> self.position[node] & 1
        ]

    def _reads_parts(self, source: fx.Node, between: list[fx.Node]) -> bool:
        """Whether what a branch reads of a place are parts of it alone, whatever keeps the place as it is before."""
        whole = {source}
        for node in between:
            if whole.isdisjoint(node.all_input_nodes) or _name(node) in PARTS:
                continue
            if self._linear_step(node) != "same":
                return False
            whole.add(node)
        return True

    def _source(self, node: fx.Node) -> fx.Node | None:
        """The one place that a step comes from; of a concatenation, where the ways of all its pieces meet."""
        sources = [source for source in node.all_input_nodes if source in self.data]
        if _name(node) not in JOINS or len(sources) < 2:
            return sources[0] if len(sources) == 1 else None
        ways = [self._way(source) for source in sources]
        return next((one for one in ways[0] if all(one in way for way in ways[1:])), None)

    def _way(self, node: fx.Node) -> list[fx.Node]:
        """A node and the places that it comes from by steps of a skip, the nearest first."""
        found: list[fx.Node] = []
        here: fx.Node | None = node
        while here is not None:
            found.append(here)
            joined = _name(here) in JOINS
            here = self._source(here) if not joined and self._linear_step(here) else None
        return found

    def _linear_step(self, node: fx.Node) -> str | None:
        """How a skip may run through a node: `same`, `part`, `linear`, or None: it may not."""
        if node.op == "call_module":
            module = self.modules[str(node.target)]
            name = type(module).__name__
            if isinstance(module, IDENTITIES) or name in ("DropPath", "DropBlock2d"):
                return "same"
            if name.endswith("NormAct") or name.endswith(("NormAct2d", "NormActFp32")):
                if "Batch" not in name and not self._is_shortcut(node):
                    return None
                return "linear" if isinstance(getattr(module, "act", None), nn.Identity) else None
            if name.startswith("LayerNorm") and self._is_shortcut(node):
                return "linear"
            return "linear" if isinstance(module, LINEAR) or name in LINEAR_NAMES else None
        if node.op in ("call_method", "call_function"):
            if _name(node) in RESHAPES:
                return "same"
            if _name(node) in PARTS:
                return "part"
            if _name(node) in JOINS:
                return "linear"
            if _is(node, SCALES) and self._source(node) is not None:
                return "linear"
            if _name(node) in PROJECTIONS:
                return "linear"
            if _name(node) in ("layer_norm", "layer_norm2d", "group_norm") and self._is_shortcut(node):
                return "linear"
        return None

    def _is_shortcut(self, node: fx.Node) -> bool:
        """A norm that belongs to a shortcut or downsampling module is part of the projection."""
        path = ".".join((*(node.meta.get("nn_module_stack") or ()), str(node.target)))
        return any(word in path for word in ("shortcut", "downsample", "skip"))

    def _is_branch(self, nodes: list[fx.Node], projected: bool) -> bool:
        return any(self._has_parameters(n) for n in nodes) and (
            not projected or any(self._is_nonlinear(n) for n in nodes)
        )

    def _has_parameters(self, node: fx.Node) -> bool:
        if node.op == "call_module":
            return next(self.modules[str(node.target)].parameters(), None) is not None
        derived = self.weights if _name(node) in WEIGHTED else ()
        return any(source.op == "get_attr" or source in derived for source in node.all_input_nodes)

    def _is_nonlinear(self, node: fx.Node) -> bool:
        if node.op == "call_module":
            return self._linear_step(node) is None
        if _is(node, BILINEAR):
            return sum(source in self.data for source in node.all_input_nodes) > 1
        return node.op in ("call_function", "call_method") and _name(node) in NONLINEAR

    def _kind(self, between: Iterable[fx.Node], branch: fx.Node) -> BranchKind:
        nodes = list(between)
        soft = any(_is(node, SOFTMAX) or self._module_is(node, nn.Softmax) for node in nodes)
        if any(_is(node, ATTENTION) or soft and _is(node, PRODUCTS) for node in nodes):
            return "attention"
        modules = [self.modules[str(node.target)] for node in nodes if node.op == "call_module"]
        names = [type(module).__name__ for module in modules]
        spatial = [m for m in modules if isinstance(m, nn.Conv2d) and max(m.kernel_size) > 1]
        if (
            spatial
            or any(_name(node) == "conv2d" for node in nodes)
            or any("Conv" in type(m).__name__ and not isinstance(m, nn.Conv2d) for m in modules)
        ):
            return "conv"
        leaves = [str(node.target).rpartition(".")[2] for node in nodes if node.op == "call_module"]
        if any("attn" in word.lower() or "attention" in word.lower() for word in (*leaves, *names)):
            return "attention"
        if any(isinstance(m, (nn.Linear, nn.Conv2d)) for m in modules):
            return "mixer" if any(_name(n) == "transpose" for n in nodes) else "mlp"
        return "other"

    def _module_is(self, node: fx.Node, kind: type[nn.Module]) -> bool:
        return node.op == "call_module" and isinstance(self.modules[str(node.target)], kind)


NONLINEAR = {
    "relu", "relu6", "gelu", "silu", "sigmoid", "tanh", "softmax", "hardswish", "hardsigmoid", "layer_norm",
    "group_norm", "scaled_dot_product_attention", "exp", "softplus", "leaky_relu", "elu", "mish", "normalize",
    "rms_norm", "fast_layer_norm", "sqrt", "rsqrt", "square", "pow", "clamp", "max", "maximum", "amax",
}  # fmt: skip


def _is(node: fx.Node, targets: set[object]) -> bool:
    return node.op in ("call_function", "call_method") and node.target in targets


def _name(node: fx.Node) -> str:
    return node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")


def _is_data(node: fx.Node) -> bool:
    value = node.meta.get(VALUE)
    return isinstance(value, torch.Tensor) or (
        isinstance(value, (tuple, list)) and any(isinstance(item, torch.Tensor) for item in value)
    )
