"""Whether what the program reads is what a plain forward computes: on numbers, for models that are not too large.

Owns three questions to a model with random weights. Are the attention weights that are read those of a softmax of the
same module, image by image? Do they sum to one where they are said to? Does a change of some pixels change the tokens
of that place the most, where the first residual unit begins, as its grid and prefix say?
"""

from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from vitdsl.runtime.graph.attention import OF_NO_IMAGE
from vitdsl.runtime.graph.propagate import modules_of
from vitdsl.runtime.graph.sites import Sites
from vitdsl.runtime.graph.tokens import as_tokens

SOFTMAX = (torch.softmax, F.softmax, Tensor.softmax)
CLOSE = 1e-4


class _Softmaxes(TorchFunctionMode):
    """Keeps what every softmax gives."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[Tensor] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func in SOFTMAX:
            self.found.append(result.detach().flatten().sort().values)
        return result


def wrong_readings(model: nn.Module, sites: Sites) -> list[str]:
    """What is read of a model and is not so; empty for a model that is read right.

    Args:
        model: With its weights, on the CPU.
        sites: Found on its skeleton.
    """
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, *sites.input_size, generator=generator)
    for module in model.modules():
        if hasattr(module, "fused_attn"):
            module.fused_attn = False
    with torch.inference_mode():
        with _Softmaxes() as taken:
            model(images)
        both, alone = _values(model, sites, images), _values(model, sites, images[:1])
        found = _attention(sites, taken.found, both, alone)
        return found + _places(model, sites, images, both)


def _attention(
    sites: Sites, taken: list[Tensor], both: dict[fx.Node, Tensor], alone: dict[fx.Node, Tensor]
) -> list[str]:
    wrong = []
    for name, weights in sites.attention.weights.items():
        value = both[weights.node]
        if weights.shares:
            if (value.sum(-1) - 1).abs().max() > CLOSE:
                wrong.append(f"{name}: its shares do not sum to one")
            numbers = value.flatten().sort().values
            same = [one for one in taken if one.shape == numbers.shape]
            if not any((one - numbers).abs().max() < CLOSE for one in same):
                wrong.append(f"{name}: no softmax gives its weights")
        if weights.kind not in OF_NO_IMAGE:
            per_image = weights.shape[0] * weights.shape[1] * weights.shape[2]
            if value.numel() != 2 * per_image:
                wrong.append(f"{name}: its weights are not those of each image")
            elif (value.reshape(2, -1)[0] - alone[weights.node].flatten()).abs().max() > CLOSE:
                wrong.append(f"{name}: the weights of an image depend on the others")
    return wrong


def _places(model: nn.Module, sites: Sites, images: Tensor, before: dict[fx.Node, Tensor]) -> list[str]:
    """Whether a change of pixels is largest where the first residual unit's grid has them, give or take a token."""
    if not sites.units:
        return []
    name = next(iter(sites.units))
    site = sites.site(name, "skip")
    if site.grid is None or site.patch is None or site.prefix is None or site.layout == "windows":
        return []
    wrong = []
    height, width = sites.input_size[1:]
    for row, col in ((0.3, 0.7), (0.8, 0.2)):
        y, x = int(row * height), int(col * width)
        changed = images.clone()
        changed[:, :, y : y + 4, x : x + 4] += 8
        node = sites.nodes["skip"][name]
        change = (_values(model, sites, changed)[node] - before[node])[:1]
        tokens = as_tokens(change, site)[0, site.prefix :].norm(dim=-1)
        if not tokens.any():
            continue  # as behind the norm of one feature alone
        at = divmod(int(tokens.argmax()), site.grid[1])
        wanted = (y + 2) / site.patch[0], (x + 2) / site.patch[1]
        if any(abs(one + 0.5 - two) > 1.6 for one, two in zip(at, wanted, strict=True)):
            wrong.append(f"{name}: pixels at {y}, {x} change token {at} of {site.grid} the most")
    return wrong


class _Keeps(fx.Interpreter):
    def __init__(self, module: fx.GraphModule, kept: set[fx.Node]) -> None:
        super().__init__(module)
        self.kept, self.values = kept, dict[fx.Node, Tensor]()

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if n in self.kept:
            self.values[n] = value.clone()
        return value


def _values(model: nn.Module, sites: Sites, images: Tensor) -> dict[fx.Node, Tensor]:
    """The values of the nodes that are asked about."""
    kept = {weights.node for weights in sites.attention.weights.values()} | set(sites.nodes["skip"].values())
    graph = sites.traced.graph
    runs = _Keeps(fx.GraphModule(modules_of(model, graph), graph), kept)
    runs.run(images)
    return runs.values
