"""The other pool against plain models whose pool was set by hand."""

import pytest
import torch

from ablated import TABLE, bench, bench_of, output, place, plain, refusals, refused, same, values
from studies import TINY_VIT, changed
from vitdsl import testing
from vitdsl.runtime.ablations.swap_pool import Params, SwapPool

CLS, GAP = (SwapPool(Params.model_validate({"to": to})) for to in ("cls", "gap"))
AVERAGED = changed(TINY_VIT, {"global_pool": "avg", "fc_norm": True})
"""A class token that no head reads: the mean of the others, with the norm behind it."""


def test_a_head_that_reads_the_mean_of_the_patches() -> None:
    found = bench_of("vit")
    same(output(found, (GAP, "pool")), plain(found, ("", "global_pool", "avg")))
    node = place(found, GAP, "pool").node
    normed = found.intact[node.all_input_nodes[0]]
    mean = torch.stack([image[1:].double().mean(0) for image in normed]).float()
    torch.testing.assert_close(values(found, (GAP, "pool"))[node], mean, rtol=1e-5, atol=1e-6)


def test_a_head_that_reads_the_class_token() -> None:
    found = bench(AVERAGED)
    same(output(found, (CLS, "pool")), plain(found, ("", "global_pool", "token")))


def test_registers_are_not_averaged() -> None:
    registers = changed(TINY_VIT, {"reg_tokens": 3})
    found = bench(registers)
    node = place(found, GAP, "pool").node
    normed = found.intact[node.all_input_nodes[0]]
    torch.testing.assert_close(
        values(found, (GAP, "pool"))[node], normed[:, 4:].mean(1), rtol=1e-5, atol=1e-6
    )


def test_laws() -> None:
    testing.check_ablation(GAP)


@pytest.mark.parametrize(
    ("name", "to", "code", "says"),
    [
        ("vit", "cls", "VD302", "its head reads the class token already"),
        ("gap", "gap", "VD302", "its head reads the mean of the spatial tokens already"),
        ("gap", "cls", "VD302", "it has no class token"),
        ("swin", "cls", "VD302", "it has no class token"),
        ("resnet", "cls", "VD302", "it has no class token"),
        ("mixer", "cls", "VD302", "it has no class token"),
    ],
)
def test_where_there_are_not_both_pools(name: str, to: str, code: str, says: str) -> None:
    assert name in TABLE
    refused(refusals(name, kind="swap_pool", to=to), code, says)
