"""Ablations of a model as a whole together, in the order in which a study lays them, and in a run."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ablated import bench_of, output, same, values
from studies import TINY_VIT, bound, study
from vitdsl.dsl.load import load_text
from vitdsl.runtime.ablations.drop_tokens import DropTokens
from vitdsl.runtime.ablations.local_attention import LocalAttention
from vitdsl.runtime.ablations.remove_branch import RemoveBranch
from vitdsl.runtime.ablations.remove_position import RemovePosition
from vitdsl.runtime.ablations.shuffle_patches import ShufflePatches
from vitdsl.runtime.ablations.swap_pool import SwapPool
from vitdsl.runtime.ablations.uniform_attention import UniformAttention
from vitdsl.runtime.plan.bind import bind_diagnostics
from vitdsl.runtime.results.folder import open_run
from vitdsl.runtime.run.run import run

SHUFFLE = ShufflePatches(ShufflePatches.Params.model_validate({"grid": 2, "seed": 5}))
POSITION = RemovePosition(RemovePosition.Params())
DROP = DropTokens(DropTokens.Params.model_validate({"which": "salient", "share": 0.25}))
UNIFORM = UniformAttention(UniformAttention.Params())
LOCAL = LocalAttention(LocalAttention.Params.model_validate({"radius": 1}))
POOL = SwapPool(SwapPool.Params.model_validate({"to": "gap"}))
BRANCH = RemoveBranch(RemoveBranch.Params())


def attended(module: Any, x: Tensor, weights: Tensor | None, mask: Tensor) -> Tensor:
    """An attention written by hand: given weights, or a softmax behind a mask."""
    q, k, v = (
        one.unflatten(-1, (module.num_heads, -1)).transpose(1, 2) for one in module.qkv(x).chunk(3, -1)
    )
    found = (q @ k.mT * module.scale + mask).softmax(-1) if weights is None else weights
    result: Tensor = module.proj((found @ v).transpose(1, 2).flatten(2))
    return result


def test_all_in_the_order_of_the_study() -> None:
    found = bench_of("vit")
    model: Any = found.sites.model
    edits = [
        (SHUFFLE, "images"),
        (POSITION, "pos_embed"),
        (DROP, "embedding"),
        (UNIFORM, "blocks.0.attn"),
        (LOCAL, "blocks.1.attn"),
        (BRANCH, "blocks.1.mlp"),
        (POOL, "pool"),
    ]
    images = values(found, edits[0])[found.sites.traced.images]
    near = torch.zeros(17, 17)
    for query in range(16):
        for key in range(16):
            if max(abs(query // 4 - key // 4), abs(query % 4 - key % 4)) > 1:
                near[1 + query, 1 + key] = float("-inf")
    with torch.inference_mode():
        x = model.patch_embed(images)
        salient = x.norm(dim=-1).argsort(1, descending=True)[:, :4]
        x = x.scatter(1, salient[..., None].expand(-1, -1, 24), 0.0)
        x = torch.cat([model.cls_token.expand(3, -1, -1), x], 1)
        one, two = model.blocks
        x = x + attended(one.attn, one.norm1(x), torch.full((3, 3, 17, 17), 1 / 17), near)
        x = x + one.mlp(one.norm2(x))
        x = x + attended(two.attn, two.norm1(x), None, near)
        wanted = model.head(model.norm(x)[:, 1:].mean(1))
    same(output(found, *edits), wanted)


def test_places_that_do_not_meet_may_be_laid_in_any_order() -> None:
    found = bench_of("vit")
    edits = [(POOL, "pool"), (UNIFORM, "blocks.0.attn"), (POSITION, "pos_embed"), (SHUFFLE, "images")]
    assert torch.equal(output(found, *edits), output(found, *edits[::-1]))


def test_salience_hangs_on_what_was_before() -> None:
    """With the position embedding gone other tokens have a large norm: what comes first is seen."""
    found = bench_of("vit")
    first, then = (POSITION, "pos_embed"), (DROP, "embedding")
    node = found.sites.nodes["embedding"]["embedding"]
    both = values(found, first, then)[node]
    tokens = values(found, first)[node]
    salient = tokens[:, 1:].norm(dim=-1).argsort(1, descending=True)[:, :4]
    for image, chosen in enumerate(salient.tolist()):
        zero = torch.where((both[image, 1:] == 0).all(-1))[0].tolist()
        assert zero == sorted(chosen)


ABLATIONS = {
    "shuffled": {"kind": "shuffle_patches", "of": "vit", "grid": 4, "per": "image"},
    "nowhere": {"kind": "remove_position", "of": "vit"},
    "occluded": {"kind": "drop_tokens", "of": "vit", "vary": {"share": [0.25, 0.5]}},
    "hidden": {
        **{"kind": "drop_tokens", "of": "vit", "which": "salient"},
        **{"salience": "attention", "block": "blocks.1.attn"},
    },
    "uniform": {"kind": "uniform_attention", "of": "vit", "at": "blocks.0.attn"},
    "near": {"kind": "local_attention", "of": "vit", "at": "blocks.0.attn", "radius": 1},
    "by_mean": {"kind": "swap_pool", "of": "vit", "to": "gap"},
}
LAYERS = {
    "pixels": {"of": "vit", "at": "images", "role": "image"},
    "embedded": {"of": "vit", "at": "embedding", "role": "embedding"},
    "pooled": {"of": "vit", "at": "pool", "role": "pool"},
}
MOVES = {
    "pixels": {"shuffled"},
    "embedded": {"shuffled", "occluded", "hidden"},
    "pooled": {"shuffled", "nowhere", "occluded", "hidden", "uniform", "near", "by_mean"},
}
"""For each of the layers, the ablations that move it; what is added to all images alike moves no centred Gram."""


def test_in_a_run(tmp_path: Path) -> None:
    """Every kind in one study: each condition moves what lies behind its place, and leaves the rest."""
    plan = bound(
        study(
            "together",
            data="  probe: {source: noise, total: 64, batch: 32}",
            models={"vit": TINY_VIT},
            layers=LAYERS,
            ablations=ABLATIONS,
            metrics={f"of_{name}": {"kind": "cka", "x": name, "against": "baseline"} for name in LAYERS},
        )
    )
    assert plan.models["vit"].unfuse == {"blocks.0.attn", "blocks.1.attn"}
    outcome = run(plan, out=tmp_path)
    assert outcome.folder is not None
    groups = open_run(outcome.folder).groups
    for name, moves in MOVES.items():
        found = groups[f"of_{name}/vit"]["cka"]
        assert found.sizes["condition"] == 9
        for condition in found["condition"].values.tolist():
            value = float(found.sel(condition=condition).squeeze())
            alike = abs(value - 1) < 1e-9
            assert alike == (condition.partition("[")[0] not in moves), (name, condition, value)


def test_a_position_embedding_is_the_same_for_every_image() -> None:
    text = study(
        "same",
        data="  probe: {source: noise, total: 64, batch: 32}",
        models={"vit": TINY_VIT},
        layers={"positions": {"of": "vit", "at": "pos_embed", "role": "position"}},
        metrics={"of_positions": {"kind": "cka", "x": "positions"}},
    )
    (problem,) = bind_diagnostics(load_text(text))
    assert problem.code == "VD242" and "the same for every image" in problem.message
