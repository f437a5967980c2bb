"""Configs: what a `config.json` beside weights says of a model that the names and shapes of its tensors do not.

Owns: the comparison of heads, activation and norms with the built model. Does not own: the preprocessing of a folder
(`preprocessing`), anything that a shape tells (`checkpoints`).
"""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from timm.layers import get_act_fn
from torch import nn

from vitdsl.runtime.models.checkpoints import Misfit

ACTIVATIONS = {
    "gelu": "gelu",
    "quick_gelu": "quick_gelu",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_new": "gelu_tanh",
    "silu": "silu",
    "relu": "relu",
}
"""Names that transformers has for activations, and timm's."""


def check_architecture(config: Mapping[str, Any], arch: str) -> None:
    """Refuse a folder that timm saved of another architecture.

    Raises:
        Misfit: It is of another one.
    """
    saved = config.get("architecture")
    if isinstance(saved, str) and saved.partition(".")[0] != arch.partition(".")[0]:
        raise Misfit(f"the `config.json` beside it is of `{saved}`", f"write `arch: {saved}`")


def vision_of(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a config says of the model of images, in the words of transformers; empty where nothing is known."""
    if "model_type" in config:
        found: Mapping[str, Any] = config.get("vision_config", config)
        return found
    model = (config.get("open_clip") or {}).get("model_cfg") or {}
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
