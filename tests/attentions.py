"""Attention of small models, with all kinds of prefix tokens and none: by the graph, and by plain hooks.

Shared by the tests of the metrics of attention. Does not own what these make of the weights.
"""

from pathlib import Path

import pytest
import torch
import xarray as xr
from torch import Tensor

from studies import bound, study
from vitdsl import testing
from vitdsl.dsl.diagnostics import StudyError
from vitdsl.dsl.study import Model
from vitdsl.runtime.graph.edit import Lane
from vitdsl.runtime.graph.merge import merge
from vitdsl.runtime.graph.site import Site
from vitdsl.runtime.graph.sites import same_sites, sites_of
from vitdsl.runtime.graph.tap import Tap
from vitdsl.runtime.metrics._base import Metric, Seen
from vitdsl.runtime.models.loading import load, skeleton
from vitdsl.runtime.run.statistics import Statistics, estimate
from vitdsl.testing.streams import cuts_of, empty_frame

SIZE = (32, 24)
OPTIONS = {"img_size": SIZE, "patch_size": 8, "embed_dim": 24, "num_heads": 3, "depth": 3, "num_classes": 5}
SWIN = {"img_size": 56, "depths": (2, 2), "embed_dim": 12, "num_heads": (2, 4)}
MODELS = {
    "vit": Model(arch="vit_tiny_patch16_224", options=OPTIONS, weights="random"),
    "deit": Model(arch="deit_tiny_distilled_patch16_224", options=OPTIONS, weights="random"),
    "registers": Model(arch="vit_small_patch14_reg4_dinov2", options=OPTIONS, weights="random"),
    "gap": Model(
        arch="vit_tiny_patch16_224",
        options={**OPTIONS, "class_token": False, "global_pool": "avg"},
        weights="random",
    ),
}
"""Grids of 4 x 3 patches, with 1, 2, 5 and 0 prefix tokens."""
PREFIX = {"vit": 1, "deit": 2, "registers": 5, "gap": 0}


def images_of(count: int) -> Tensor:
    """Images for the models, far enough from one another for their attention to differ."""
    return torch.randn(count, 3, *SIZE, generator=torch.Generator().manual_seed(1)) * 4


def module_of(name: str) -> torch.nn.Module:
    """The model, its queries, keys and prefix tokens large enough for attention not to be even."""
    module = load(MODELS[name], seed=0, folder=Path()).module.eval()
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for path, parameter in module.named_parameters():
            if path.endswith("qkv.weight"):
                parameter *= 12
            elif path.endswith("token"):
                parameter.normal_(generator=generator)
    return module


def by_hooks(name: str, images: Tensor) -> list[Tensor]:
    """Attention weights of each block, `[image, head, query, key]`, from hooks on the plain model."""
    module, found = module_of(name), list[Tensor]()
    for block in module.blocks:  # type: ignore[union-attr]
        block.attn.fused_attn = False  # type: ignore[union-attr]
        block.attn.attn_drop.register_forward_pre_hook(  # type: ignore[union-attr]
            lambda _, args: found.append(args[0].clone())
        )
    with torch.inference_mode():
        module(images)
    return found


def by_graph(kind: Metric, name: str, images: Tensor, batch: int) -> tuple[xr.Dataset, list[Site]]:
    """What a metric gives at every attention of a model, read in the graph as a run does it, and the sites."""
    traced = same_sites(module_of(name), sites_of(skeleton(MODELS[name]), (3, *SIZE)))
    sites = [traced.site(one, "attention") for one in traced.names("attention")]
    behind = (traced.traced.images,) if kind.inputs.image else ()
    taps = [Tap((traced.nodes["attention"][site.name], *behind), kind.reducer(), site) for site in sites]
    merged = merge(traced.model, traced.traced.graph, [Lane("baseline")], {"baseline": taps})
    group = testing.group_of(kind, sites)
    statistics = Statistics(group, 1)
    for cut in cuts_of(len(images), batch):
        rows = range(cut.start, cut.stop)
        with torch.inference_mode():
            given = merged.module(images[cut])
        reads = [given[merged.slots["baseline", tap]] for tap in taps]
        statistics.saw(0, rows)
        statistics.add("baseline", 0, kind.observe(Seen(reads, intact=reads, rows=rows)))
    return estimate(statistics, empty_frame(group)), sites


def made(images: int, shape: tuple[int, ...], seed: int = 0) -> Tensor:
    """Softmax weights `[image, head, query, key]`, some heads even and some sharp."""
    generator = torch.Generator().manual_seed(seed)
    sharpness = torch.linspace(0.3, 8.0, shape[0])[:, None, None]
    return (torch.randn(images, *shape, generator=generator) * sharpness).softmax(-1)


def attention_site(
    grid: tuple[int, int] = (4, 3),
    prefix: int | None = 1,
    *,
    heads: int = 3,
    name: str = "blocks.0.attn",
    class_token: bool = True,
) -> Site:
    """A site of attention over a grid of patches of 8 pixels."""
    count = (prefix or 0) + grid[0] * grid[1]
    return Site(
        name, "attention", (heads, count, count), "attention", 0.5, prefix, class_token and bool(prefix), grid,
        (8, 8), pixels=(8 * grid[0], 8 * grid[1]),
    )  # fmt: skip


def refusal_of_windows(kind: str, **fields: str) -> str:
    """What binding says of a metric of a model with windowed attention, whose last blocks are of one window."""
    text = study(
        "windows",
        data={"probe": "{source: digits, split: test, images: 8, batch: 4}"},
        models={"swin": {"arch": "swin_tiny_patch4_window7_224", "options": SWIN, "weights": "random"}},
        metrics={"metric": {"kind": kind, "of": "swin", **fields}},
    )
    with pytest.raises(StudyError) as caught:
        bound(text)
    return str(caught.value)
