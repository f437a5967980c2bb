"""Removed positions against plain models whose embeddings or biases were changed by hand."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor

from ablated import FAMILIES, TABLE, bench, bench_of, output, place, plain, refusals, refused, same, values
from studies import changed
from vitdsl import testing
from vitdsl.runtime.ablations._chance import order
from vitdsl.runtime.ablations.remove_position import Params, RemovePosition
from vitdsl.runtime.plan.lanes import rewriting
from vitdsl.testing.bench import EDITED, Bench, Lane

ZERO = RemovePosition(Params())
MEAN = RemovePosition(Params(mode="mean"))
SHUFFLE = RemovePosition(Params(mode="shuffle", seed=2))
SWIN = [f"layers.{layer}.blocks.{block}.attn" for layer in (0, 1) for block in (0, 1)]
EVA: dict[str, Any] = {
    "arch": "eva02_tiny_patch14_224",
    "options": {"img_size": 56, "depth": 1, "num_classes": 5},
    "weights": "random",
}
BEIT: dict[str, Any] = {
    "arch": "beit_base_patch16_224",
    "options": {
        "img_size": 32,
        "patch_size": 8,
        "embed_dim": 24,
        "num_heads": 3,
        "depth": 2,
        "num_classes": 5,
    },
    "weights": "random",
}


@contextmanager
def holding(found: Bench, **tensors: Tensor) -> Iterator[None]:
    """The model with other values of its parameters."""
    parameters = dict(found.sites.model.named_parameters())
    kept = {name: parameters[name].data.clone() for name in tensors}
    for name, tensor in tensors.items():
        parameters[name].data.copy_(tensor)
    yield
    for name, tensor in kept.items():
        parameters[name].data.copy_(tensor)


def other(embedding: Tensor, mode: str, prefix: int) -> Tensor:
    """An embedding `[1, token, width]`, position by position."""
    if mode == "zero":
        return torch.zeros_like(embedding)
    rows = [embedding[0, token] for token in range(embedding.shape[1])]
    spatial = rows[prefix:]
    if mode == "mean":
        mean = torch.stack([row.double() for row in spatial]).mean(0).float()
        dealt = [mean] * len(spatial)
    else:
        dealt = [spatial[one] for one in order(len(spatial), 2, torch.device("cpu"))[0].tolist()]
    return torch.stack(rows[:prefix] + dealt)[None]


@pytest.mark.parametrize("kind", [ZERO, MEAN, SHUFFLE], ids=lambda kind: kind.params.mode)
@pytest.mark.parametrize(
    ("options", "prefix"),
    [
        ({}, 1),
        ({"class_token": False, "global_pool": "avg"}, 0),
        ({"reg_tokens": 2, "no_embed_class": True}, 0),
    ],
)
def test_an_absolute_embedding(kind: RemovePosition, options: dict[str, Any], prefix: int) -> None:
    assert isinstance(kind.params, Params)
    found = bench(changed(TABLE["vit"], options))
    embedding: Any = found.sites.model.pos_embed
    with holding(found, pos_embed=other(embedding.data, kind.params.mode, prefix)):
        wanted = plain(found)
    same(output(found, (kind, "pos_embed")), wanted)


def test_of_spatial_tokens_alone() -> None:
    found = bench_of("vit")
    where = found.sites.place("pos_embed", "position", tokens="spatial")
    lane = Lane(EDITED, ((where, rewriting(ZERO, where)),))
    embedding: Any = found.sites.model.pos_embed
    kept = torch.zeros_like(embedding.data)
    kept[:, 0] = embedding.data[:, 0]
    with holding(found, pos_embed=kept):
        wanted = plain(found)
    same(found.read([lane])[EDITED][found.sites.traced.output], wanted)


def test_relative_biases_become_zero() -> None:
    found = bench_of("swin")
    names = [f"{at}.relative_position_bias_table" for at in SWIN]
    parameters = dict(found.sites.model.named_parameters())
    assert found.sites.names("position") == SWIN
    with holding(found, **{names[1]: torch.zeros_like(parameters[names[1]])}):
        one = plain(found)
    same(output(found, (ZERO, SWIN[1])), one)
    with holding(found, **{name: torch.zeros_like(parameters[name]) for name in names}):
        wanted = plain(found)
    same(output(found, *((ZERO, at) for at in SWIN)), wanted)
    same(output(found, *((MEAN, at) for at in SWIN)), wanted)
    same(output(found, *((kind, at) for kind in (ZERO, SHUFFLE) for at in SWIN)), wanted)
    assert not torch.allclose(one, wanted)


def test_relative_biases_are_dealt_out_anew() -> None:
    found = bench_of("swin")
    module: Any = found.sites.model.get_submodule(SWIN[1])
    bias = module._get_rel_pos_bias()
    dealt = torch.zeros_like(bias)
    chosen = order(49, 2, torch.device("cpu"))[0].tolist()
    for query in range(49):
        for key in range(49):
            dealt[:, :, query, key] = bias[:, :, chosen[query], chosen[key]]

    def biases(self: Any) -> Tensor:
        return dealt

    same(output(found, (SHUFFLE, SWIN[1])), plain(found, (SWIN[1], "_get_rel_pos_bias", biases)))


def test_the_prefix_keeps_its_biases() -> None:
    found = bench(BEIT)
    at, before = "blocks.0.attn", found.sites.model.get_submodule("blocks.0.attn")._get_rel_pos_bias()  # type: ignore[operator]
    assert found.sites.names("position") == ["blocks.0.attn", "blocks.1.attn"]
    for kind in (MEAN, SHUFFLE):
        where = place(found, kind, at)
        value = found.at_place(where, [found.rewrite(kind, where)])
        assert value.shape == before.shape == (1, 3, 17, 17)
        assert torch.equal(value[..., 0], before[..., 0]) and torch.equal(value[:, :, 0], before[:, :, 0])
        assert not torch.equal(value[..., 1:, 1:], before[..., 1:, 1:])
        torch.testing.assert_close(value.sum((-2, -1)), before.sum((-2, -1)))
    spread = found.at_place(place(found, MEAN, at), [found.rewrite(MEAN, place(found, MEAN, at))])[
        ..., 1:, 1:
    ]
    assert torch.equal(spread.amax((-2, -1)), spread.amin((-2, -1)))


@pytest.mark.parametrize("kind", [ZERO, MEAN, SHUFFLE], ids=lambda kind: kind.params.mode)
def test_laws(kind: RemovePosition) -> None:
    testing.check_ablation(
        kind, FAMILIES["swin"] if kind is SHUFFLE else None, at=SWIN[1:2] if kind is SHUFFLE else ()
    )


@pytest.mark.parametrize("name", ["resnet", "mixer"])
def test_a_model_without_position_embeddings(name: str) -> None:
    refused(refusals(name, kind="remove_position"), "VD210", "there is no position embedding of `model`")


def test_rotary_embeddings_are_refused_and_what_is_added_beside_them_is_not() -> None:
    found = bench(EVA)
    assert found.sites.names("position") == ["pos_embed", "blocks.0.attn"]
    whys = [ZERO.refuse_place(place(found, ZERO, at)) for at in found.sites.names("position")]
    assert whys[0] is None and "rotary" in (whys[1] or "")
    embedding: Any = found.sites.model.pos_embed
    with holding(found, pos_embed=torch.zeros_like(embedding)):
        wanted = plain(found)
    same(output(found, (ZERO, "pos_embed")), wanted)


def test_what_sites_say_of_them() -> None:
    site = bench_of("vit").sites.site("pos_embed", "position")
    assert (site.layout, site.shape, site.prefix, site.grid, site.fixed) == (
        "tokens",
        (17, 24),
        1,
        (4, 4),
        True,
    )
    site = bench_of("swin").sites.site(SWIN[1], "position")
    assert (site.layout, site.shape, site.prefix, site.fixed) == ("attention", (2, 49, 49), 0, True)


def test_the_sum_is_the_tokens_alone() -> None:
    found = bench_of("vit")
    where = place(found, ZERO, "pos_embed")
    (reader,) = where.readers
    (tokens,) = (one for one in reader.all_input_nodes if one is not where.node)
    edited = values(found, (ZERO, "pos_embed"))
    assert torch.equal(edited[reader], found.intact[tokens])
    assert not torch.equal(found.intact[reader], found.intact[tokens])


def test_swept_seeds_bind() -> None:
    assert not refusals("vit", kind="remove_position", mode="shuffle", vary={"seed": [0, 1]})
    assert not refusals("swin", kind="remove_position", mode="mean")
