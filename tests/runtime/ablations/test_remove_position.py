"""Removed positions against plain models whose embeddings were changed by hand."""

from typing import Any

import pytest
import torch
from torch import Tensor

from ablated import FAMILIES, bench_of, forwards, output, place, plain, refusals, refused, same, values
from vitdsl import testing
from vitdsl.runtime.ablations._chance import order
from vitdsl.runtime.ablations.remove_position import Params, RemovePosition


def kind_of(**fields: Any) -> RemovePosition:
    return RemovePosition(Params.model_validate(fields))


def by_hand(embedding: Tensor, mode: str, prefix: int, seed: int) -> Tensor:
    """A position embedding `[1, token, width]`, token by token."""
    result = torch.zeros_like(embedding)
    if mode == "zero":
        return result
    result[:, :prefix] = embedding[:, :prefix]
    spatial = embedding[0, prefix:]
    for i, other in enumerate(order(len(spatial), seed, torch.device("cpu"))[0].tolist()):
        result[0, prefix + i] = spatial[other] if mode == "shuffle" else spatial.double().mean(0).float()
    return result


@pytest.mark.parametrize("name", ["vit", "gap"])
@pytest.mark.parametrize("mode", ["zero", "shuffle", "mean"])
def test_a_vit_with_another_embedding(name: str, mode: str) -> None:
    bench, kind = bench_of(name), kind_of(mode=mode, seed=3)
    parameter = bench.sites.model.get_parameter("pos_embed")
    ours, kept = output(bench, (kind, "pos_embed")), parameter.data.clone()
    parameter.data.copy_(by_hand(kept, mode, int(name == "vit"), 3))
    theirs = plain(bench)
    parameter.data.copy_(kept)
    same(ours, theirs)


@pytest.mark.parametrize("mode", ["zero", "shuffle", "mean"])
@pytest.mark.parametrize("at", ["layers.0.blocks.0.attn", "layers.1.blocks.1.attn"])
def test_a_swin_with_another_bias(mode: str, at: str) -> None:
    bench, kind = bench_of("swin"), kind_of(mode=mode, seed=1)
    module = bench.sites.model.get_submodule(at)
    bias = module._get_rel_pos_bias()  # type: ignore[operator]

    def other(self: Any) -> Tensor:
        if mode == "zero":
            return torch.zeros_like(bias)
        if mode == "mean":
            return bias.double().mean((-2, -1), keepdim=True).float().expand_as(bias)
        chosen = order(bias.shape[-1], 1, torch.device("cpu"))[0].tolist()
        return torch.stack([bias[..., one, :][..., chosen] for one in chosen], -2)

    theirs = plain(bench, (at, "_get_rel_pos_bias", other))
    if mode == "mean":
        with forwards(bench, (at, "_get_rel_pos_bias", lambda self: torch.zeros_like(bias))):
            same(theirs, plain(bench))
    same(output(bench, (kind, at)), theirs)


def test_all_of_a_model_and_two_in_a_row() -> None:
    bench, zero, shuffle = bench_of("swin"), kind_of(), kind_of(mode="shuffle")
    names = bench.sites.names("position")
    assert len(names) == 4 and all(name.endswith(".attn") for name in names)

    def nothing(self: Any) -> Tensor:
        return torch.zeros(())

    theirs = plain(bench, *((name, "_get_rel_pos_bias", nothing) for name in names))
    same(output(bench, *((zero, name) for name in names)), theirs)
    node = place(bench, zero, names[0]).node
    both = values(bench, (zero, names[0]), (shuffle, names[0]))
    only = values(bench, (zero, names[0]))
    out = bench.sites.traced.output
    assert node in bench.intact and torch.equal(both[out], only[out]), "zeros in another order are zeros"


@pytest.mark.parametrize("mode", ["zero", "shuffle", "mean"])
def test_laws(mode: str) -> None:
    testing.check_ablation(kind_of(mode=mode))
    testing.check_ablation(kind_of(mode=mode), FAMILIES["swin"], at=["layers.0.blocks.1.attn"])


@pytest.mark.parametrize("name", ["resnet", "mixer"])
def test_models_that_are_told_no_place(name: str) -> None:
    refused(refusals(name, kind="remove_position"), "VD210", "there is no position embedding of `model`")
