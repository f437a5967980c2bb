"""No tensor is ever overwritten: in-place operations of a traced graph become new values.

A tap that reads a tensor which a later operation overwrites reads the wrong numbers, and lanes that share a prefix
would overwrite one another's. Here every in-place operation is replaced by its pure twin, and what comes after reads
the new value, as the program meant. Writing through a view of a tensor that is read again is refused.
"""

import copy
import operator
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional as F

from vitdsl.dsl.diagnostics import Diagnostic, StudyError
from vitdsl.runtime.graph.refusals import help_for
from vitdsl.runtime.graph.trace import POSITION, Traced

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
    "getitem", "getattr", "detach", "tensor_split", "diagonal", "unfold", "ravel", "swapdims", "moveaxis", "to",
    "float", "type_as", "dropout",
}  # fmt: skip
VIEW_MODULES = (nn.Identity, nn.Flatten, nn.Unflatten, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)
WITHOUT_TWIN = {"copy_", "random_", "normal_", "set_", "resize_", "resize_as_", "data_"}
SIZES = {"size", "shape", "ndim", "dim", "numel", "dtype", "device", "item"}
OUT_OF_PLACE = "out_of_place"
BECAME = "became"
"""In `node.meta` of an overwritten tensor: the node of what it holds from then on."""


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
    scalars = _scalars(graph)
    for node in list(graph.nodes):
        if isinstance(node.kwargs.get("out"), fx.Node):
            raise _refusal(node, modules[""], "it writes to the tensor given as `out`")
        written = _written(node, modules)
        if written is None or written in scalars:
            continue
        _refuse_aliases(node, written, order, modules)
        _make_pure(node, modules)
        written.meta[BECAME] = node
        for user in list(written.users):
            if user is not node and order[user] > order[node]:
                user.replace_input_with(written, node)


def settled(traced: Traced) -> Traced:
    """What each module took and returned, as the tensors were when it did, after `functionalise`."""

    def then(role: str, name: str, node: fx.Node) -> fx.Node:
        while BECAME in node.meta and node.meta[BECAME].meta[POSITION] < traced.when[role, name]:
            node = node.meta[BECAME]
        return node

    order = {node: position for position, node in enumerate(traced.graph.nodes)}
    outputs = {name: then("output", name, node) for name, node in traced.outputs.items()}
    inputs = {name: then("input", name, node) for name, node in traced.inputs.items()}
    outputs = dict(sorted(outputs.items(), key=lambda item: order[item[1]]))
    return replace(traced, outputs=outputs, inputs=inputs)


def out_of_place(module: nn.Module) -> nn.Module:
    """A module's twin that writes to a new tensor; parameters are shared."""
    twin = copy.copy(module)
    twin.inplace = False  # type: ignore[assignment]
    return twin


def _written(node: fx.Node, modules: dict[str, nn.Module]) -> fx.Node | None:
    """The tensor that a node overwrites, or None."""
    first = node.args[0] if node.args else node.kwargs.get("input")
    if not isinstance(first, fx.Node):
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
            or (name.endswith("_") and not name.startswith("_") and _lookup(name) is not None)
        )
    else:
        inplace = False
    return first if inplace else None


def _make_pure(node: fx.Node, modules: dict[str, nn.Module]) -> None:
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
        twin = _lookup(pure)
        if name in WITHOUT_TWIN or twin is None:
            raise _refusal(node, modules[""], f"`{name}` has no twin that leaves its operand alone")
        method = callable(getattr(torch.Tensor, pure, None))
        node.op = "call_method" if method else "call_function"
        node.target = pure if method else twin


def _lookup(name: str) -> Callable[..., Any] | None:
    """What PyTorch calls a method or function, wherever it keeps it."""
    found = (getattr(place, name, None) for place in (torch.Tensor, torch, F))
    return next((one for one in found if callable(one)), None)


def _scalars(graph: fx.Graph) -> set[fx.Node]:
    """Sizes and what is computed from sizes alone: adding to these in place makes new numbers."""
    found: set[fx.Node] = set()
    for node in graph.nodes:
        asked = node.args[1] if node.target is getattr else node.target
        plain = node.op == "call_function" and not str(getattr(node.target, "__module__", "")).startswith(
            "torch"
        )
        if asked in SIZES or (plain and node.all_input_nodes and found.issuperset(node.all_input_nodes)):
            found.add(node)
    return found


def _refuse_aliases(
    node: fx.Node, written: fx.Node, order: dict[fx.Node, int], modules: dict[str, nn.Module]
) -> None:
    """Refuse a write after which another view of the same memory is read."""
    whole = written
    while _is_view(whole, modules) and isinstance(whole.args[0], fx.Node):
        whole = whole.args[0]
    for alias in {whole} | _views(whole, order[node], order, modules):
        if alias is not written and any(order[user] > order[node] for user in alias.users):
            raise _refusal(
                node, modules[""], f"it overwrites `{written}` while its view `{alias}` is read again"
            )


def _views(
    node: fx.Node, before: int, order: dict[fx.Node, int], modules: dict[str, nn.Module]
) -> set[fx.Node]:
    found: set[fx.Node] = set()
    for user in node.users:
        if order[user] < before and _is_view(user, modules) and user.args[0] is node and not _is_shape(user):
            found |= {user} | _views(user, before, order, modules)
    return found


def _is_view(node: fx.Node, modules: dict[str, nn.Module]) -> bool:
    if not node.args:
        return False
    if node.op == "call_module":
        return isinstance(modules[str(node.target)], VIEW_MODULES)
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    return node.op in ("call_method", "call_function") and name in VIEWS


def _is_shape(node: fx.Node) -> bool:
    return node.target is getattr


def _refusal(node: fx.Node, model: nn.Module, why: str) -> StudyError:
    return StudyError(
        Diagnostic(
            "VD301",
            f"the model's graph cannot be made free of in-place operations at `{node}`: {why}",
            help=(
                help_for(
                    model,
                    "please report the architecture; other models of the family may do",
                    "write it without that in-place operation: `x = x + y` for `x += y`",
                ),
            ),
            about=(("arch",),),
        )
    )
