"""Work of operations against counts by hand and PyTorch's own counter."""

import pytest
import torch
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from vitdsl.dsl.study import Model
from vitdsl.runtime.graph.propagate import FLOPS, OPS
from vitdsl.runtime.graph.sites import sites_of
from vitdsl.runtime.graph.work import VIEW, Op, Work
from vitdsl.runtime.models.loading import skeleton

MODELS = [
    ("vit_tiny_patch16_224", {"img_size": 48, "embed_dim": 24, "num_heads": 3, "depth": 2}, 48),
    ("resnet18", {}, 64),
    ("mobilenetv3_small_050", {}, 64),
    ("swin_tiny_patch4_window7_224", {"img_size": 56, "window_size": 7, "depths": (1, 1, 1, 1)}, 56),
]


@pytest.mark.parametrize(("arch", "options", "size"), MODELS)
def test_products_are_those_of_pytorchs_counter(arch: str, options: dict[str, object], size: int) -> None:
    module = skeleton(Model(arch=arch, options=options, weights="random"))
    graph = sites_of(module, (3, size, size)).traced.graph
    images = torch.empty(4, 3, size, size, device="meta")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(images)
    total = sum(node.meta[FLOPS] for node in graph.nodes)
    assert total == pytest.approx(counter.get_total_flops() / 4)
    assert total == pytest.approx(sum(op.flops for node in graph.nodes for op in node.meta[OPS]))


def counted(*calls: object) -> list[Op]:
    with Work() as work:
        for call in calls:
            call()  # type: ignore[operator]
    return work.ops


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_counts_by_hand(device: str) -> None:
    """A product, a convolution in groups, a sum with a row that is repeated, and a view that costs nothing."""
    a, b = torch.ones(5, 7, device=device), torch.ones(7, 11, device=device, dtype=torch.float64)
    images, kernel = torch.ones(2, 6, 8, 8, device=device), torch.ones(4, 3, 3, 3, device=device)
    row = torch.ones(1, 7, device=device).expand(5, 7)
    found = counted(
        lambda: a @ a.mT,
        lambda: b.mT @ b,
        lambda: F.conv2d(images, kernel, groups=2),
        lambda: a + row,
        lambda: a.reshape(7, 5).mT[1:],
        lambda: F.gelu(a),
    )
    assert [op for op in found if op.sort != "view"] == [
        Op("product", 2 * 5 * 7 * 5, 4 * (35 + 35 + 25)),
        Op("product", 2 * 11 * 7 * 11, 8 * (77 + 77 + 121), exact=True),
        Op("convolution", 2 * (2 * 4 * 6 * 6) * (3 * 3 * 3), 4 * (768 + 108 + 288)),
        Op("plain", 0, 4 * (35 + 7 + 35)),
        Op("dear", 0, 4 * 70),
    ]
    assert found.count(VIEW) == 5  # three transposes, the reshape, the slice


def test_attention_keeps_no_weights_and_counts_both_products() -> None:
    """In the graph it is one call, whatever it is without data."""
    module = skeleton(Model(arch=MODELS[0][0], options=MODELS[0][1], weights="random"))
    sites = sites_of(module, (3, 48, 48), unfuse=frozenset())
    (one, _) = (node for node in sites.traced.graph.nodes if node.target is F.scaled_dot_product_attention)
    tokens, width = 10, 24
    (op,) = one.meta[OPS]
    assert op == Op(
        "product", pytest.approx(4 * tokens * tokens * width), pytest.approx(4 * 4 * tokens * width)
    )
