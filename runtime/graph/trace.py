"""From a model to a graph, for images of one size and any number of them.

Owns the names: a module's path is the name of what it returned. A module that is called again gets `path:1`,
`path:2`. Attention can be un-fused, module by module, so that its weights become a node; the model itself is left as
it was. Does not own: how a program is followed (`tracer`), in-place operations (`functional`), shapes (`propagate`),
roles (`sites`).
"""

import copy
import inspect
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn

from vitdsl.runtime.full import is_memory
from vitdsl.runtime.graph.batch import free_batch, free_counts
from vitdsl.runtime.graph.counts import BATCH
from vitdsl.runtime.graph.followed import SAMPLE
from vitdsl.runtime.graph.refusals import no_attribute, no_tensor, refusal
from vitdsl.runtime.graph.tracer import Tracer
from vitdsl.runtime.graph.undisturbed import undisturbed

FUSED = "fused_attn"
CONSTANT = "constant"
"""In the meta of a node: a tensor that is not a module's, such as one that its file holds."""
POSITION = "position"
"""In `node.meta`: how many nodes were traced before it."""
BATCHES = (13, 17)
"""The numbers of images that a program is followed with where one is not enough."""


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


def trace(model: nn.Module, input_size: tuple[int, ...], *, unfuse: Collection[str] | None = None) -> Traced:
    """Trace a model, in the mode that it is in, for images of one size and any number of them.

    Args:
        model: Any module whose first argument is the batch of images; other arguments keep their defaults.
        input_size: `(channels, height, width)` of one image.
        unfuse: Paths of attention modules whose weights must be nodes; None un-fuses all that can be.

    Returns:
        Its graph and what each module returned.

    Raises:
        StudyError: It cannot be traced (VD301), or does not take such images (VD233), with the reason.
    """
    model = on_meta(model)
    with unfused(model, unfuse):
        try:
            tracer, constants = _once(model, input_size) or _twice(model, input_size)
        except Exception as error:  # a model's program raises anything
            if is_memory(error):
                raise
            raise refusal(model, input_size, error) from error
    graph = tracer.graph
    for node in graph.nodes:
        node.meta.setdefault(POSITION, 0)
        node.meta.pop(SAMPLE, None)
    if any(tensor.is_meta for tensor in constants.values()):
        raise no_attribute(model)
    _name_constants(graph, constants)
    _drop_constant_arguments(graph)
    outputs = dict(sorted(tracer.outputs.items(), key=lambda item: int(item[1].meta[POSITION])))
    result = next(node for node in graph.nodes if node.op == "output").args[0]
    if not isinstance(result, fx.Node):
        raise no_tensor(model, result)
    return Traced(graph, outputs, tracer.inputs, tracer.when)


def _once(model: nn.Module, input_size: tuple[int, ...]) -> "tuple[Tracer, dict[str, Any]] | None":
    """A model's graph from one trace; None where that does not tell what other numbers of images give."""
    try:
        tracer, constants = _traced(model, (BATCH, *input_size))
    except Exception:  # the reason is that of a trace with few images
        return None
    if tracer.doubts.any:
        return None
    _number(tracer.graph)
    free_counts(tracer.graph)
    return tracer, constants


def _twice(model: nn.Module, input_size: tuple[int, ...]) -> tuple[Tracer, dict[str, Any]]:
    """A model's graph from two traces."""
    tracer, constants = _traced(model, (BATCHES[0], *input_size))
    other, _ = _traced(model, (BATCHES[1], *input_size))
    _number(tracer.graph)
    free_batch(tracer.graph, other.graph, BATCHES)
    return tracer, constants


def _number(graph: fx.Graph) -> None:
    for position, node in enumerate(graph.nodes):
        node.meta[POSITION] = position


def _traced(model: nn.Module, shape: tuple[int, ...]) -> tuple[Tracer, dict[str, Any]]:
    """A model's graph for some images, and the tensors that are not its own, which tracing hung on it."""
    before = set(vars(model))
    tracer = Tracer(torch.empty(shape, device="meta"))
    with undisturbed(model):
        graph = tracer.run(model, _defaults(model))
        read = {str(node.target) for node in graph.find_nodes(op="get_attr")}
        return tracer, {name: getattr(model, name) for name in read & (set(vars(model)) - before)}


def on_meta(model: nn.Module) -> nn.Module:
    """A model without numbers: itself, or a twin with empty tensors."""
    held = [*model.parameters(), *model.buffers()]
    held += [value for module in model.modules() for value in vars(module).values() if _is_tensor(value)]
    if all(tensor.is_meta for tensor in held):
        return model
    memo: dict[int, Any] = {}
    for tensor in held:
        empty = tensor.detach().to("meta")
        memo[id(tensor)] = nn.Parameter(empty, False) if isinstance(tensor, nn.Parameter) else empty
    return copy.deepcopy(model, memo)


def _is_tensor(value: Any) -> bool:
    return isinstance(value, torch.Tensor)


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
