"""Checkpoints of Hugging Face transformers: its models, saved by itself, give the same outputs here."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from foreign import LARGEST_ERROR, error, filled, images, through_study, unfelt
from vitdsl.dsl.diagnostics import EnvironmentProblem

hf = pytest.importorskip("transformers")

VIT = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 96,
    "image_size": 32,
    "patch_size": 8,
    "layer_norm_eps": 1e-6,
}
OURS = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "num_heads": 3, "depth": 2}
HIERARCHY = {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 2, 1, 1]}
WINDOWS = {"embed_dim": 16, "depths": [2, 1, 1], "num_heads": [1, 2, 4], "window_size": 4}
"""Of models with windows, alike in both libraries."""


class Case(NamedTuple):
    """A model of transformers and the same one of timm."""

    model: str
    config: Mapping[str, Any]
    output: Callable[[Any], Tensor]
    arch: str
    options: Mapping[str, Any]
    size: int = 32
    input_size: int | None = None


def logits(found: Any) -> Tensor:
    return found.logits


def pooled(found: Any) -> Tensor:
    return found.pooler_output


def first_token(found: Any) -> Tensor:
    return found.last_hidden_state[:, 0]


def without(fields: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if key != name}


TEN = {"num_classes": 10}
NONE = {"num_classes": 0}
DINO = without(VIT, "intermediate_size")
CASES = {
    "vit": Case(
        "ViTForImageClassification",
        {**VIT, "num_labels": 10},
        logits,
        "vit_tiny_patch16_224",
        {**OURS, **TEN},
    ),
    "vit_bare": Case("ViTModel", VIT, first_token, "vit_tiny_patch16_224", {**OURS, **NONE}),
    "deit": Case(
        "DeiTForImageClassificationWithTeacher",
        {**VIT, "num_labels": 10},
        logits,
        "deit_tiny_distilled_patch16_224",
        {**OURS, **TEN},
    ),
    "beit": Case(
        "BeitForImageClassification",
        {**VIT, "num_labels": 10, "use_relative_position_bias": True},
        logits,
        "beit_base_patch16_224",
        {**OURS, **TEN},
    ),
    "dinov2": Case("Dinov2Model", DINO, first_token, "vit_small_patch14_dinov2", {**OURS, **NONE}),
    "dinov2_gated": Case(
        "Dinov2Model",
        {**DINO, "use_swiglu_ffn": True},
        first_token,
        "vit_giant_patch14_dinov2",
        {**OURS, **NONE, "mlp_ratio": 5.34},
    ),
    "dinov2_registers": Case(
        "Dinov2WithRegistersModel", DINO, first_token, "vit_small_patch14_reg4_dinov2", {**OURS, **NONE}
    ),
    "dinov3": Case(
        "DINOv3ViTModel",
        {**VIT, "layer_norm_eps": 1e-5, "num_register_tokens": 4},
        first_token,
        "vit_small_patch16_dinov3_qkvb",
        {**OURS, **NONE, "global_pool": "token"},
    ),
    "siglip": Case(
        "SiglipVisionModel",
        VIT,
        pooled,
        "vit_base_patch16_siglip_224",
        {**OURS, **NONE, "act_layer": "gelu_tanh"},
    ),
    "clip": Case(
        "CLIPVisionModelWithProjection",
        {**VIT, "layer_norm_eps": 1e-5, "projection_dim": 10},
        lambda found: found.image_embeds,
        "vit_base_patch16_clip_quickgelu_224",
        {**OURS, **TEN},
    ),
    "convnext": Case(
        "ConvNextForImageClassification",
        {**HIERARCHY, "num_labels": 10, "layer_norm_eps": 1e-6},
        logits,
        "convnext_tiny",
        {"dims": HIERARCHY["hidden_sizes"], "depths": HIERARCHY["depths"], **TEN},
        64,
        64,
    ),
    "convnextv2": Case(
        "ConvNextV2ForImageClassification",
        {**HIERARCHY, "num_labels": 10, "layer_norm_eps": 1e-6},
        logits,
        "convnextv2_atto",
        {"dims": HIERARCHY["hidden_sizes"], "depths": HIERARCHY["depths"], **TEN},
        64,
        64,
    ),
    "swin": Case(
        "SwinForImageClassification",
        {"image_size": 64, **WINDOWS, "num_labels": 10},
        logits,
        "swin_tiny_patch4_window7_224",
        {"img_size": 64, **WINDOWS, **TEN},
        64,
    ),
    "swin_v2": Case(
        "Swinv2ForImageClassification",
        {"image_size": 64, **WINDOWS, "num_labels": 10},
        logits,
        "swinv2_tiny_window8_256",
        {"img_size": 64, **WINDOWS, **TEN},
        64,
    ),
    "resnet": Case(
        "ResNetForImageClassification",
        {
            "num_labels": 10,
            "depths": [1, 2, 1, 1],
            "hidden_sizes": [256, 512, 1024, 2048],
            "embedding_size": 64,
        },
        logits,
        "resnet50",
        {"layers": [1, 2, 1, 1], **TEN},
        32,
        32,
    ),
    "resnet_basic": Case(
        "ResNetForImageClassification",
        {
            "num_labels": 10,
            "depths": [2, 2, 2, 2],
            "hidden_sizes": [64, 128, 256, 512],
            "embedding_size": 64,
            "layer_type": "basic",
        },
        logits,
        "resnet18",
        TEN,
        32,
        32,
    ),
}


def built(case: Case, seed: int = 0) -> Any:
    made = getattr(hf, case.model)
    return filled(made(made.config_class(**case.config)), seed)


def fields(case: Case, **options: Any) -> dict[str, Any]:
    found = {"arch": case.arch, "options": {**case.options, **options}}
    return {**found, "input_size": case.input_size} if case.input_size else found


@pytest.mark.parametrize("name", CASES)
def test_a_folder_gives_the_librarys_outputs(tmp_path: Path, name: str) -> None:
    case = CASES[name]
    theirs = built(case)
    theirs.save_pretrained(tmp_path)
    ready = through_study(tmp_path, {"file": "."}, fields(case))
    assert error(ready.module, lambda x: case.output(theirs(x)), images(case.size)) < LARGEST_ERROR
    assert unfelt(ready.module, images(case.size)) == []
    assert ready.weights.detail["fresh"] == []
    assert "names of transformers made timm's" in ready.weights.detail["notes"]


@pytest.mark.parametrize("name", ["vit", "beit", "dinov2_gated", "dinov3", "swin", "swin_v2"])
def test_names_of_its_modules_are_known_too(tmp_path: Path, name: str) -> None:
    """Since version 5 a module's names are not those of its files: training scripts save the former."""
    case = CASES[name]
    theirs = built(case)
    torch.save(
        {"state_dict": {f"net.{key}": value for key, value in theirs.state_dict().items()}}, tmp_path / "w.pt"
    )
    ready = through_study(tmp_path, {"file": "w.pt"}, fields(case))
    assert error(ready.module, lambda x: case.output(theirs(x)), images(case.size)) < LARGEST_ERROR


