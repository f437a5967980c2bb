"""Configs: what a `config.json` beside weights says of a model that the names and shapes of its tensors do not.

Owns: the comparison of heads, activation and norms with the built model, and what is said of images and of outputs.
Does not own: what a model gets (`preprocessing`), what outputs are compared with (`data/labels`), anything that a shape
tells (`checkpoints`).
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from timm.layers import get_act_fn
from torch import nn

from vitdsl.dsl.diagnostics import VitdslError
from vitdsl.dsl.study import Model, WeightsFile
from vitdsl.runtime.models import weight_files
from vitdsl.runtime.models.checkpoints import Misfit

Configs = Mapping[str, Mapping[str, Any]]
"""What the JSON files beside weights say, by their names."""
ACTIVATIONS = {
    "gelu": "gelu",
    "quick_gelu": "quick_gelu",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_new": "gelu_tanh",
    "silu": "silu",
    "relu": "relu",
}
"""Names that transformers has for activations, and timm's."""


RESAMPLING = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}
"""Pillow's numbers for interpolations, which transformers writes."""


def check_architecture(configs: Configs, arch: str) -> None:
    """Refuse a folder that timm saved of another architecture.

    Raises:
        Misfit: It is of another one.
    """
    saved = configs.get("config.json", {}).get("architecture")
    if isinstance(saved, str) and saved.partition(".")[0] != arch.partition(".")[0]:
        raise Misfit(f"the `config.json` beside it is of `{saved}`", f"write `arch: {saved}`")


def outputs_of(model: Model, folder: Path) -> tuple[str, ...]:
    """What the config beside a checkpoint calls the outputs of its classifier, where that is the model's; or nothing.

    Args:
        model: What the study names.
        folder: Where relative paths start.
    """
    weights = model.weights
    if not isinstance(weights, WeightsFile) or weights.head != "own" or model.train is not None:
        return ()
    try:
        config = weight_files.beside(weight_files.find(weights.file, folder), "config.json")
    except VitdslError:  # it is told where the file is read
        return ()
    saved = config.get("pretrained_cfg")
    names = config.get("label_names") or (saved.get("label_names") if isinstance(saved, Mapping) else None)
    if isinstance(names, list):
        return tuple(map(str, names))
    by_number = config.get("id2label")
    if not isinstance(by_number, Mapping) or {*by_number} != {*map(str, range(len(by_number)))}:
        return ()
    return tuple(str(by_number[str(number)]) for number in range(len(by_number)))


def vision_of(configs: Configs) -> Mapping[str, Any]:
    """What configs say of the model of images, in the words of transformers; empty where nothing is known."""
    config = configs.get("config.json", {})
    if "model_type" in config:
        found: Mapping[str, Any] = config.get("vision_config", config)
        return found
    model = configs.get("open_clip_config.json", {}).get("model_cfg") or {}
    vision = model.get("vision_cfg") or {}
    if not isinstance(vision.get("width"), int):
        return {}
    return {
        "num_attention_heads": vision["width"] // vision.get("head_width", 64),
        "hidden_act": "quick_gelu" if model.get("quick_gelu") else "gelu",
    }


def check(vision: Mapping[str, Any], module: nn.Module) -> list[str]:
    """Refuse a model that computes something else with the same tensors.

    Args:
        vision: What the config says of it, see `vision_of`.
        module: The model as timm built it.

    Returns:
        What differs by too little to matter, in words.

    Raises:
        Misfit: The number of heads or the activation differs.
    """
    heads = vision.get("num_attention_heads", vision.get("num_heads"))
    own = list(dict.fromkeys(_heads(module)))
    wanted = list(dict.fromkeys(heads)) if isinstance(heads, list) else [heads]
    if heads is not None and own and own != wanted:
        raise Misfit(
            f"the config beside it says {wanted} heads, the model has {own}",
            f"write `options: {{num_heads: {heads}}}`",
        )
    said = "silu" if vision.get("use_swiglu_ffn") else str(vision.get("hidden_act"))
    activation = ACTIVATIONS.get(said)
    x = torch.linspace(-4, 4, 65)
    for act in _activations(module):
        if activation is not None and not torch.allclose(act(x), get_act_fn(activation)(x), atol=1e-6):
            raise Misfit(
                f"the config beside it says activation `{said}`, the model has another",
                f"write `options: {{act_layer: {activation}}}`",
            )
    return _of_norms(vision.get("layer_norm_eps"), module)


def _heads(module: nn.Module) -> Iterator[int]:
    for part in module.modules():
        heads = getattr(part, "num_heads", None)
        if isinstance(heads, int) and hasattr(part, "qkv"):
            yield heads


def _activations(module: nn.Module) -> Iterator[nn.Module]:
    for name, part in module.named_modules():
        if name.endswith("mlp.act"):
            yield part


def _of_norms(eps: object, module: nn.Module) -> list[str]:
    own = {part.eps for part in module.modules() if isinstance(part, nn.LayerNorm)}
    if not isinstance(eps, float) or not own or own == {eps}:
        return []
    has = ", ".join(f"{one:g}" for one in sorted(own))
    return [f"its layer norms were made with eps {eps:g}, the model's have {has}"]


def images_of(configs: Configs) -> dict[str, Any]:
    """What configs say of images, in the words of `preprocess` of a model; empty where they say nothing."""
    theirs = configs.get("preprocessor_config.json", {})
    timm = configs.get("config.json", {}).get("pretrained_cfg") or {}
    clip = configs.get("open_clip_config.json", {}).get("preprocess_cfg") or {}
    names = ("mean", "std", "interpolation", "crop_pct", "crop_mode")
    found: dict[str, Any] = {
        name: source[name] for source in (timm, clip) for name in names if name in source
    }
    if theirs:
        found = {"mean": theirs.get("image_mean"), "std": theirs.get("image_std"), **_crop(theirs)}
        found["interpolation"] = RESAMPLING.get(theirs.get("resample", -1))
    return {name: value for name, value in found.items() if value is not None}


def _crop(theirs: Mapping[str, Any]) -> dict[str, Any]:
    """How an image processor of transformers comes to its size, where timm has words for it."""
    size, crop = theirs.get("size"), theirs.get("crop_size")
    if not isinstance(size, dict):
        return {}
    if theirs.get("do_center_crop") and isinstance(crop, dict):
        square = "shortest_edge" in size and crop.get("height") == crop.get("width")
        return {"crop_mode": "center", "crop_pct": crop["height"] / size["shortest_edge"]} if square else {}
    square = size.get("height") is not None and size.get("height") == size.get("width")
    return {"crop_mode": "squash", "crop_pct": 1.0} if square else {}
