"""Checkpoints of torchvision: its models, saved from itself, give the same outputs here."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import nn
from torchvision import models as tv
from torchvision.models.convnext import CNBlockConfig, ConvNeXt
from torchvision.models.swin_transformer import (
    PatchMergingV2,
    ShiftedWindowAttentionV2,
    SwinTransformer,
    SwinTransformerBlockV2,
)
from torchvision.models.vision_transformer import VisionTransformer

from foreign import LARGEST_ERROR, error, filled, images, through_study, unfelt


class Case(NamedTuple):
    """A model of torchvision and the same one of timm; `unfelt` of its first tensors hardly reach the output."""

    made: Callable[[], nn.Module]
    arch: str
    options: dict[str, Any]
    size: int = 32
    any_size: bool = True
    unfelt: int = 0


TEN = {"num_classes": 10}
WINDOWS = {
    "img_size": 64, "embed_dim": 16, "depths": [2, 2, 1], "num_heads": [1, 2, 4], "window_size": 4, **TEN,
}  # fmt: skip
"""Of models with windows, in timm's words."""
CASES = {
    "vit": Case(
        lambda: VisionTransformer(32, 8, 2, 3, 24, 96, num_classes=10),
        "vit_tiny_patch16_224",
        {"img_size": 32, "patch_size": 8, "embed_dim": 24, "num_heads": 3, "depth": 2, **TEN},
        any_size=False,
    ),
    "swin": Case(
        lambda: SwinTransformer([4, 4], 16, [2, 2, 1], [1, 2, 4], [4, 4], num_classes=10),
        "swin_tiny_patch4_window7_224",
        WINDOWS,
        64,
        any_size=False,
    ),
    "convnext": Case(
        lambda: ConvNeXt(
            [
                CNBlockConfig(8, 16, 1),
                CNBlockConfig(16, 24, 2),
                CNBlockConfig(24, 32, 1),
                CNBlockConfig(32, None, 1),
            ],
            num_classes=10,
        ),
        "convnext_tiny",
        {"dims": [8, 16, 24, 32], "depths": [1, 2, 1, 1], **TEN},
        64,
    ),
    "swin_v2": Case(
        lambda: SwinTransformer(
            [4, 4],
            16,
            [2, 2, 1],
            [1, 2, 4],
            [4, 4],
            num_classes=10,
            block=SwinTransformerBlockV2,
            downsample_layer=PatchMergingV2,
        ),  # fmt: skip
        "swinv2_tiny_window8_256",
        WINDOWS,
        64,
        any_size=False,
    ),
    "resnet18": Case(partial(tv.resnet18, num_classes=10), "resnet18", TEN),
    "resnet50": Case(partial(tv.resnet50, num_classes=10), "resnet50", TEN),
    "efficientnet": Case(partial(tv.efficientnet_b0, num_classes=10), "efficientnet_b0", TEN, unfelt=8),
    "efficientnet_v2": Case(
        partial(tv.efficientnet_v2_s, num_classes=10), "efficientnetv2_s", {"bn_eps": 0.001, **TEN}, unfelt=8
    ),
    "regnet": Case(partial(tv.regnet_y_400mf, num_classes=10), "regnety_004", TEN),
}


@pytest.mark.parametrize("wrapped", [False, True], ids=["bare", "wrapped"])
@pytest.mark.parametrize("name", CASES)
def test_a_state_gives_the_librarys_outputs(tmp_path: Path, name: str, wrapped: bool) -> None:
    case = CASES[name]
    theirs = filled(case.made())
    for module in theirs.modules():
        if isinstance(module, ShiftedWindowAttentionV2):
            module.define_relative_position_bias_table()  # what places are is not drawn
    state = theirs.state_dict()
    content = (
        {"model": {f"module.{key}": tensor for key, tensor in state.items()}, "epoch": 1}
        if wrapped
        else state
    )
    torch.save(content, tmp_path / "w.pth")
    fields = {"arch": case.arch, "options": case.options}
    if case.any_size:
        fields["input_size"] = case.size
    ready = through_study(tmp_path, {"file": "w.pth"}, fields)
    assert error(ready.module, theirs, images(case.size)) < LARGEST_ERROR
    assert wrapped or len(unfelt(ready.module, images(case.size))) <= case.unfelt
    assert ready.weights.detail["fresh"] == []
    assert ready.weights.detail["read_under"] == ("model.module" if wrapped else "")
