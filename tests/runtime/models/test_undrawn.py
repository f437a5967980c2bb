"""Models without data: nothing is drawn, and all that can be seen of them stays."""

import pytest
import timm
import torch
from torch import nn

from vitdsl.runtime.models.undrawn import without_data

FAMILIES = ("vit_tiny_patch16_224", "resnet18", "swin_tiny_patch4_window7_224", "convnext_atto", "levit_128s")


@pytest.mark.parametrize("arch", FAMILIES)
def test_names_shapes_and_types_are_those_of_a_model_that_was_drawn(arch: str) -> None:
    with torch.device("meta"):
        drawn = timm.create_model(arch)
    with without_data():
        bare = timm.create_model(arch)
    seen, wanted = (
        [
            (name, tuple(one.shape), one.dtype, one.device.type, one.requires_grad, type(one))
            for name, one in (*module.named_parameters(), *module.named_buffers())
        ]
        for module in (bare, drawn)
    )
    assert seen == wanted and len(seen) > 10


def test_tensors_with_data_are_filled() -> None:
    with without_data():
        assert torch.ones(3, device="cpu").mul_(2).add_(1).sum() == 9
        assert nn.init.constant_(torch.empty(2, device="cpu"), 4.0).sum() == 8


def test_what_a_fill_would_refuse_is_refused() -> None:
    with without_data():
        with pytest.raises(ValueError, match="Fan in and fan out"):
            nn.init.kaiming_uniform_(torch.empty(3))
        with pytest.raises(RuntimeError):
            torch.empty(3).add_(torch.empty(4))
