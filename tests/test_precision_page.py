"""The page of precision: its arithmetics are what they are called, and it says what was measured."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from precision.arithmetic import ARITHMETICS, REFERENCE, AllDouble, Rounded, rounded
from precision.measure import differences, measured
from precision.page import NUMBERS, PAGE, number, page
from studies import TINY_RESNET, TINY_VIT, bound, study
from vitdsl import run
from vitdsl.runtime.metrics._base import METRICS
from vitdsl.runtime.progress import Silent
from vitdsl.runtime.run.inputs import model_of, stream_of

TEXT = study(
    "small",
    data="{probe: {source: digits, split: test, images: 24, batch: 12}}",
    models={"vit": TINY_VIT, "net": TINY_RESNET},
    layers={"blocks": '{of: vit, at: "blocks.*"}'},
    ablations={"no_skip": '{kind: remove_skip, of: vit, at: "blocks.*.attn", each: true}'},
    metrics={
        "accuracy": "{kind: accuracy, of: [vit, net]}",
        "within": "{kind: cka, x: blocks, against: baseline}",
    },
)


def by_hand(values: np.ndarray) -> np.ndarray:
    """Rounded to 11 significant bits, half to even, from the definition."""
    unit = np.exp2(np.floor(np.log2(np.abs(values))) - 10)
    return np.rint(values / unit) * unit


def test_operands_keep_ten_bits_of_mantissa() -> None:
    drawn = torch.randn(4000, generator=torch.Generator().manual_seed(0)) * torch.logspace(-20, 20, 4000)
    halves = torch.tensor(
        [1 + 2**-11, 1 + 3 * 2**-11, -1 - 2**-11, 2 - 2**-12, 1 + 2**-11 + 2**-20, 1.0, -3.0]
    )
    values = torch.cat([drawn, halves])
    assert np.array_equal(rounded(values).double().numpy(), by_hand(values.double().numpy()))
    special = torch.tensor([0.0, torch.inf, -torch.inf, torch.nan])
    assert torch.equal(rounded(special)[:3], special[:3]) and rounded(special)[3].isnan()
    assert rounded(values.double()).dtype == torch.float64 and torch.equal(
        rounded(values.double()), values.double()
    )


MADE_OF_PRODUCTS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "matrices": lambda x, y, bias: x[0] @ y[0],
    "batches of matrices": lambda x, y, bias: x @ y,
    "a matrix and a vector": lambda x, y, bias: x[0] @ y[0, 0],
    "vectors": lambda x, y, bias: x[0, 0] @ y[0, 0],
    "a layer": lambda x, y, bias: F.linear(x, y[0], bias),
    "added to": lambda x, y, bias: torch.addmm(bias, x[0], y[0]),
    "einsum": lambda x, y, bias: torch.einsum("bij,bkj->bik", x, y),
    "a convolution": lambda x, y, bias: F.conv2d(x[None], y[:, :, :3, None].permute(2, 0, 1, 3), bias[:3]),
    "fused attention": lambda x, y, bias: F.scaled_dot_product_attention(x[:, None], y[:, None], x[:, None]),
}


@pytest.mark.parametrize("inference", [True, False])
@pytest.mark.parametrize("case", MADE_OF_PRODUCTS)
def test_products_are_of_rounded_operands(case: str, inference: bool) -> None:
    """What is added to a product is not rounded."""
    drawn, function = torch.Generator().manual_seed(1), MADE_OF_PRODUCTS[case]
    x, y, bias = (torch.randn(*shape, generator=drawn) for shape in ((2, 8, 8), (2, 8, 8), (8,)))
    with torch.inference_mode(inference):
        with Rounded():
            ours = function(x, y, bias)
        torch.testing.assert_close(ours, function(rounded(x), rounded(y), bias), rtol=1e-6, atol=1e-6)
        assert not torch.allclose(ours, function(x, y, bias), rtol=1e-5, atol=1e-5)


def test_nothing_else_is_rounded() -> None:
    x, y = torch.randn(6, 6), torch.randn(6, 6)
    with Rounded():
        found, exact = x * y, x.double() @ y.double()
    assert torch.equal(found, x * y) and torch.equal(exact, x.double() @ y.double())


def test_gradients_are_products_of_rounded_operands() -> None:
    x, w = torch.randn(3, 5, requires_grad=True), torch.randn(5, 4)
    with Rounded():
        (ours,) = torch.autograd.grad((x @ w).sum(), x)
    torch.testing.assert_close(ours, rounded(torch.ones(3, 4)) @ rounded(w).T)
    assert not torch.equal(ours, torch.ones(3, 4) @ w.T)


def test_the_reference_is_float64_throughout() -> None:
    """The loss of a model in float64, written from its definition; and no cast brings float32 back."""
    with AllDouble():
        third = torch.ones(1, dtype=torch.float64) / 3
        assert third.float().item() == 1 / 3 and torch.full((1,), 1 / 3, dtype=torch.float32).item() == 1 / 3
    plan = bound(TEXT)
    found = measured(plan, REFERENCE)
    stream = stream_of(plan, "probe")
    model = model_of(plan, "vit", device=torch.device("cpu"), progress=Silent()).module.double()
    losses = []
    with torch.no_grad(), AllDouble():
        for batch in stream:
            assert batch.labels is not None
            losses.append(
                F.cross_entropy(model(batch.images["vit"].double()), batch.labels, reduction="none")
            )
    right = float(torch.cat(losses).mean())
    assert abs(found["accuracy", "loss", "accuracy/vit"][0] - right) < 1e-13


def test_differences_are_those_of_the_numbers(tmp_path: Path) -> None:
    """A run's own numbers beside float64: what the column of float32 has; and less exact arithmetics move more."""
    plan = bound(TEXT)
    rows = {(row["kind"], row["value"], row["of"]): row for row in differences(plan)}
    own, exact = run(plan, out=tmp_path, report=False, device="cpu"), measured(plan, REFERENCE)
    for (kind, value, of), row in rows.items():
        path = f"{'within' if kind == 'cka' else kind}/{of}"
        right = np.nanmax(np.abs(own.groups[path][value] - exact[kind, value, path]))
        assert row["moved"]["float32"] == pytest.approx(float(right), abs=1e-15)
        assert row["largest"] == np.nanmax(np.abs(exact[kind, value, path]))
    assert set(rows) >= {("accuracy", "loss", "vit"), ("accuracy", "loss", "net"), ("cka", "cka", "vit")}
    cka = rows["cka", "cka", "vit"]["moved"]
    assert 0 < cka["float32"] == cka["`--fast`"] < 1e-6
    assert (
        10 * cka["float32"] < cka["TF32, emulated"]
        and 10 * cka["float32"] < cka["`fp16`"] < cka["`bf16`"] < 0.1
    )
    net = rows["accuracy", "loss", "net"]["moved"]
    assert 0 < net["`--fast`"] < 1e-5


def test_the_page_says_what_was_measured() -> None:
    found = json.loads(NUMBERS.read_text("utf-8"))
    assert PAGE.read_text("utf-8") == page(found)
    assert {row["kind"] for row in found["rows"]} == set(METRICS.kinds()) - {"answers"}
    assert all(set(row["moved"]) == {how.title for how in ARITHMETICS} for row in found["rows"])
    first = found["rows"][0]
    said = page({**found, "rows": [{**first, "largest": 2.0, "moved": {"a": 0.25, "b": None, "c": 0}}]})
    assert f"| `{first['kind']}` | {first['value']} | {first['of']} | 2 | 2.5e-01 | undefined | 0 |" in said
    assert (
        "moves most, by 0.1." in said and "1 have a number that is undefined" in said and number(0.0) == "0"
    )
