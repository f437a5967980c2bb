"""No tensor is ever overwritten: in-place operations of a traced graph become new values.

A tap that reads a tensor which a later operation overwrites reads the wrong numbers, and lanes that share a prefix
would overwrite one another's. Here every in-place operation is replaced by its pure twin, and what comes after reads
the new value, as the program meant. Writing through a view of a tensor that is read again is refused.
"""

import copy
import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import fx, nn

from vitdsl.dsl.diagnostics import Diagnostic, StudyError

OPERATORS: dict[Callable[..., Any], Callable[..., Any]] = {
    getattr(operator, f"i{name}"): getattr(operator, name)
    for name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul")
} | {
    operator.iand: operator.and_,
    operator.ior: operator.or_,
    operator.ixor: operator.xor,
}
VIEWS = {
    "view", "reshape", "flatten", "unflatten", "permute", "transpose", "squeeze", "unsqueeze", "chunk", "split",
    "unbind", "expand", "expand_as", "view_as", "narrow", "select", "t", "contiguous", "movedim", "swapaxes",
    "getitem", "getattr", "detach", "tensor_split", "diagonal",
}  # fmt: skip
OUT_OF_PLACE = "out_of_place"


def set_item(tensor: torch.Tensor, index: Any, value: Any) -> torch.Tensor:
    """`tensor` with `tensor[index] = value`, as a new tensor."""
    result = tensor.clone()
    result[index] = value
    return result


def functionalise(graph: fx.Graph, modules: dict[str, nn.Module]) -> None:
    """Rewrite every in-place operation of a graph, in place (of the graph only).

    Args:
        graph: A traced graph.
        modules: The model's modules by path.

    Raises:
        StudyError: A tensor is written through a view while the other is read again (VD301).
    """
    order = {node: position for position, node in enumerate(graph.nodes)}
    for node in list(graph.nodes):
        written = _written(node, modules)
        if written is None:
            continue
        _refuse_aliases(node, written, order)
        _make_pure(node)
        for user in list(written.users):
            if user is not node and order[user] > order[node]:
                user.replace_input_with(written, node)


def out_of_place(module: nn.Module) -> nn.Module:
    """A module's twin that writes to a new tensor; parameters are shared."""
    twin = copy.copy(module)
    twin.inplace = False  # type: ignore[assignment]
    return twin


def _written(node: fx.Node, modules: dict[str, nn.Module]) -> fx.Node | None:
    """The tensor that a node overwrites, or None."""
    if not node.args or not isinstance(node.args[0], fx.Node):
        return None
    target = node.target
    if node.op == "call_module":
        inplace = getattr(modules[str(target)], "inplace", False) is True
    elif node.op == "call_method":
        inplace = str(target).endswith("_") and not str(target).endswith("__")
    elif node.op == "call_function":
        name = getattr(target, "__name__", "")
        inplace = (
            target in OPERATORS
            or target is operator.setitem
            or node.kwargs.get("inplace") is True
            or (name.endswith("_") and not name.startswith("_") and hasattr(torch.Tensor, name))
        )
    else:
        inplace = False
    return node.args[0] if inplace else None


def _make_pure(node: fx.Node) -> None:
    target = node.target
    if node.op == "call_module":
        node.meta[OUT_OF_PLACE] = True
    elif target is operator.setitem:
        node.target = set_item
    elif callable(target) and target in OPERATORS:
        node.target = OPERATORS[target]
    elif node.kwargs.get("inplace") is True:
        node.update_kwarg("inplace", False)
    else:
        name = target if isinstance(target, str) else target.__name__
        pure = {"zero_": "zeros_like", "fill_": "full_like"}.get(name, name.removesuffix("_"))
        if not (hasattr(torch.Tensor, pure) or hasattr(torch, pure)) or name == "copy_":
            raise _refusal(node, f"`{name}` has no twin that leaves its operand alone")
        node.op = "call_method" if hasattr(torch.Tensor, pure) else "call_function"
        node.target = pure if hasattr(torch.Tensor, pure) else getattr(torch, pure)


def _refuse_aliases(node: fx.Node, written: fx.Node, order: dict[fx.Node, int]) -> None:
    aliases = _sources(written) | _views(written, before=order[node], order=order)
    for alias in aliases:
        if alias is not written and any(order[user] > order[node] for user in alias.users):
            raise _refusal(node, f"it overwrites `{written}` while its view `{alias}` is read again")


def _sources(node: fx.Node) -> set[fx.Node]:
    found: set[fx.Node] = set()
    while _is_view(node) and isinstance(node.args[0], fx.Node):
        node = node.args[0]
        found.add(node)
    return found


def _views(node: fx.Node, *, before: int, order: dict[fx.Node, int]) -> set[fx.Node]:
    found: set[fx.Node] = set()
    for user in node.users:
        if order[user] < before and _is_view(user) and user.args[0] is node and not _is_shape(user):
            found |= {user} | _views(user, before=before, order=order)
    return found


def _is_view(node: fx.Node) -> bool:
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    return node.op in ("call_method", "call_function") and name in VIEWS


def _is_shape(node: fx.Node) -> bool:
    return node.target is getattr


def _refusal(node: fx.Node, why: str) -> StudyError:
    return StudyError(
        Diagnostic(
            "VD301",
            f"the model's graph cannot be made free of in-place operations at `{node}`: {why}",
            help=("please report the architecture; other models of the family may do",),
        )
    )
