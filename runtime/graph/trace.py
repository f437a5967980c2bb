"""From a model to a graph: symbolic tracing that remembers which node each module returned.

Owns the names: a module's path is the name of what it returned. A module that is called again gets `path:1`,
`path:2`. Uses timm's own lists of what must stay whole. Attention can be un-fused, module by module, so that its
weights become a node; the model itself is left as it was. Does not own: in-place operations (`functional`), shapes
(`propagate`), roles (`sites`).
"""

import inspect
import operator
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from timm.layers import get_notrace_functions, get_notrace_modules
from torch import fx, nn

from vitdsl.dsl.diagnostics import Diagnostic, StudyError
from vitdsl.runtime.graph.undisturbed import undisturbed

FUSED = "fused_attn"
CONSTANT = "constant"
"""In the meta of a node: a tensor that is neither a parameter nor a buffer, made while tracing."""
TRACEABLE = ("NormFreeBlock",)
"""Leaves of timm's that are ones only since fx drops in-place operations, which `functionalise` keeps."""
POSITION = "position"
"""In `node.meta`: how many nodes were traced before it."""


@dataclass(frozen=True)
class Traced:
    """A model's graph.

    Attributes:
        graph: One placeholder, the images; one output.
        outputs: Module path to the node that the module returned, in order of execution.
        inputs: Module path to the node of its first tensor argument.
        when: For each role and path of these, how many nodes had been traced when it was seen.
    """

    graph: fx.Graph
    outputs: dict[str, fx.Node]
    inputs: dict[str, fx.Node]
    when: dict[tuple[str, str], int]

    @property
    def images(self) -> fx.Node:
        """The node of the batch of images."""
        found = next(iter(self.graph.find_nodes(op="placeholder")))
        assert isinstance(found, fx.Node)
        return found

    @property
    def output(self) -> fx.Node:
        """The node of the model's own output."""
        (result,) = (node for node in self.graph.nodes if node.op == "output")
        value = result.args[0]
        assert isinstance(value, fx.Node)
        return value


class Augmented(fx.Proxy):
    """A traced value whose `+=` stays one, so that other names of the tensor see the sum, as in the program."""


def _augmented(target: Callable[..., Any]) -> Callable[[fx.Proxy, Any], fx.Proxy]:
    return lambda self, other: self.tracer.create_proxy("call_function", target, (self, other), {})


for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and", "or", "xor"):
    setattr(Augmented, f"__i{_name}__", _augmented(getattr(operator, f"i{_name}")))


class PathTracer(fx.Tracer):
    """A tracer that keeps timm's leaves whole and records what each module took and returned."""

    def __init__(self) -> None:
        super().__init__(autowrap_functions=tuple(get_notrace_functions()))
        self.leaves = tuple(kind for kind in get_notrace_modules() if kind.__name__ not in TRACEABLE)
        self.outputs: dict[str, fx.Node] = {}
        self.inputs: dict[str, fx.Node] = {}
        self.when: dict[tuple[str, str], int] = {}
        self.names: dict[int, str] = {}

    def proxy(self, node: fx.Node) -> fx.Proxy:
        """A value of the program that is being traced."""
        return Augmented(node, self)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        """A module's attribute: parameters become nodes, found by a table and not by a walk over all of them."""
        if not isinstance(attr_val, nn.Parameter):
            return super().getattr(attr, attr_val, parameter_proxy_cache)
        if not self.names:
            self.names = {id(parameter): name for name, parameter in self.root.named_parameters()}
        name = self.names.get(id(attr_val))
        if name is None:
            return attr_val
        if name not in parameter_proxy_cache:
            parameter_proxy_cache[name] = self.create_proxy("get_attr", name, (), {})
        return parameter_proxy_cache[name]

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Whether a module becomes one node."""
        return isinstance(m, self.leaves) or super().is_leaf_module(m, module_qualified_name)

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Trace a module's call and record it under its path."""
        path, calls = self.path_of_module(m), 0
        name = path
        while name in self.inputs or name in self.outputs:
            calls += 1
            name = f"{path}:{calls}"
        given = [value.node for value in args if isinstance(value, fx.Proxy)]
        if given:
            self.inputs[name] = given[0]
            self.when["input", name] = len(self.graph.nodes)
        result = super().call_module(m, forward, args, kwargs)
        if isinstance(result, fx.Proxy):
            self.outputs[name] = result.node
            self.when["output", name] = len(self.graph.nodes)
        return result


