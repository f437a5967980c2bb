"""How the maps of a model lie in memory: channels last where most of its work is in convolutions, on the CPU.

Convolutions on the CPU are a fifth to a third faster so. Numbers differ by the rounding of sums in another order
(1e-6 of the largest output), which the trust checks bound. Does not own what a metric reads: sites have the same shapes
and the same order of axes.
"""

import torch
from torch import nn
from torch.nn import functional as F

from vitdsl.runtime.graph.propagate import FLOPS
from vitdsl.runtime.graph.sites import Sites
from vitdsl.runtime.run.compile import Compiled

SHARE = 0.5
"""Share of a model's work in convolutions from which on its maps lie channels last."""
CONVOLUTIONS = {F.conv2d, torch.conv2d}


def channels_last(sites: Sites, device: torch.device) -> bool:
    """Whether a model's maps should lie channels last on a device."""
    if device.type != "cpu":
        return False
    graph, model = sites.traced.graph, sites.model
    whole = convolved = 0.0
    for node in graph.nodes:
        work = node.meta.get(FLOPS, 0.0)
        whole += work
        if node.target in CONVOLUTIONS or (
            node.op == "call_module" and isinstance(model.get_submodule(str(node.target)), nn.Conv2d)
        ):
            convolved += work
    return convolved > SHARE * whole


def lay_out(compiled: Compiled, last: bool) -> None:
    """Let the weights of a model's convolutions, folded ones too, lie channels last or as they were made."""
    compiled.channels_last = last
    layout = torch.channels_last if last else torch.contiguous_format
    for one in (*compiled.module.modules(), *(compiled.folds or {}).values()):
        if isinstance(one, nn.Conv2d):
            one.weight.data = one.weight.data.contiguous(memory_format=layout)
