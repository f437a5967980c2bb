"""Names for what belongs to a model as a whole: its images, its embedded tokens, its position embeddings, its pool.

Owns how these are found in a graph. What cannot be told apart has no name. Does not own the names of modules and
residual units (`sites`).
"""

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import fx, nn

from vitdsl.runtime.graph.fixed import FIXED, fixed_operand, logits_of, of_images, turned
from vitdsl.runtime.graph.flow import AXES
from vitdsl.runtime.graph.propagate import PROBE, VALUE
from vitdsl.runtime.graph.reading import grid_of_map, layout_of, tokens_of
from vitdsl.runtime.graph.trace import Traced
from vitdsl.runtime.graph.unit_names import owner
from vitdsl.runtime.graph.units import Unit

IMAGES, EMBEDDING, POOL = "images", "embedding", "pool"
"""The names of the sites with the roles `image`, `embedding` and `pool`: there is one of each."""
WHOLE_ROLES = ("image", "embedding", "position", "pool")
AVERAGES = ("AdaptiveAvgPool2d", "FastAdaptiveAvgPool", "AdaptiveAvgPool1d")


@dataclass(frozen=True)
class Pool:
    """What makes one vector of an image's tokens.

    Attributes:
        node: The vector.
        source: The tokens or the map that it is made of.
        takes: The class token, the mean of tokens, or None: something else.
        first: The first token that is in a mean.
    """

    node: fx.Node
    source: fx.Node
    takes: Literal["cls", "gap"] | None
    first: int = 0


def whole_nodes(
    traced: Traced,
    model: nn.Module,
    units: Sequence[Unit],
    attention: Mapping[str, fx.Node],
) -> dict[str, dict[str, fx.Node]]:
    """The nodes of these roles by name.

    Args:
        traced: A propagated graph in which fixed tensors are marked.
        model: The traced model.
        units: Its residual units, in order.
        attention: Its softmax weights by name.
    """
    embedding = _embedding(traced, model, units)
    pool = pool_of(traced.output)
    return {
        "image": {IMAGES: traced.images},
        "embedding": {} if embedding is None else {EMBEDDING: embedding},
        "position": _positions(traced.graph, attention),
        "pool": {} if pool is None else {POOL: pool.node},
    }


def sees_position(node: fx.Node, name: str) -> frozenset[fx.Node]:
    """The nodes by which a position embedding meets the images: sums, and products where it is rotary.

    Args:
        node: The embedding.
        name: Its name; one that several attention modules share is meant as that module sees it.
    """
    readers = [user for user in node.users if _meets(user, node)]
    own = [user for user in readers if owner(user) == name]
    return frozenset(own or readers)


def is_rotary(node: fx.Node) -> bool:
    """Whether queries and keys are multiplied by a tensor."""
    return any(turned(user) is node for user in node.users)


def pool_of(output: fx.Node) -> Pool | None:
    """The pool behind a model's output, or behind its pool itself; None where no single vector is made of tokens."""
    node = output
    while True:
        sources = [one for one in node.all_input_nodes if of_images(one) and _shape(one) is not None]
        shape = _shape(node)
        if shape is None or len(shape) != 2 or len(sources) != 1:
            return None
        source = sources[0]
        inner = _shape(source)
        assert inner is not None
        if inner[0] != PROBE:
            return None
        if len(inner) == 2:
            node = source
            continue
        return _pool(node, source)


def _pool(node: fx.Node, source: fx.Node) -> Pool:
    made_by = node
    while not _averages(made_by):
        shape, sources = _shape(source), [one for one in source.all_input_nodes if of_images(one)]
        one_cell = shape is not None and len(shape) == 4 and (1, 1) in (shape[2:], shape[1:3])
        if not one_cell or len(sources) != 1 or _shape(sources[0]) is None:
            break
        made_by, source = source, sources[0]
    first = 0
    if source.target is operator.getitem and (start := _start(source.args[1])) is not None:
        (source,) = source.all_input_nodes
        first = start
    return Pool(node, source, _takes(made_by, source, first), first)


def _takes(node: fx.Node, source: fx.Node, first: int) -> Literal["cls", "gap"] | None:
    shape = _shape(source)
    assert shape is not None
    if node.target is operator.getitem and len(shape) == 3 and not first:
        return "cls" if shape[1] > 1 and node.args[1] == (slice(None), 0) else None
    if node.target in ("mean", torch.mean):
        given: Any = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else None)
        axes = {axis % len(shape) for axis in ((given,) if isinstance(given, int) else given or ())}
        means = ({1},) if len(shape) == 3 else ({1, 2}, {2, 3})
        return "gap" if axes in means else None
    return "gap" if _averages(node) else None


