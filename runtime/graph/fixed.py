"""What a graph adds that does not depend on the images: position embeddings, attention biases and masks.

Leaves `fixed` in the meta of each tensor that is the same for every image: `learned` where it was computed from
parameters, `given` where it was not. Does not own which of these have a name (`whole`).
"""

import operator
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import fx, nn

from vitdsl.runtime.graph.propagate import VALUE
from vitdsl.runtime.graph.units import ADDS, PRODUCTS

FIXED = "fixed"
Fixed = Literal["learned", "given"]
MULTIPLY: set[object] = {"mul", torch.mul, operator.mul}
ADDING = {"maybe_add_mask"}
"""Functions of timm's that add their second argument, where there is one, to their first."""
HIDING = {
    "masked_fill", "masked_fill_", "masked_scatter", "where", "tril", "triu", "set_item", "index_fill", "topk",
    "masked_fill_with_neg_inf",
}  # fmt: skip
"""Operations that may hide keys from queries, other than by adding."""
VIEWING = {"view", "reshape", "contiguous", "flatten", "unflatten", "squeeze", "unsqueeze", "to", "float"}
"""Operations that keep the order of a tensor's values."""


@dataclass(frozen=True)
class Added:
    """An addition of something that is the same for every image.

    Attributes:
        add: The node of the sum.
        operand: The node of what is added.
        kind: Whether parameters are in it.
    """

    add: fx.Node
    operand: fx.Node
    kind: Fixed


@dataclass(frozen=True)
class Logits:
    """How an attention's logits come about, from the product of queries and keys to the softmax.

    Attributes:
        added: What is added on the way, in order.
        hidden: Whether keys may be hidden other than by adding.
        viewed: Whether what no parameter is in reaches the softmax with its values in order.
    """

    added: tuple[Added, ...]
    hidden: bool
    viewed: bool


def mark_fixed(graph: fx.Graph, model: nn.Module) -> None:
    """Note on every tensor of a propagated graph whether the images have a part in it.

    Args:
        graph: The graph.
        model: The model, for its parameters and modules.
    """
    parameters = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    modules = dict(model.named_modules())
    on_images: set[fx.Node] = set()
    for node in graph.nodes:
        sources = node.all_input_nodes
        if node.op == "placeholder" or _holds_tensor(node) and not on_images.isdisjoint(sources):
            on_images.add(node)
        elif node.op != "output" and _holds_tensor(node):
            learned = str(node.target) in parameters if node.op == "get_attr" else False
            if node.op == "call_module":
                learned = next(modules[str(node.target)].parameters(), None) is not None
            learned = learned or any(source.meta.get(FIXED) == "learned" for source in sources)
            node.meta[FIXED] = "learned" if learned else "given"


def fixed_operand(node: fx.Node) -> Added | None:
    """What a node adds to something of the images, where that is the same for every image."""
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    if node.op not in ("call_function", "call_method") or not (node.target in ADDS or name in ADDING):
        return None
    if FIXED in node.meta:
        return None
    operands = [one for one in (*node.args[:2], node.kwargs.get("other")) if isinstance(one, fx.Node)]
    fixed = [one for one in operands if FIXED in one.meta]
    if len(operands) != 2 or len(fixed) != 1:
        return None
    return Added(node, fixed[0], fixed[0].meta[FIXED])


def logits_of(weights: fx.Node) -> Logits:
    """How the logits come about whose softmax a node gives."""
    added: list[Added] = []
    hidden, viewed, plain = False, True, True
    pending, seen = [one for one in weights.all_input_nodes if of_images(one)], set[fx.Node]()
    while pending:
        node = pending.pop()
        if node in seen:
            continue
        seen.add(node)
        name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
        sources = [one for one in node.all_input_nodes if of_images(one)]
        found = fixed_operand(node)
        hidden = hidden or name in HIDING
        if found is not None:
            added.append(found)
            viewed = viewed and (plain or found.kind == "learned")
        elif node.target in PRODUCTS:
            continue
        elif name not in VIEWING:
            plain = False
        pending += sources
    return Logits(tuple(reversed(added)), hidden, viewed)


def of_images(node: fx.Node) -> bool:
    """Whether a node gives tensors in which the images have a part."""
    return FIXED not in node.meta and _holds_tensor(node)


def turned(node: fx.Node) -> fx.Node | None:
    """What a node multiplies queries or keys by, position by position, as rotary embeddings do; None for others."""
    result = node.meta.get(VALUE)
    if node.target not in MULTIPLY or not isinstance(result, torch.Tensor) or FIXED in node.meta:
        return None
    shape = result.shape
    if len(shape) < 4:
        return None
    for operand in _tensors(node):
        value = operand.meta[VALUE]
        if FIXED in operand.meta and value.ndim > 1 and value.shape[-2] == shape[-2] > 1 < value.shape[-1]:
            return operand
    return None


def _tensors(node: fx.Node) -> Iterator[fx.Node]:
    yield from (one for one in node.all_input_nodes if isinstance(one.meta.get(VALUE), torch.Tensor))


def _holds_tensor(node: fx.Node) -> bool:
    value: Any = node.meta.get(VALUE)
    return isinstance(value, torch.Tensor) or (
        isinstance(value, (tuple, list)) and any(isinstance(item, torch.Tensor) for item in value)
    )
