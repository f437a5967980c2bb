"""The sites of a model: which tensors of its graph have a name, in which roles, and what their axes mean.

A name is a module's path or a unit's name; a role says which tensor of it: `output` and `input` of a module;
`stream`, `branch` and `skip` of a residual unit; `attention` (softmax weights) and `heads` (each head's output before
the projection) of an attention module. The model as a whole has `image`, `embedding`, `position` and `pool` (`whole`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import get_args

import torch
from torch import fx, nn

from vitdsl.dsl.diagnostics import StudyError
from vitdsl.dsl.field_types import Role
from vitdsl.runtime.graph.attention import OF_NO_IMAGE, Attention, Weights, attention_of
from vitdsl.runtime.graph.axes import Axes
from vitdsl.runtime.graph.edit import Place
from vitdsl.runtime.graph.fixed import mark_fixed
from vitdsl.runtime.graph.flow import AXES, SUMS
from vitdsl.runtime.graph.functional import functionalise, settled
from vitdsl.runtime.graph.meaning import Meaning, agreed, plain
from vitdsl.runtime.graph.propagate import VALUE, propagate
from vitdsl.runtime.graph.reading import Tokens, grid_of_map, layout_of, tokens_of
from vitdsl.runtime.graph.site import Layout, Site
from vitdsl.runtime.graph.trace import Traced, trace
from vitdsl.runtime.graph.unfollowed import Real, Unfollowed, by_hooks
from vitdsl.runtime.graph.unit_names import owner
from vitdsl.runtime.graph.units import Unit, find_units
from vitdsl.runtime.graph.whole import is_rotary, pool_of, sees_position, whole_nodes

ROLES: tuple[str, ...] = get_args(Role)
UNIT_ROLES = ("stream", "branch", "skip")


@dataclass(frozen=True)
class Sites:
    """Everything that can be named in one model's graph.

    Attributes:
        model: The traced model.
        traced: Its graph, free of in-place operations.
        units: Its residual units by name.
        nodes: Role to name to node, names in order of execution.
        input_size: `(channels, height, width)` of the images.
        attention: Its attention, and what of it is hidden.
        unfuse: The attention modules whose weights are nodes; None for all.
        unfollowed: Of a model that is read by hooks: why.
    """

    model: nn.Module
    traced: Traced
    units: dict[str, Unit]
    nodes: Mapping[str, Mapping[str, fx.Node]]
    input_size: tuple[int, ...]
    attention: Attention
    unfuse: frozenset[str] | None
    _depths: dict[fx.Node, float] = field(repr=False)
    unfollowed: Unfollowed | None = None

    @property
    def hidden_sums(self) -> dict[str, int]:
        """Modules that are one node, with how many sums inside that may be residual adds."""
        nodes = self.traced.graph.nodes
        return {str(node.target): node.meta[SUMS] for node in nodes if SUMS in node.meta}

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
        shape, layout, there = self._read(node, name, role)
        weights = self.attention.weights.get(name) if role == "attention" else None
        return Site(
            name=name,
            role=role,
            shape=shape,
            layout=layout,
            depth=self.depth(name, role) if name else self._depths[node],
            prefix=there.prefix,
            class_token=there.class_token,
            grid=there.grid,
            patch=there.patch,
            tokens=tokens,
            pixels=(self.input_size[1], self.input_size[2]),
            fixed=role == "position",
            kind=weights.kind if weights else "",
            shares=weights.shares if weights else True,
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
        for name, weights in self.attention.weights.items():
            if node in weights.steps:
                return name
        return ""

    def _read(self, node: fx.Node, name: str, role: str) -> tuple[tuple[int, ...], Layout, Tokens]:
        """Shape, layout and tokens of a site."""
        shape = tuple(node.meta[VALUE].shape[1:])
        if role == "attention":
            return _read_weights(self.attention.weights[name], shape)
        if role == "position":
            return self._position(node, name)
        if role in UNIT_ROLES:
            node = self.units[name].add
        axes = axes_of(node)
        layout = layout_of(axes)
        if role == "pool":
            pool = pool_of(node)
            assert pool is not None
            source = axes_of(pool.source)
            return shape, layout, _tokens(source, layout_of(source))
        if role == "heads":
            return shape, "other" if layout != "windows" else layout, tokens_of(axes[-2])
        if layout == "attention":
            return shape, layout, tokens_of(axes[-1])
        return shape, layout, _tokens(axes, layout)

    def _position(self, node: fx.Node, name: str) -> tuple[tuple[int, ...], Layout, Tokens]:
        """Those of a position embedding: of what it is added to, as far as it goes."""
        (reader, *_) = sees_position(node, name)
        axes = axes_of(reader)
        shape = tuple(node.meta[VALUE].shape[-(len(axes) - 1) :])
        if is_rotary(node):
            return shape, "other", Tokens()
        if name in self.attention.weights:
            weights = self.attention.weights[name]
            keys = tokens_of(weights.keys)
            there = Tokens(keys.prefix) if weights.kind else _read_weights(weights, ())[2]
            return tuple(node.meta[VALUE].shape[-3:]), "attention", there
        layout = layout_of(axes)
        return shape, layout, _tokens(axes, layout)


def axes_of(node: fx.Node) -> Axes:
    """What the axes of a node's tensor mean."""
    meaning: Meaning = node.meta[AXES]
    return meaning.axes