def _averages(node: fx.Node) -> bool:
    """Whether a node is the call of a module that averages a map."""
    kinds = node.meta.get("nn_module_stack") or {}
    kind = str(list(kinds.values())[-1][-1]).rpartition(".")[2].strip("'>") if kinds else ""
    return node.op == "call_module" and kind in AVERAGES


def _start(index: Any) -> int | None:
    """Where `[:, start:]` starts; None for other indices."""
    match index:
        case (slice(start=None, stop=None, step=None), slice(start=int(start), stop=None, step=None)):
            return start
    return None


def _embedding(traced: Traced, model: nn.Module, units: Sequence[Unit]) -> fx.Node | None:
    """The tokens as the first residual unit behind the patch embedding takes them."""
    path, found = patch_module(model)
    if found is None:
        return None
    inside = [
        unit for unit in units if not path or unit.name != path and not unit.name.startswith(f"{path}.")
    ]
    if not inside or inside[0].projected:
        return None
    given, taken = (_places(node) for node in (traced.outputs.get(path), inside[0].skip))
    return inside[0].skip if taken and (given is None or given == taken) else None


def _places(node: fx.Node | None) -> tuple[int, int] | None:
    """Rows and columns of a node's tokens or map."""
    meaning = node.meta.get(AXES) if node is not None else None
    if meaning is None:
        return None
    layout = layout_of(meaning.axes)
    if layout in ("map", "map_last"):
        return grid_of_map(*(meaning.axes[2:4] if layout == "map" else meaning.axes[1:3]))[0]
    return tokens_of(meaning.axes[1]).grid if layout == "tokens" else None


def patch_module(model: nn.Module) -> tuple[str, nn.Module | None]:
    """The module that cuts images into patches and its path, or `("", None)`."""
    for path, module in model.named_modules():
        if isinstance(getattr(module, "grid_size", None), tuple) or module is getattr(
            model, "patch_embed", None
        ):
            return path, module
    return "", None


def _positions(graph: fx.Graph, attention: Mapping[str, fx.Node]) -> dict[str, fx.Node]:
    """What is added to tokens or logits, or multiplies queries, position by position; in order of execution."""
    biases = {
        one.add: name
        for name, weights in attention.items()
        for one in logits_of(weights).added
        if one.kind == "learned"
    }
    on_logits = {one.add for weights in attention.values() for one in logits_of(weights).added}
    found: dict[str, fx.Node] = {}
    for node in graph.nodes:
        added = fixed_operand(node)
        if node in biases:
            assert added is not None
            found.setdefault(biases[node], added.operand)
        elif added is not None and node not in on_logits and _varies(added.operand, node):
            name = _origin(added.operand)
            while found.get(name, added.operand) is not added.operand:
                name = _next(name)
            found[name] = added.operand
        elif (factor := turned(node)) is not None and factor not in found.values():
            found.setdefault(owner(node), factor)
    return found


def _varies(operand: fx.Node, result: fx.Node) -> bool:
    """Whether what is added to tokens or a map differs between positions."""
    shape, given = _shape(result), _shape(operand)
    if shape is None or given is None or shape[0] != PROBE or len(shape) not in (3, 4):
        return False
    return given[-(len(shape) - 1) :] == shape[1:] and shape[1] > 1


def _origin(node: fx.Node) -> str:
    """The parameter, buffer or module that a fixed tensor comes from."""
    while node.op not in ("get_attr", "call_module") and node.all_input_nodes:
        sources = [one for one in node.all_input_nodes if FIXED in one.meta]
        if not sources:
            break
        learned = [one for one in sources if one.meta[FIXED] == "learned"]
        node = (learned or sources)[0]
    return str(node.target) if node.op in ("get_attr", "call_module") else node.name


def _next(name: str) -> str:
    base, _, count = name.partition(":")
    return f"{base}:{int(count or 0) + 1}"


def _meets(user: fx.Node, node: fx.Node) -> bool:
    added = fixed_operand(user)
    return (added is not None and added.operand is node) or turned(user) is node


def _shape(node: fx.Node) -> tuple[int, ...] | None:
    value = node.meta.get(VALUE)
    return tuple(value.shape) if isinstance(value, torch.Tensor) else None
