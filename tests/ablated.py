"""Five small models, one of each family, and what an ablation makes of them, for the tests of ablations.

Does not own the laws that every ablation obeys (`vitdsl.testing`), or what the plain models must give (each test).
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import FunctionType, MethodType
from typing import Any

import pytest
import torch
from torch import Tensor, fx

from studies import TINY_RESNET, TINY_VIT, changed, flow, study
from vitdsl.dsl.load import load_text
from vitdsl.dsl.study import Model
from vitdsl.runtime.ablations._base import Ablation
from vitdsl.runtime.graph.edit import Lane, Place
from vitdsl.runtime.plan.bind import bind_diagnostics
from vitdsl.testing.bench import BASELINE, EDITED, Bench

TABLE: dict[str, dict[str, Any]] = {
    "vit": changed(TINY_VIT),
    "gap": changed(TINY_VIT, {"class_token": False, "global_pool": "avg"}),
    "swin": {
        "arch": "swin_tiny_patch4_window7_224",
        "options": {"img_size": 56, "depths": [2, 2], "embed_dim": 24, "num_heads": [2, 4]},
        "weights": "random",
    },
    "resnet": changed(TINY_RESNET),
    "mixer": {"arch": "mixer_s32_224", "options": {"img_size": 64}, "weights": "random"},
}
LIVELY = {"qkv.weight": 15, "attn.proj.weight": 8, "pos_embed": 20, "relative_position_bias_table": 40}
"""Parameters that start near zero, and what they are multiplied by."""
FAMILIES = {name: Model(**fields) for name, fields in TABLE.items()}
Edit = tuple[Ablation, str]
"""An ablation and the name of its place."""


@cache
def bench_of(name: str) -> Bench:
    """A family's model with weights and three images."""
    return bench(TABLE[name])


def bench(fields: dict[str, Any], images: int = 3) -> Bench:
    """A model with weights and some images, every tensor of it intact.

    Where it attends and what it knows of positions weighs more than in a model that was just made.
    """
    found = Bench.of(Model(**fields), Path(), seed=0)
    for name, parameter in found.sites.model.named_parameters():
        factor = next((factor for word, factor in LIVELY.items() if word in name), 1)
        parameter.data.mul_(factor)
    drawn = torch.randn(images, *found.images.shape[1:], generator=torch.Generator().manual_seed(5))
    return with_images(found, drawn)


def with_images(found: Bench, images: Tensor) -> Bench:
    """The same model with other images."""
    return Bench(found.sites, images, Bench(found.sites, images, {}).read([Lane(BASELINE)])[BASELINE])


def place(found: Bench, kind: Ablation, at: str) -> Place:
    """Where an ablation acts, in the role that it takes by itself."""
    return found.sites.place(at, kind.role)


def values(found: Bench, *edits: Edit) -> dict[fx.Node, Tensor]:
    """Every tensor of the model under some edits; nothing that does not lie behind one of them changes a bit."""
    places = [(place(found, kind, at), kind) for kind, at in edits]
    laid = tuple((where, found.rewrite(kind, where)) for where, kind in places)
    lanes = found.read([Lane(BASELINE), Lane(EDITED, laid)])
    behind = set().union(*(found.behind(where) for where, _ in places))
    for node, before in found.intact.items():
        assert torch.equal(lanes[BASELINE][node], before), node
        assert node in behind or torch.equal(lanes[EDITED][node], before), node
    return lanes[EDITED]


def output(found: Bench, *edits: Edit) -> Tensor:
    """The model's output under some edits, which is another than without them."""
    result = values(found, *edits)[found.sites.traced.output]
    intact = found.intact[found.sites.traced.output]
    assert float((result - intact).abs().max()) > 1e-4 * float(intact.abs().max())
    return result


@contextmanager
def forwards(found: Bench, *methods: tuple[str, str, Any]) -> Iterator[None]:
    """The plain model with other methods or attributes of its modules: path, name and what is there instead."""
    with pytest.MonkeyPatch.context() as patch:
        for path, name, value in methods:
            part = found.sites.model.get_submodule(path)
            patch.setattr(part, name, MethodType(value, part) if isinstance(value, FunctionType) else value)
        yield


def plain(found: Bench, *methods: tuple[str, str, Any], images: Tensor | None = None) -> Tensor:
    """The plain model's output, with other methods of its modules."""
    with forwards(found, *methods), torch.inference_mode():
        result: Tensor = found.sites.model(found.images if images is None else images)
    return result


def same(ours: Tensor, theirs: Tensor) -> None:
    """Equal to rounding in float32."""
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5 * float(theirs.abs().max()))


def refusals(family: str, options: dict[str, Any] | None = None, **fields: Any) -> list[tuple[str, str]]:
    """Code and words of what binding says of an ablation of a model."""
    model = {**TABLE[family], "options": {**TABLE[family]["options"], **(options or {})}}
    text = study(
        "refused",
        data="  probe: {source: noise, total: 8, batch: 4}",
        models={"model": model},
        ablations={"one": {"of": "model", **fields}},
        metrics={"right": {"kind": "skip_ratio", "of": "model", "data": "probe"}},
    )
    assert flow(model) in text
    return [(one.code, " ".join((one.message, *one.help))) for one in bind_diagnostics(load_text(text))]


def refused(found: Sequence[tuple[str, str]], code: str, says: str) -> None:
    """One problem, of a code and with certain words."""
    ((one, words),) = found
    assert one == code and says in words, (one, words)