def _tokens(axes: Axes, layout: Layout) -> Tokens:
    """The tokens of a tensor of some layout; a map's grid is its own."""
    if layout in ("map", "map_last"):
        rows, cols = axes[2:4] if layout == "map" else axes[1:3]
        return Tokens(0, False, *grid_of_map(rows, cols))
    return tokens_of(axes[1]) if layout == "tokens" else Tokens(0)


def _read_weights(weights: Weights, shape: tuple[int, ...]) -> tuple[tuple[int, ...], Layout, Tokens]:
    """Those of attention weights: the tokens are its keys; their grid is known where the queries are the same."""
    if weights.kind in OF_NO_IMAGE:
        return shape, "windows", Tokens()
    found = tokens_of(weights.keys)
    if agreed([weights.queries, weights.keys]) != plain(weights.queries):
        found = Tokens(found.prefix)
    return weights.shape, "attention", found


def _inside(node: fx.Node, path: str) -> bool:
    """Whether a node belongs to a module: to its forward, or to that of a module in it; or is the module's call."""
    stack = [entry.partition("@")[0] for entry in (node.meta.get("nn_module_stack") or ())]
    return path in stack or (node.op == "call_module" and str(node.target) == path)


def sites_of(
    skeleton: nn.Module,
    input_size: tuple[int, ...],
    *,
    unfuse: frozenset[str] | None = None,
    real: Real | None = None,
) -> Sites:
    """Find the sites of a model.

    Args:
        skeleton: The model on the meta device.
        input_size: `(channels, height, width)` of the images that it will see.
        unfuse: Attention modules whose weights must be nodes; None un-fuses all.
        real: Gives the model with numbers: where its program cannot be followed, it is read by hooks as it runs. None
            refuses such a model.

    Raises:
        StudyError: It cannot be traced (VD301), or does not take such images (VD233).
    """
    unfollowed = None
    try:
        traced = trace(skeleton, input_size, unfuse=unfuse)
        functionalise(traced.graph, dict(skeleton.named_modules()))
        propagate(skeleton, traced.graph, input_size)
        traced = settled(traced)
    except StudyError as error:
        if real is None or error.diagnostics[0].code != "VD301":
            raise
        traced, unfollowed = by_hooks(real(), input_size, error)
    return replace(_sites(skeleton, traced, tuple(input_size), unfuse), unfollowed=unfollowed)


def same_sites(model: nn.Module, of: Sites) -> Sites:
    """The sites of the model with its weights: its skeleton's, for a graph names modules and holds none."""
    return replace(of, model=model)


def _sites(
    model: nn.Module, traced: Traced, input_size: tuple[int, ...], unfuse: frozenset[str] | None
) -> Sites:
    mark_fixed(traced.graph, model)
    units = {unit.name: unit for unit in find_units(traced.graph, model)}
    kinds = {path: type(module).__name__ for path, module in model.named_modules()}
    attention = attention_of(traced.graph, kinds)
    heads = {name: one.product for name, one in attention.weights.items() if one.product is not None}
    nodes: dict[str, dict[str, fx.Node]] = {
        "output": {name: node for name, node in traced.outputs.items() if name and _is_tensor(node)},
        "stream": {name: unit.add for name, unit in units.items()},
        "branch": {name: unit.branch for name, unit in units.items()},
        "skip": {name: unit.skip for name, unit in units.items()},
        "attention": {name: one.node for name, one in attention.weights.items()},
        "heads": dict(attention.fused) | heads,
        "input": {
            name: traced.inputs[name]
            for name in traced.outputs
            if name and name in traced.inputs and _is_tensor(traced.inputs[name])
        },
    }
    nodes |= whole_nodes(traced, model, list(units.values()), nodes["attention"])
    depths = _depths(traced.graph, [unit.add for unit in units.values()])
    return Sites(model, traced, units, nodes, input_size, attention, unfuse, depths)


def _is_tensor(node: fx.Node) -> bool:
    value = node.meta.get(VALUE)
    return isinstance(value, torch.Tensor) and value.is_floating_point() and value.ndim > 1


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
