"""The sites of a model: which tensors of its graph have a name, in which roles, and what their axes mean.

A name is a module's path or a unit's name; a role says which tensor of it: `output` and `input` of a module;
`stream`, `branch` and `skip` of a residual unit; `attention` (softmax weights) and `heads` (each head's output before
the projection) of an attention module.
"""

import math
import operator
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, get_args

import torch
from torch import fx, nn
from torch.nn import functional as F

from vitdsl.dsl.study import Role
from vitdsl.runtime.graph.functional import functionalise, settled
from vitdsl.runtime.graph.propagate import PROBE, VALUE, copy_annotations, propagate
from vitdsl.runtime.graph.trace import Traced, trace
from vitdsl.runtime.graph.units import SOFTMAX, Unit, find_units, owner
from vitdsl.runtime.metrics._base import Layout, Site

ROLES: tuple[str, ...] = get_args(Role)
UNIT_ROLES = ("stream", "branch", "skip")
MATMULS = {operator.matmul, torch.matmul, "matmul", torch.bmm, "bmm"}


@dataclass(frozen=True)
class Sites:
    """Everything that can be named in one model's graph.

    Attributes:
        model: The traced model.
        traced: Its graph, free of in-place operations.
        units: Its residual units by name.
        nodes: Role to name to node, names in order of execution.
    """

    model: nn.Module
    traced: Traced
    units: dict[str, Unit]
    nodes: Mapping[str, Mapping[str, fx.Node]]
    _depths: dict[fx.Node, float] = field(repr=False)

    def names(self, role: str) -> list[str]:
        """Names that have a role, in order of execution."""
        return list(self.nodes[role])

    def depth(self, name: str, role: str) -> float:
        """Share of the model's residual units behind a site, its own included; of its nodes, without any units."""
        if name in self.units and role not in ("output", "input"):
            return self.units[name].depth
        return self._depths[self.nodes[role][name]]

    def holder(self, name: str, role: str) -> str:
        """Path of the module that holds a unit or an attention module; "" for a module's own output or input."""
        if name in self.units and role in UNIT_ROLES:
            return owner(self.units[name].add)
        return name.rpartition(".")[0] if role in ("attention", "heads") else ""

    def site(
        self, name: str, role: str, *, input_size: tuple[int, ...], tokens: str | tuple[int, ...] = "all"
    ) -> Site:
        """The facts about a site that metrics need.

        Args:
            name: One of `names(role)`, or "" for the model's own output.
            role: Its role.
            input_size: `(channels, height, width)` of the images.
            tokens: Which tokens a layer selects.
        """
        node = self.nodes[role][name] if name else self.traced.output
        value = node.meta[VALUE]
        shape = tuple(value.shape[1:])
        layout = self._layout(node, role, input_size)
        prefix, grid = self._grid(shape, role, layout, input_size)
        if layout == "map":
            grid = (shape[1], shape[2])
        elif layout == "map_last":
            grid = (shape[0], shape[1])
        return Site(
            name=name,
            role=role,
            shape=shape,
            layout=layout,
            depth=self.depth(name, role) if name else self._depths[node],
            prefix=prefix,
            class_token=prefix > 0 and getattr(self.model, "cls_token", None) is not None,
            grid=grid,
            patch=(input_size[1] // grid[0], input_size[2] // grid[1]) if grid else None,
            tokens=tokens,
        )

    def attention_of(self, node: fx.Node) -> str:
        """The attention module whose logits or weights a node gives, "" where it gives neither."""
        for name, weights in self.nodes["attention"].items():
            dropped = node in weights.users and node is not self.nodes["heads"][name]
            if node is weights or dropped or node in weights.all_input_nodes:
                return name
        return ""

    def _layout(self, node: fx.Node, role: str, input_size: tuple[int, ...]) -> Layout:
        value = node.meta[VALUE]
        if value.shape[0] != PROBE:
            return "windows"
        if value.ndim == 4:
            if role == "attention" or self.attention_of(node):
                return "attention"
            if role == "heads":
                return "other"
            last = getattr(self.model, "output_fmt", "NCHW") == "NHWC"
            return _map_layout(tuple(value.shape[1:]), input_size, last=last)
        named: dict[int, Layout] = {2: "vector", 3: "tokens"}
        return named.get(value.ndim, "other")

    def _grid(
        self, shape: tuple[int, ...], role: str, layout: Layout, input_size: tuple[int, ...]
    ) -> tuple[int, tuple[int, int] | None]:
        """Prefix tokens and grid of a token axis, where the model's patch embedding explains its length."""
        axis = {"attention": -1, "tokens": 0, "other": 1 if role == "heads" else None}.get(layout)
        if axis is None:
            return 0, None
        prefix = int(getattr(self.model, "num_prefix_tokens", 0) or 0)
        for grid in _patch_grids(self.model, input_size):
            for first in (prefix, 0):
                if shape[axis] == first + math.prod(grid):
                    return first, grid
        return 0, None


def _map_layout(shape: tuple[int, ...], input_size: tuple[int, ...], *, last: bool) -> Layout:
    """Which axes of `[a, b, c]` are rows and columns: those in the proportion of the image, `last` in doubt."""
    height, width = input_size[1:]
    rows, cols, end = shape
    is_first, is_last = cols * width == end * height, rows * width == cols * height
    if is_first == is_last:
        off_first, off_last = abs(cols - end * height / width), abs(rows - cols * height / width)
        if min(off_first, off_last) > 1:  # a size that does not divide is rounded
            return "other"
        return "map_last" if last else "map"
    return "map_last" if is_last else "map"


def _patch_grids(model: nn.Module, input_size: tuple[int, ...]) -> list[tuple[int, int]]:
    """The grid of patches of images of this size, and the one that the model was built for."""
    found: list[tuple[int, int]] = []
    for module in model.modules():
        grid, patch = getattr(module, "grid_size", None), getattr(module, "patch_size", None)
        if not isinstance(grid, tuple) and module is not getattr(model, "patch_embed", None):
            continue
        size = (patch, patch) if isinstance(patch, int) else patch
        if isinstance(size, tuple) and len(size) == 2:
            found.append((math.ceil(input_size[1] / size[0]), math.ceil(input_size[2] / size[1])))
        if isinstance(grid, tuple) and len(grid) == 2:
            found.append((int(grid[0]), int(grid[1])))
        break
    return found


def sites_of(
    skeleton: nn.Module, input_size: tuple[int, ...], *, unfuse: frozenset[str] | None = None
) -> Sites:
    """Find the sites of a model.

    Args:
        skeleton: The model on the meta device.
        input_size: `(channels, height, width)` of the images that it will see.
        unfuse: Attention modules whose weights must be nodes; None un-fuses all.

    Raises:
        StudyError: It cannot be traced (VD301), or does not take such images (VD233).
    """
    traced = trace(skeleton, unfuse=unfuse)
    functionalise(traced.graph, dict(skeleton.named_modules()))
    propagate(skeleton, traced.graph, input_size)
    return _sites(skeleton, settled(traced))


def same_sites(model: nn.Module, of: Sites, *, unfuse: frozenset[str] | None = None) -> Sites:
    """The sites of the model with its weights, annotated as its skeleton's are."""
    traced = trace(model, unfuse=unfuse)
    functionalise(traced.graph, dict(model.named_modules()))
    copy_annotations(of.traced.graph, traced.graph)
    return _sites(model, settled(traced))


def _sites(model: nn.Module, traced: Traced) -> Sites:
    units = {unit.name: unit for unit in find_units(traced.graph, model)}
    attention, heads = _attention(traced.graph)
    nodes: dict[str, dict[str, fx.Node]] = {
        "output": {name: node for name, node in traced.outputs.items() if name and _is_tensor(node)},
        "stream": {name: unit.add for name, unit in units.items()},
        "branch": {name: unit.branch for name, unit in units.items()},
        "skip": {name: unit.skip for name, unit in units.items()},
        "attention": attention,
        "heads": heads,
        "input": {
            name: traced.inputs[name]
            for name in traced.outputs
            if name and name in traced.inputs and _is_tensor(traced.inputs[name])
        },
    }
    return Sites(model, traced, units, nodes, _depths(traced.graph, [unit.add for unit in units.values()]))


def _is_tensor(node: fx.Node) -> bool:
    value = node.meta.get(VALUE)
    return isinstance(value, torch.Tensor) and value.is_floating_point() and value.ndim > 1


def _attention(graph: fx.Graph) -> tuple[dict[str, fx.Node], dict[str, fx.Node]]:
    """Softmax weights that multiply values, and the product, by the module that owns them."""
    weights: dict[str, fx.Node] = {}
    outputs: dict[str, fx.Node] = {}
    for node in graph.nodes:
        if node.target is F.scaled_dot_product_attention:
            outputs[owner(node)] = node
        if not (_is_softmax(node) and _is_tensor(node) and node.meta[VALUE].ndim == 4):
            continue
        product = next(_products(node), None)
        if product is not None:
            weights[owner(node)], outputs[owner(node)] = node, product
    return weights, outputs


def _is_softmax(node: fx.Node) -> bool:
    modules = node.meta.get("nn_module_stack") or {}
    if node.op == "call_module":
        return bool(modules) and str(list(modules.values())[-1][-1]).rpartition(".")[2].startswith("Softmax")
    return node.op in ("call_function", "call_method") and node.target in SOFTMAX


def _products(node: fx.Node) -> Iterator[fx.Node]:
    """Matrix products that use a node, possibly through dropout."""
    for user in node.users:
        if user.op in ("call_function", "call_method") and user.target in MATMULS and user.args[0] is node:
            yield user
        elif user.op == "call_module" or getattr(user.target, "__name__", "") == "dropout":
            yield from (product for product in user.users if product.target in MATMULS)


def _depths(graph: fx.Graph, adds: list[fx.Node]) -> dict[fx.Node, float]:
    """For each node, the share of the model's residual adds that it has behind it (of its nodes, without any)."""
    bits = {add: 1 << i for i, add in enumerate(adds)}
    behind: dict[fx.Node, int] = {}
    depths: dict[fx.Node, float] = {}
    last = max(1, len(graph.nodes) - 1)
    for position, node in enumerate(graph.nodes):
        mask = bits.get(node, 0)
        for source in node.all_input_nodes:
            mask |= behind[source]
        behind[node] = mask
        depths[node] = mask.bit_count() / len(adds) if adds else position / last
    return depths


def describe(sites: Sites, role: str, names: list[str]) -> list[dict[str, Any]]:
    """Rows for `vitdsl sites`: name, role, shape of one image's tensor, what produced it."""
    rows = []
    for name in names:
        node = sites.nodes[role][name]
        value = node.meta[VALUE]
        rows.append(
            {
                "site": name,
                "role": role,
                "shape": list(value.shape[1:]) if value.shape[0] == PROBE else None,
                "depth": round(sites.depth(name, role), 4),
                "kind": sites.units[name].kind if name in sites.units else _what(sites.model, name),
            }
        )
    return rows


def _what(model: nn.Module, name: str) -> str:
    return type(model.get_submodule(name.partition(":")[0])).__name__