def test_towers_of_images_and_texts(tmp_path: Path) -> None:
    """Of a model with two towers that of images is read, and its projection is the classifier."""
    text = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 96}
    case = CASES["clip"]
    vision = without(case.config, "projection_dim")
    config = hf.CLIPConfig(
        text_config={**text, "vocab_size": 50, "bos_token_id": 1, "eos_token_id": 2},
        vision_config=vision,
        projection_dim=10,
    )
    theirs = filled(hf.CLIPModel(config))
    theirs.save_pretrained(tmp_path)
    ready = through_study(tmp_path, {"file": "."}, fields(case))
    x = images()
    wanted = theirs.visual_projection(theirs.vision_model(x).pooler_output)
    assert error(ready.module, lambda _: wanted, x) < LARGEST_ERROR
    assert ready.weights.detail["read_under"] == "vision_model"


def test_shards_of_the_library(tmp_path: Path) -> None:
    theirs = built(CASES["vit"])
    theirs.save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    ready = through_study(tmp_path, {"file": "."}, fields(CASES["vit"]))
    assert error(ready.module, lambda x: theirs(x).logits, images()) < LARGEST_ERROR


@pytest.mark.parametrize(
    ("name", "options", "text"),
    [
        ("vit", {"num_heads": 2}, r"says \[3\] heads, the model has \[2\].*write `options: {num_heads: 3}"),
        ("siglip", {"act_layer": "gelu"}, "activation `gelu_pytorch_tanh`.*act_layer: gelu_tanh"),
        ("vit", {"num_classes": 7}, r"not one of 7 classes: it has .*num_classes: 10"),
        ("vit", {"depth": 3}, "lacks `blocks.2.norm1.weight`"),
        ("dinov3", {"qkv_bias": False}, "has besides `blocks.0.attn.q_bias`"),
    ],
)
def test_what_computes_something_else_is_refused(
    tmp_path: Path, name: str, options: dict[str, Any], text: str
) -> None:
    built(CASES[name]).save_pretrained(tmp_path)
    with pytest.raises(EnvironmentProblem, match=f"VD405 .*{text}"):
        through_study(tmp_path, {"file": "."}, fields(CASES[name], **options))


def test_another_eps_is_said(tmp_path: Path) -> None:
    case = CASES["vit"]._replace(config={**CASES["vit"].config, "layer_norm_eps": 1e-12})
    built(case).save_pretrained(tmp_path)
    ready = through_study(tmp_path, {"file": "."}, fields(case))
    assert any("eps 1e-12, the model's have 1e-06" in note for note in ready.weights.detail["notes"])


def test_its_position_embeddings_are_resized(tmp_path: Path) -> None:
    built(CASES["vit"]).save_pretrained(tmp_path)
    ready = through_study(tmp_path, {"file": "."}, fields(CASES["vit"], img_size=64))
    assert "`pos_embed` made [1, 65, 24] from [1, 17, 24] as timm does" in ready.weights.detail["notes"]
