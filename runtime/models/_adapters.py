"""Adapters: low-rank changes of weights (LoRA), as `peft` saves them, merged into the weights that they were made for.

Owns: reading an adapter and its `adapter_config.json`, and W + s B A. Does not own: where names of modules stand in
timm's models (`layouts`), laying the result over a model (`from_file`).
"""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vitdsl.dsl.text import ticked
from vitdsl.runtime.models import layouts, weight_files
from vitdsl.runtime.models.checkpoints import Misfit
from vitdsl.runtime.models.weight_files import Contents

LEAVE_WEIGHTS = (True, False, "gaussian", "eva", "orthogonal")
"""Ways to start an adapter that leave the weights as they are, so that the adapter can be added to them."""
_MERGE = "merge it where it was made: `model.merge_and_unload()`, and save that as the `file`"


def is_adapter(tensors: Mapping[str, Tensor]) -> bool:
    """Whether names are those of an adapter, not of weights."""
    return any(".lora_A." in name for name in tensors)


def merged(
    state: Mapping[str, Tensor], path: Path, own: Mapping[str, Tensor], heads: tuple[str, ...]
) -> tuple[dict[str, Tensor], list[str]]:
    """A state with an adapter merged into it.

    Args:
        state: Tensors by timm's names.
        path: The adapter's file; its config is beside it.
        own: The state of the model that they are for; its values are not read.
        heads: How the names of its classifiers start.

    Returns:
        The state with changed tensors, and what was done, in words.

    Raises:
        Misfit: The adapter is of a kind that is not a sum, or changes what the weights do not have.
    """
    config = _checked(weight_files.beside(path, weight_files.ADAPTER_CONFIG))
    changes, replaced = _parts(weight_files.read(path).tensors, config)
    reading = layouts.read(Contents(changes, {"": len(changes)}, {}), own, heads, None, partial=True)
    found = dict(state)
    for name, change in reading.state.items():
        if name not in state or state[name].shape != change.shape:
            raise Misfit(f"the adapter changes `{name}` {list(change.shape)}, which the file does not have")
        found[name] = (state[name].double() + change).to(torch.float32)
    taken = layouts.like(reading, replaced, own)
    if strange := [name for name in taken if name not in own]:
        raise Misfit(f"the adapter has {ticked(strange)}, which the model does not")
    done = f"{len(reading.state)} tensors changed by the adapter"
    return {**found, **taken}, [f"{done}, {len(taken)} taken from it" if taken else done]


def _checked(config: Mapping[str, Any]) -> Mapping[str, Any]:
    if not config:
        raise Misfit(
            f"there is no `{weight_files.ADAPTER_CONFIG}` beside the adapter, which says how much it changes"
        )
    if config.get("peft_type") != "LORA":
        raise Misfit(f"the adapter is of type `{config.get('peft_type')}`; `LORA` is read", _MERGE)
    for field in ("use_dora", "fan_in_fan_out", "lora_bias"):
        if config.get(field):
            raise Misfit(
                f"the adapter was made with `{field}`, which is no sum of weights and changes", _MERGE
            )
    if config.get("init_lora_weights", True) not in LEAVE_WEIGHTS:
        raise Misfit(
            f"`init_lora_weights: {config['init_lora_weights']}` changed the weights themselves", _MERGE
        )
    return config


def _parts(
    tensors: Mapping[str, Tensor], config: Mapping[str, Any]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """What is added to weights, and what takes their place, by the names of the adapted modules."""
    changes, replaced = {}, {}
    for name, tensor in tensors.items():
        module, down, rest = name.partition(".lora_A.weight")
        if down and not rest:
            up = tensors.get(f"{module}.lora_B.weight")
            if up is None:
                raise Misfit(f"the adapter has `{name}` and no `lora_B` of it")
            changes[f"{module}.weight"] = _scale(module, len(tensor), config) * _product(up, tensor)
        elif "lora_" not in name:
            replaced[name] = tensor
        elif not name.endswith(".lora_B.weight"):
            raise Misfit(f"the adapter has `{name}`, which is no part of a sum", _MERGE)
    if not changes:
        raise Misfit("the adapter changes nothing: it has no `lora_A`")
    return changes, replaced


def _product(up: Tensor, down: Tensor) -> Tensor:
    """B A in float64, for linear layers and convolutions."""
    flat = up.double().reshape(len(up), -1) @ down.double().reshape(len(down), -1)
    return flat.reshape(len(up), *down.shape[1:])


def _scale(module: str, rank: int, config: Mapping[str, Any]) -> float:
    """How much of the product is added: alpha over the rank, or over its root."""
    alphas: Mapping[str, float] = config.get("alpha_pattern") or {}
    try:
        own = [alpha for name, alpha in alphas.items() if re.match(rf"(.*\.)?({name})$", module)]
    except re.error as error:
        raise Misfit(f"`alpha_pattern` of the adapter is no pattern: {error}") from error
    alpha = float(own[0] if own else config.get("lora_alpha", rank))
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
