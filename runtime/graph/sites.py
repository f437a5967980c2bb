"""The sites of a model: which tensors of its graph have a name, in which roles, and what their axes mean.

A name is a module's path or a unit's name; a role says which tensor of it: `output` and `input` of a module;
`stream`, `branch` and `skip` of a residual unit; `attention` (softmax weights) and `heads` (each head's output before
the projection) of an attention module. The model as a whole has `image`, `embedding`, `position` and `pool` (`whole`).
"""

import operator
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import get_args

import torch
from torch import fx, nn
from torch.nn import functional as F

from vitdsl.dsl.field_types import Role
from vitdsl.runtime.graph.anatomy import Anatomy, anatomy_of
from vitdsl.runtime.graph.edit import Place
from vitdsl.runtime.graph.fixed import mark_fixed
from vitdsl.runtime.graph.functional import functionalise, settled
from vitdsl.runtime.graph.propagate import PROBE, VALUE, propagate
from vitdsl.runtime.graph.site import Layout, Site
from vitdsl.runtime.graph.trace import Traced, trace
from vitdsl.runtime.graph.unit_names import owner
from vitdsl.runtime.graph.units import SOFTMAX, Unit, find_units
from vitdsl.runtime.graph.whole import is_rotary, pool_of, sees_position, whole_nodes

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
        anatomy: What its tokens and grid are.
        unfuse: The attention modules whose weights are nodes; None for all.
    """

    model: nn.Module
    traced: Traced
    units: dict[str, Unit]
    nodes: Mapping[str, Mapping[str, fx.Node]]
    anatomy: Anatomy
    unfuse: frozenset[str] | None
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

    def site(self, name: str, role: str, *, tokens: str | tuple[int, ...] = "all") -> Site:
        """The facts about a site that metrics and ablations need.

        Args:
            name: One of `names(role)`, or "" for the model's own output.
            role: Its role.
            tokens: Which tokens a layer selects, or an ablation changes.

        The prefix, class token and grid of a pool are those of the tokens that it is made of.
        """
        node = self.nodes[role][name] if name else self.traced.output
        shape, layout = tuple(node.meta[VALUE].shape[1:]), self._layout(node, role)
        if role == "position":
            shape, layout = self._position(node, name)
        prefix, grid = self._tokens(shape, role, layout)
        if role == "pool":
            prefix, grid = self._pooled(node)
        return Site(
            name=name,
            role=role,
            shape=shape,
            layout=layout,
            depth=self.depth(name, role) if name else self._depths[node],
            prefix=prefix,
            class_token=bool(prefix) and self.anatomy.class_token,
            grid=grid,
            patch=self.anatomy.patch(grid) if grid else None,
            tokens=tokens,
            pixels=(self.anatomy.input_size[1], self.anatomy.input_size[2]),
            fixed=role == "position",
        )

    def place(self, name: str, role: str, *, tokens: str | tuple[int, ...] = "all") -> Place:
        """Where an ablation acts: the tensor, as those see it whom the role speaks of.

        What a skip carries and what a branch adds is seen by their add; a module's input by the module; a position
        embedding by what adds it; every other role's tensor by all that read it.
        """
        node = self.nodes[role][name]
        readers: frozenset[fx.Node] = frozenset()
        if role in ("skip", "branch"):
            readers = frozenset({self.units[name].add})
        elif role == "input":
            readers = frozenset(user for user in node.users if _inside(user, name.partition(":")[0]))
        elif role == "position":
            readers = sees_position(node, name)
        return Place(node, readers, self.site(name, role, tokens=tokens), self)

    def attention_of(self, node: fx.Node) -> str:
        """The attention module whose logits or weights a node gives, "" where it gives neither."""
        for name, weights in self.nodes["attention"].items():
            dropped = node in weights.users and node is not self.nodes["heads"][name]
            if node is weights or dropped or node in weights.all_input_nodes:
                return name
        return ""

    def _layout(self, node: fx.Node, role: str) -> Layout:
        value = node.meta[VALUE]
        if value.shape[0] != PROBE:
            return "windows"
        if value.ndim == 4:
            if role == "attention" or self.attention_of(node):
                return "attention"
            if role == "heads":
                return "other"
            return _map_layout(tuple(value.shape[1:]), self.anatomy)
        named: dict[int, Layout] = {2: "vector", 3: "tokens"}
        return named.get(value.ndim, "other")

    def _position(self, node: fx.Node, name: str) -> tuple[tuple[int, ...], Layout]:
        """Shape and layout of a position embedding: those of what it is added to, as far as it goes."""
        (reader, *_) = sees_position(node, name)
        axes = reader.meta[VALUE].ndim - 1
        shape = tuple(node.meta[VALUE].shape[-axes:])
        if is_rotary(node):
            return shape, "other"
        if name in self.nodes["attention"]:
            return tuple(node.meta[VALUE].shape[-3:]), "attention"
        return shape, self._layout(reader, "output")

    def _pooled(self, node: fx.Node) -> tuple[int | None, tuple[int, int] | None]:
        pool = pool_of(node)
        assert pool is not None
        source = pool.source
        return self._tokens(tuple(source.meta[VALUE].shape[1:]), "output", self._layout(source, "output"))

    def _tokens(
        self, shape: tuple[int, ...], role: str, layout: Layout
    ) -> tuple[int | None, tuple[int, int] | None]:
        """Prefix tokens and grid of a tensor; None where they are not known."""
        if layout == "map":
            return 0, (shape[1], shape[2])
        if layout == "map_last":
            return 0, (shape[0], shape[1])
        axis = {"attention": -1, "tokens": 0, "other": 1 if role == "heads" else None}.get(layout)
        return (0, None) if axis is None else self.anatomy.tokens(shape[axis])


def _map_layout(shape: tuple[int, ...], anatomy: Anatomy) -> Layout:
    """Which axes of `[a, b, c]` are rows and columns: those in the proportion of the image; in doubt, the model's."""
    height, width = anatomy.input_size[1:]
    rows, cols, end = shape
    is_first, is_last = cols * width == end * height, rows * width == cols * height
    if is_first == is_last:
        off_first, off_last = abs(cols - end * height / width), abs(rows - cols * height / width)
        if min(off_first, off_last) > 1:  # a size that does not divide is rounded
            return "other"
        return "map_last" if anatomy.channels_last else "map"
    return "map_last" if is_last else "map"


def _inside(node: fx.Node, path: str) -> bool:
    """Whether a node belongs to a module: to its forward, or to that of a module in it; or is the module's call."""
    stack = [entry.partition("@")[0] for entry in (node.meta.get("nn_module_stack") or ())]
    return path in stack or (node.op == "call_module" and str(node.target) == path)


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
    traced = trace(skeleton, input_size, unfuse=unfuse)
    functionalise(traced.graph, dict(skeleton.named_modules()))
    propagate(skeleton, traced.graph, input_size)
    return _sites(skeleton, settled(traced), anatomy_of(skeleton, input_size), unfuse)


def same_sites(model: nn.Module, of: Sites) -> Sites:
    """The sites of the model with its weights: its skeleton's, for a graph names modules and holds none."""
    return replace(of, model=model)


def _sites(model: nn.Module, traced: Traced, anatomy: Anatomy, unfuse: frozenset[str] | None) -> Sites:
    mark_fixed(traced.graph, model)
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
    nodes |= whole_nodes(traced, model, list(units.values()), attention, anatomy)
    depths = _depths(traced.graph, [unit.add for unit in units.values()])
    return Sites(model, traced, units, nodes, anatomy, unfuse, depths)


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
