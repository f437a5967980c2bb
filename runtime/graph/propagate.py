"""Shapes and work of every node, found on the meta device: nothing is computed and no memory is taken.

Leaves in `node.meta`: `value` (a meta tensor or whatever the node gives for a batch of PROBE images), `ops` (the calls
that it makes, with their work for one image) and `flops` (floating point operations for one image); and what its axes
mean (`flow`).
"""

from typing import Any

import torch
from torch import fx, nn
from torch.nn.functional import scaled_dot_product_attention

from vitdsl.runtime.graph.flow import Flow
from vitdsl.runtime.graph.functional import OUT_OF_PLACE, out_of_place
from vitdsl.runtime.graph.trace import CONSTANT
from vitdsl.runtime.graph.work import Work, one_product

PROBE = 13
"""Images in the probing batch: a size that no other axis is likely to have."""
VALUE = "value"
FLOPS = "flops"
OPS = "ops"


def modules_of(model: nn.Module, graph: fx.Graph) -> dict[str, Any]:
    """What the targets of a graph name: modules, out-of-place twins where marked, parameters, buffers, constants."""
    found: dict[str, Any] = {}
    for node in graph.nodes:
        target = str(node.target)
        if node.op == "call_module" and target not in found:
            module = model.get_submodule(target)
            found[target] = out_of_place(module) if node.meta.get(OUT_OF_PLACE) else module
        elif CONSTANT in node.meta:
            found[target] = node.meta[CONSTANT]
        elif node.op == "get_attr" and target not in found:
            path, _, name = target.rpartition(".")
            found[target] = getattr(model.get_submodule(path), name)
    return found


def propagate(model: nn.Module, graph: fx.Graph, input_size: tuple[int, ...]) -> None:
    """Annotate a graph with shapes and work.

    Args:
        model: The traced model, on the meta device.
        graph: Its graph, free of in-place operations.
        input_size: `(channels, height, width)` of one image.
    """
    model.requires_grad_(False)
    probe = torch.empty(PROBE, *input_size, device="meta")
    work = Work()
    with torch.no_grad(), work, Flow(model, probe) as flow:
        _Annotate(fx.GraphModule(modules_of(model, graph), graph), work, flow).run(probe)


def shape_of(node: fx.Node) -> tuple[int, ...] | None:
    """Shape of one image's tensor at a node; None where the node gives no tensor with the batch first."""
    value = node.meta.get(VALUE)
    if isinstance(value, torch.Tensor) and value.ndim > 0 and value.shape[0] == PROBE:
        return tuple(value.shape[1:])
    return None


class _Annotate(fx.Interpreter):
    def __init__(self, module: fx.GraphModule, work: Work, flow: Flow) -> None:
        super().__init__(module, garbage_collect_values=False)
        self.work, self.flow = work, flow
        self.places = {node: place for place, node in enumerate(module.graph.nodes)}

    def run_node(self, n: fx.Node) -> Any:
        """Run a node on the meta device and note what it gave and cost."""
        self.work.ops = []
        with self.flow.at(n, self.places[n]):
            value = super().run_node(n)
            n.meta[VALUE] = value
        ops = self.work.ops
        if n.target is scaled_dot_product_attention:  # without data it is several operations
            ops = [
                one_product(
                    ops, [one for one in self.fetch_args_kwargs_from_env(n)[0] if one is not None], value
                )
            ]
        n.meta[OPS] = tuple(op.times(1 / PROBE) for op in ops)
        n.meta[FLOPS] = sum(op.flops for op in n.meta[OPS])
        return value
