"""How the cost of a pass grows: with layers, conditions, images and the batch, one of them at a time, small models."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from commands import memory
from passes import ratio, ready
from texts import CKA, MINI, noise, text

DEEP = MINI["vit"].replace("num_heads: 4", "num_heads: 4, depth: 50")
LAYERS, CONDITIONS = (10, 25, 50, 100, 150), (1, 5, 10, 25, 50, 100)
IMAGES, BATCHES = (256, 1024, 4096, 16384), (8, 16, 32, 64, 128, 256)


@dataclass(frozen=True)
class Curve:
    """A cost at some sizes.

    Attributes:
        over: What grows.
        what: What is shown of it, with its unit.
        at: The sizes.
        values: The costs.
    """

    over: str
    what: str
    at: Sequence[int]
    values: Sequence[float]


def curves(device: torch.device, dtype: str, runs: int) -> list[dict[str, Any]]:
    """All curves."""

    def over_bare(metrics: str, images: int, batch: int, models: dict[str, str], times: int = 1) -> float:
        return ratio(ready(text(metrics, noise(32), images, batch, models), device, dtype), times, runs).value

    deep = {**MINI, "vit": DEEP}
    sites = [name for i in range(50) for name in (f"blocks.{i}.attn", f"blocks.{i}.mlp", f"blocks.{i}")]

    def layers(count: int) -> str:
        named = ", ".join(sites[:count])
        return f"  z: {{of: vit, at: [{named}], role: output}}\nmetrics: {{within: {{kind: cka, x: z}}}}\n"

    def conditions(count: int) -> str:
        cut = [name for name in sites if not name.endswith(tuple("0123456789"))][: count - 1]
        ablations = (
            f"ablations: {{cut: {{kind: remove_skip, of: vit, at: [{', '.join(cut)}], each: true}}}}\n"
        )
        return (ablations if cut else "") + "metrics: {answers: {kind: accuracy, of: vit}}\n"

    def whole(images: int) -> int:
        return memory(text(CKA, noise(32), images, 32, MINI))

    found = [
        Curve(
            "layers of one model (CKA of all with all, batch 32)",
            "pass over a plain forward",
            LAYERS,
            [over_bare(layers(count), 128, 32, deep) for count in LAYERS],
        ),
        Curve(
            "conditions of one model (a skip removed each, accuracy)",
            "pass over as many plain forwards",
            CONDITIONS,
            [over_bare(conditions(count), 64, 32, deep, count) for count in CONDITIONS],
        ),
        Curve("images (CKA of two models)", "peak memory, MiB", IMAGES, [whole(n) >> 10 for n in IMAGES]),
        Curve(
            "images in a batch (CKA of two models)",
            "pass over plain forwards",
            BATCHES,
            [over_bare(CKA, 512, batch, MINI) for batch in BATCHES],
        ),
    ]
    return [curve.__dict__ for curve in found]
