"""Checkpoints of open_clip, whose names are OpenAI's: image towers saved from itself give the same outputs here."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from foreign import LARGEST_ERROR, error, filled, images, through_study
from vitdsl.dsl.diagnostics import EnvironmentProblem

open_clip = pytest.importorskip("open_clip")

VISION = {"image_size": 32, "layers": 2, "width": 24, "head_width": 8, "patch_size": 8}
TEXT = {"context_length": 8, "vocab_size": 50, "width": 16, "heads": 2, "layers": 1}
OURS = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "num_heads": 3, "depth": 2, "num_classes": 10}
QUICK = {"arch": "vit_base_patch16_clip_quickgelu_224", "options": OURS}
PLAIN = {"arch": "vit_base_patch16_clip_224", "options": OURS}


def clip(quick_gelu: bool = True, **vision: Any) -> nn.Module:
    model = open_clip.model.CLIP(10, {**VISION, **vision}, TEXT, quick_gelu=quick_gelu)
    return filled(model)  # type: ignore[no-any-return]


@pytest.mark.parametrize(("quick", "fields"), [(True, QUICK), (False, PLAIN)])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_the_image_tower_and_its_projection(
    tmp_path: Path, quick: bool, fields: dict[str, Any], prefix: str
) -> None:
    theirs = clip(quick)
    torch.save(
        {"state_dict": {prefix + key: value for key, value in theirs.state_dict().items()}}, tmp_path / "w.pt"
    )
    ready = through_study(tmp_path, {"file": "w.pt"}, fields)
    assert error(ready.module, theirs.encode_image, images()) < LARGEST_ERROR
    assert ready.weights.detail["read_under"] == f"state_dict.{prefix}visual"


def test_the_tower_alone_without_its_projection(tmp_path: Path) -> None:
    theirs = clip()
    torch.save(theirs.visual.state_dict(), tmp_path / "w.pt")
    fields = {**QUICK, "options": {**OURS, "num_classes": 0}}
    ready = through_study(tmp_path, {"file": "w.pt"}, fields)
    found = ready.module
    assert error(lambda x: found(x) @ theirs.visual.proj, theirs.encode_image, images()) < LARGEST_ERROR


@pytest.mark.parametrize(
    ("arch", "size", "options"),
    [
        ("vit_tiny_patch16_224", 224, {"img_size": 224, "num_classes": 10}),
        ("convnext_atto", 64, {"num_classes": 10}),
    ],
)
def test_a_tower_of_timm_with_a_projection_above(
    tmp_path: Path, arch: str, size: int, options: dict[str, Any]
) -> None:
    vision = {"timm_model_name": arch, "timm_pool": "", "timm_proj": "linear", "image_size": size}
    theirs = filled(open_clip.model.CLIP(10, vision, TEXT))
    torch.save(theirs.state_dict(), tmp_path / "w.pt")
    fields = {"arch": arch, "options": options}
    if "img_size" not in options:
        fields["input_size"] = size
    ready = through_study(tmp_path, {"file": "w.pt"}, fields)
    assert error(ready.module, theirs.encode_image, images(size)) < LARGEST_ERROR
    assert ready.weights.detail["read_under"] == "visual.trunk"


def test_its_config_is_compared(tmp_path: Path) -> None:
    save_file(clip().state_dict(), tmp_path / "open_clip_model.safetensors")
    config = {"embed_dim": 10, "quick_gelu": True, "vision_cfg": VISION, "text_cfg": TEXT}
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}))
    assert through_study(tmp_path, {"file": "."}, QUICK).weights.detail["fresh"] == []
    with pytest.raises(EnvironmentProblem, match="VD405 .*activation `quick_gelu`.*act_layer: quick_gelu"):
        through_study(tmp_path, {"file": "."}, PLAIN)
    with pytest.raises(EnvironmentProblem, match=r"VD405 .*says \[3\] heads, the model has \[2\]"):
        through_study(tmp_path, {"file": "."}, {**QUICK, "options": {**OURS, "num_heads": 2}})
