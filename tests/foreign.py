"""Checkpoints of other libraries and projects: written from their own modules, read through a study, compared.

Owns what the tests of checkpoints share. Does not own the layouts: each test builds its own.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn

from studies import TINY_VIT, changed, study
from vitdsl.dsl.load import load_source
from vitdsl.runtime.models.loading import LoadedModel, load
from vitdsl.runtime.plan.bind import bind

LARGEST_ERROR = 1e-5
"""The largest difference of two outputs, in units of the largest output."""

DATA = "{photos: {source: digits, split: test, images: 8, batch: 4}}"


def filled(module: Any, seed: int = 0) -> Any:
    """A module in eval mode with every tensor of its state drawn, so that each of them matters."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in module.state_dict().items():
            if value.is_floating_point():
                drawn = torch.randn(value.shape, generator=generator)
                if "running_var" in name or (value.ndim == 1 and not name.endswith(("bias", "running_mean"))):
                    value.copy_(0.5 + 0.2 * drawn.abs())
                else:
                    value.copy_(drawn * (1.4 / value[0].numel() ** 0.5 if value.ndim in (2, 4) else 0.2))
    return module.eval()


def unfelt(module: nn.Module, x: Tensor, less: float = LARGEST_ERROR) -> list[str]:
    """Of up to 80 tensors those whose reversal changes the output by less than a share: a wrong one would not show."""
    found = []
    with torch.no_grad():
        wanted = module(x)
        state = [one for one in module.state_dict().items() if one[1].is_floating_point()]
        for name, value in state[:: 1 + len(state) // 80]:
            if float(value.std()) > 0:
                old = value.clone()
                value.copy_(old.flatten().flip(0).reshape(old.shape))
                if float((module(x) - wanted).abs().max() / wanted.abs().max()) < less:
                    found.append(name)
                value.copy_(old)
    return found


def tiny(seed: int = 0, **options: Any) -> nn.Module:
    """timm's small ViT, filled."""
    return filled(timm.create_model("vit_tiny_patch16_224", **{**TINY_VIT["options"], **options}), seed)


def through_study(
    folder: Path, weights: Mapping[str, Any] | str, model: Mapping[str, Any] = TINY_VIT
) -> LoadedModel:
    """A model whose weights a study in `folder` names."""
    path = folder / "study.yaml"
    fields = changed(model, weights=weights)
    headless = dict(fields.get("options", {})).get("num_classes") == 0
    kind = "skip_ratio" if headless else "answers"
    metrics = f"{{numbers: {{kind: {kind}, of: net}}}}"
    path.write_text(study("foreign", data=DATA, models={"net": fields}, metrics=metrics))
    plan = bind(load_source(path))
    return load(plan.models["net"].entry, seed=0, folder=folder)


def images(size: int = 32, channels: int = 3) -> Tensor:
    """Two noise images."""
    return torch.randn(2, channels, size, size, generator=torch.Generator().manual_seed(9))


def error(ours: Callable[[Tensor], Tensor], theirs: Callable[[Tensor], Tensor], x: Tensor) -> float:
    """The largest difference of the outputs for `x`, in units of the largest output."""
    with torch.no_grad():
        found, wanted = ours(x), theirs(x)
    assert found.shape == wanted.shape and float(wanted.abs().max()) > 0
    return float((found - wanted).abs().max() / wanted.abs().max())
