"""Five families of small models in float64, and the plain model with hooks: what ablations are held against.

Owns the models, and how their output is found without a graph. Does not own what a test hooks in.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vitdsl.dsl.study import Model
from vitdsl.runtime.ablations._base import Ablation
from vitdsl.runtime.graph.edit import Lane, Place, Rewrite
from vitdsl.testing.bench import BASELINE, EDITED, Bench, Values

TINY: dict[str, Any] = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "num_heads": 3, "depth": 3}
FAMILIES = {
    "vit": Model(arch="vit_tiny_patch16_224", options={**TINY, "num_classes": 5}, weights="random"),
    "swin": Model(
        arch="swin_tiny_patch4_window7_224",
        options={"img_size": 56, "depths": (2, 2), "embed_dim": 24, "num_heads": (2, 4), "num_classes": 5},
        weights="random",
    ),
    "resnet": Model(arch="resnet10t", options={"num_classes": 5}, weights="random", input_size=32),
    "convnext": Model(
        arch="convnext_atto",
        options={"ls_init_value": 0.5, "depths": (1, 1, 2, 1), "dims": (8, 12, 16, 20), "num_classes": 5},
        weights="random",
        input_size=32,
    ),
    "mixer": Model(arch="mixer_s32_224", options={"img_size": 64, "num_classes": 5}, weights="random"),
}
CLOSE = {"rtol": 1e-9, "atol": 1e-11}
Hook = Callable[[nn.Module, tuple[Any, ...], Tensor], Tensor | None]


@cache
def exact(name: str, images: int = 2) -> Bench:
    """A family's model on a bench in float64, with some images."""
    bench = Bench.of(FAMILIES[name], Path(), seed=0)
    bench.sites.model.double()
    shape = (images, *bench.images.shape[1:])
    drawn = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    bare = Bench(bench.sites, drawn, {})
    return Bench(bench.sites, drawn, bare.read([Lane(BASELINE)])[BASELINE])


def plain(bench: Bench, hooks: Mapping[str, Hook], images: Tensor | None = None) -> Tensor:
    """The plain model's output with forward hooks on some of its modules."""
    model = bench.sites.model
    handles = [model.get_submodule(path).register_forward_hook(hook) for path, hook in hooks.items()]
    try:
        with torch.inference_mode():
            found: Tensor = model(bench.images if images is None else images)
    finally:
        for handle in handles:
            handle.remove()
    return found


def places(bench: Bench, role: str, names: Sequence[str], tokens: Any = "all") -> list[Place]:
    """Some places, as a study names them."""
    return [bench.sites.place(name, role, tokens=tokens) for name in names]


def edits(bench: Bench, kind: Ablation, named: Sequence[Place]) -> list[tuple[Place, Rewrite]]:
    """What an ablation does where a study names some places, its fits made on the bench's images."""
    for place in named:
        assert kind.refuse_place(place) is None, kind.refuse_place(place)
    return [(one, bench.rewrite(kind, one)) for place in named for one in kind.places(place)]


def changed(bench: Bench, *some: tuple[Place, Rewrite]) -> Values:
    """Every tensor under some edits; what does not lie behind one of them is as in the intact model, bit for bit."""
    found = bench.read([Lane(BASELINE), Lane(EDITED, some)])
    behind = {node for place, _ in some for node in bench.behind(place)}
    for node, before in bench.intact.items():
        assert torch.equal(found[BASELINE][node], before), node
        assert node in behind or torch.equal(found[EDITED][node], before), node
    return found[EDITED]


def output(bench: Bench, *some: tuple[Place, Rewrite]) -> Tensor:
    """The model's output under some edits; it is not the intact model's."""
    node = bench.sites.traced.output
    found = changed(bench, *some)[node]
    assert float((found - bench.intact[node]).abs().max()) > 1e-7 * float(bench.intact[node].abs().max())
    return found