def trace(model: nn.Module, *, unfuse: Collection[str] | None = None) -> Traced:
    """Trace a model in evaluation mode.

    Args:
        model: Any module whose first argument is the batch of images; other arguments keep their defaults.
        unfuse: Paths of attention modules whose weights must be nodes; None un-fuses all that can be.

    Returns:
        Its graph and what each module returned.

    Raises:
        StudyError: It cannot be traced (VD301), with the reason.
    """
    tracer = PathTracer()
    before = set(vars(model))
    try:
        with undisturbed(model), unfused(model, unfuse):
            graph = tracer.trace(model, concrete_args=_defaults(model))
            constants = {name: getattr(model, name) for name in set(vars(model)) - before}
    except Exception as error:
        reason = str(error).strip().splitlines() or [""]
        raise StudyError(
            Diagnostic(
                "VD301",
                f"`{type(model).__name__}` cannot be traced: {type(error).__name__}: {reason[0][:200]}",
                help=(
                    "its Python code decides by the values of tensors; another model of the family may do",
                ),
                about=(("arch",),),
            )
        ) from error
    for position, node in enumerate(graph.nodes):
        node.meta[POSITION] = position
    _name_constants(graph, constants)
    _drop_constant_arguments(graph)
    outputs = dict(sorted(tracer.outputs.items(), key=lambda item: int(item[1].meta[POSITION])))
    traced = Traced(graph, outputs, tracer.inputs, tracer.when)
    result = next(node for node in graph.nodes if node.op == "output").args[0]
    if not isinstance(result, fx.Node):
        found = next((kind for kind in (dict, list, tuple) if isinstance(result, kind)), type(result))
        raise StudyError(
            Diagnostic(
                "VD301",
                f"`{type(model).__name__}` returns a {found.__name__}, not one tensor",
                help=(
                    "choose `options` with which it returns its logits or features alone, or wrap a module of your own",
                ),
                about=(("arch",),),
            )
        )
    return traced


def fusable(model: nn.Module) -> list[str]:
    """Paths of the modules whose attention is fused and can be un-fused."""
    return [path for path, module in model.named_modules() if getattr(module, FUSED, False)]


@contextmanager
def unfused(model: nn.Module, paths: Collection[str] | None) -> Iterator[None]:
    """Un-fuse attention in these modules (None: in all) for a while."""
    chosen = [model.get_submodule(path) for path in fusable(model) if paths is None or path in paths]
    try:
        for module in chosen:
            setattr(module, FUSED, False)
        yield
    finally:
        for module in chosen:
            setattr(module, FUSED, True)


def _defaults(model: nn.Module) -> dict[str, Any]:
    _, *others = inspect.signature(model.forward).parameters.values()
    return {p.name: p.default for p in others if p.default is not inspect.Parameter.empty}


def _name_constants(graph: fx.Graph, constants: dict[str, Any]) -> None:
    """Give such tensors to their nodes, under names that are the same in every trace of the model."""
    known: dict[str, str] = {}
    for node in graph.nodes:
        name = str(node.target)
        if node.op == "get_attr" and name in constants:
            node.meta[CONSTANT] = constants[name]
            node.target = known.setdefault(name, f"_constant_{len(known)}")


def _drop_constant_arguments(graph: fx.Graph) -> None:
    """Remove the placeholders of arguments that kept their defaults, and the assertions about them."""
    _, *constants = (node for node in graph.nodes if node.op == "placeholder")
    dead = set(constants)
    for node in graph.nodes:
        if node not in dead and any(argument in dead for argument in node.all_input_nodes):
            dead.add(node)
    for node in reversed(list(graph.nodes)):
        if node in dead:
            graph.erase_node(node)
