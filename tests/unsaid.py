"""Families whose models do not say what their tokens are, in float64: by the graph as a run has it, and by plain hooks.

Owns the models, and how a site is read in both ways. Does not own what is expected of them.
"""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from timm.models.mvitv2 import MultiScaleVit, MultiScaleVitCfg
from timm.models.naflexvit import NaFlexVit, NaFlexVitCfg
from torch import Tensor, nn

from vitdsl.dsl.study import Model
from vitdsl.runtime.graph.edit import Lane
from vitdsl.runtime.graph.merge import merge
from vitdsl.runtime.graph.sites import Sites, same_sites, sites_of
from vitdsl.runtime.graph.tap import Tap
from vitdsl.runtime.metrics._base import Metric
from vitdsl.runtime.models.loading import load, skeleton
from vitdsl.runtime.models.preprocessing import preprocessing

MODELS = {
    "pit": Model(arch="pit_ti_224", weights="random", options={"img_size": 96}),
    "pit_distilled": Model(arch="pit_ti_distilled_224", weights="random", options={"img_size": 96}),
    "crossvit": Model(arch="crossvit_9_240", weights="random"),
    "visformer": Model(arch="visformer_tiny", weights="random"),
    "levit": Model(arch="levit_128s", weights="random"),
    "cait": Model(arch="cait_xxs24_224", weights="random", options={"img_size": 64, "depth": 2}),
    "coat": Model(arch="coat_lite_tiny", weights="random"),
    "hiera": Model(arch="hiera_tiny_224", weights="random"),
    "xcit": Model(arch="xcit_nano_12_p16_224", weights="random", options={"depth": 2}),
    "efficientformer": Model(arch="efficientformerv2_s0", weights="random"),
}
BUILT: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "naflex": (
        lambda: NaFlexVit(NaFlexVitCfg(depth=2, embed_dim=48, num_heads=3, class_token=False), num_classes=5),
        64,
    ),
    "naflex_registers": (
        lambda: NaFlexVit(
            NaFlexVitCfg(depth=2, embed_dim=48, num_heads=3, class_token=True, reg_tokens=3), num_classes=5
        ),
        96,
    ),
    "mvit": (
        lambda: MultiScaleVit(
            MultiScaleVitCfg(depths=(1, 1, 2, 1), embed_dim=(24, 48, 96, 192), use_cls_token=True),
            num_classes=5,
        ),
        224,
    ),
}
"""Those that no small architecture is registered for, and the side of their images."""


@cache
def read(name: str) -> Sites:
    """A model in float64 with weights far from those that make attention even."""
    if name in BUILT:
        build, side = BUILT[name]
        with torch.device("meta"):
            sites = sites_of(build().eval(), (3, side, side))
        torch.manual_seed(0)
        module = build().eval().double()
    else:
        there = skeleton(MODELS[name])
        sites = sites_of(there, preprocessing(there, MODELS[name]).input_size)
        module = load(MODELS[name], seed=0, folder=Path()).module.eval().double()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for path, parameter in module.named_parameters():
            if "token" in path or "bias" in path:
                parameter.normal_(generator=generator)
            elif parameter.ndim == 1:
                parameter.uniform_(0.5, 1.5, generator=generator)
            elif "q" in path.rpartition(".")[0].rpartition(".")[2]:
                parameter *= 3
    return same_sites(module, sites)


def images(sites: Sites) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    return torch.randn(2, *sites.input_size, generator=generator, dtype=torch.float64)


def measured(sites: Sites, kind: Metric, name: str) -> Tensor:
    """What a metric's reduction gives at a site, through the graph as a run has it."""
    roles = kind.inputs.roles
    site = sites.site(name, roles[0])
    assert kind.refuse(site) is None, kind.refuse(site)
    tap = Tap(tuple(sites.nodes[role][name] for role in roles), kind.reducer(), site)
    merged = merge(sites.model, sites.traced.graph, [Lane("baseline")], {"baseline": [tap]})
    with torch.inference_mode():
        found: Tensor = merged.module(images(sites))[merged.slots["baseline", tap]][0]
    return found


def seen(sites: Sites, hook: Callable[[list[Tensor]], list[Any]]) -> list[Tensor]:
    """What hooks on the plain model leave."""
    found: list[Tensor] = []
    fused = [one for one in sites.model.modules() if getattr(one, "fused_attn", False)]
    for one in fused:
        one.fused_attn = False  # type: ignore[assignment]
    handles = hook(found)
    try:
        with torch.inference_mode():
            sites.model(images(sites))
    finally:
        for handle in handles:
            handle.remove()
        for one in fused:
            one.fused_attn = True  # type: ignore[assignment]
    return found
