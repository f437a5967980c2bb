"""Models from files of weights: from `weights: {file: ...}` to a timm module, and what is said of it.

Owns: the order of reading, laying and checking, the classifier that must fit or be drawn, and the errors. Does not
own: files (`weight_files`), names (`layouts`), the comparison (`checkpoints`), other origins of weights (`loading`).
"""

from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from vitdsl.dsl.diagnostics import Diagnostic, EnvironmentProblem, VitdslError
from vitdsl.dsl.emit import flow
from vitdsl.dsl.study import Model, WeightsFile
from vitdsl.dsl.text import ticked
from vitdsl.runtime.full import is_memory
from vitdsl.runtime.models import _adapters, architectures, checkpoints, configs, layouts, weight_files
from vitdsl.runtime.models._clip import TIMM
from vitdsl.runtime.models.checkpoints import Fit, Misfit
from vitdsl.runtime.models.layouts import Reading
from vitdsl.runtime.models.preprocessing import Preprocessing, preprocessing
from vitdsl.runtime.models.weight_files import Contents

RGB = 3


def load(model: Model, weights: WeightsFile, folder: Path) -> tuple[nn.Module, dict[str, Any]]:
    """Build a model with the weights of a file.

    Args:
        model: What the study names.
        weights: Its weights.
        folder: Where relative paths start.

    Returns:
        The module, and what is said of its weights: `file`, `adapter`, their hashes, `key`, `head`, `read_under`,
        `beside` (what else the file holds), `fresh`, `unused`, `notes`.

    Raises:
        EnvironmentProblem: The file is missing (VD401), or does not fit (VD405).
    """
    path = weight_files.find(weights.file, folder)
    adapter = weight_files.find(weights.adapter, folder, "adapter") if weights.adapter else None
    planned = architectures.on_meta(model)
    heads = tuple(f"{name}." for name in checkpoints.heads_of(planned))
    try:
        contents = weight_files.read(path)
        configs.check_architecture(contents.configs, model.arch)
        if _adapters.is_adapter(contents.tensors):
            raise Misfit("it is an adapter", "name what it was made for: `{file: BASE, adapter: ADAPTER}`")
        reading = layouts.read(contents, planned.state_dict(), heads, weights.key)
        state = reading.state
        done: list[str] = []
        if adapter is not None:
            state, done = _adapters.merged(state, adapter, planned.state_dict(), heads)
        if weights.head == "fresh":
            state = {name: tensor for name, tensor in state.items() if not name.startswith(heads)}
        module, fit = _laid(model, planned, state)
        if fit.fresh and weights.head == "own" and model.train is None:
            raise _no_classifier(fit, planned)
        notes = [
            *reading.notes,
            *done,
            *_other_images(contents, preprocessing(module, model)),
            *_resized(state, module),
            *_computed_alike(contents, reading, module),
        ]
    except Misfit as error:
        raise _does_not_fit(model, weights, error) from error
    return module, {
        "file": str(path),
        **weight_files.identity(weights, folder),
        **({"adapter": str(adapter)} if adapter else {}),
        "read_under": reading.prefix.rstrip("."),
        "beside": reading.beside,
        "fresh": fit.fresh,
        "unused": [*fit.unused, *reading.unused],
        "notes": notes,
    }


def with_adapter(
    model: Model, module: nn.Module, adapter: str, folder: Path
) -> tuple[nn.Module, dict[str, Any]]:
    """A model of the hub with an adapter merged into its weights.

    Args:
        model: What the study names.
        module: With the weights of the repository.
        adapter: As the study has it.
        folder: Where relative paths start.

    Returns:
        The module, and what is said of it: `adapter`, its hash, `notes`; `changed`, the names of the tensors that the
        adapter fills or changes.

    Raises:
        EnvironmentProblem: The adapter is missing (VD401), or does not fit (VD405).
    """
    path = weight_files.find(adapter, folder, "adapter")
    heads = tuple(f"{name}." for name in checkpoints.heads_of(module))
    planned = architectures.on_meta(model)
    try:
        own = dict(module.state_dict())
        state, notes = _adapters.merged(own, path, planned.state_dict(), heads)
        module.load_state_dict(state)
    except (Misfit, RuntimeError) as error:
        if is_memory(error):
            raise
        wrong = error if isinstance(error, Misfit) else Misfit(str(error).splitlines()[-1].strip())
        raise EnvironmentProblem(
            Diagnostic(
                "VD405",
                f"the adapter `{adapter}` does not fit `{model.arch}`: {wrong}",
                label="does not fit",
                help=wrong.help or ("give the `arch` and `options` that the adapter was trained with",),
                about=(("weights", "adapter"), ("weights",)),
            )
        ) from error
    return module, {
        "adapter": str(path),
        "adapter_sha256": weight_files.adapter_digest(path),
        "notes": notes,
        "changed": [name for name, tensor in state.items() if tensor is not own.get(name)],
    }


def _laid(model: Model, planned: nn.Module, state: dict[str, Tensor]) -> tuple[nn.Module, Fit]:
    """The module with tensors laid over it as timm does with those of its own checkpoints."""
    classes = planned.num_classes
    cfg: dict[str, Any] = planned.pretrained_cfg  # type: ignore[assignment]
    overlay: dict[str, Any] = {"state_dict": state, "num_classes": classes, "custom_load": False}
    more: dict[str, Any] = {}
    if (channels := _channels(cfg, state)) != RGB:
        overlay["input_size"] = (channels, *cfg["input_size"][1:])
        more["in_chans"] = RGB
    with checkpoints.fitting(strict=True) as fit:
        try:
            module = architectures.create(
                model, pretrained=True, pretrained_cfg_overlay=overlay, num_classes=classes, **more
            )
        except (VitdslError, Misfit):
            raise
        except Exception as error:  # timm's filters raise anything on tensors that are not what they expect
            if is_memory(error):
                raise
            raise Misfit(_stopped(planned, state, error)) from error
    built: dict[str, Any] = module.pretrained_cfg  # type: ignore[assignment]
    built["input_size"] = cfg["input_size"]
    built.pop("state_dict", None)
    return module, fit


def _stopped(planned: nn.Module, state: dict[str, Tensor], error: Exception) -> str:
    """What differs, as far as names tell, where timm's filters do not come to an end."""
    own = planned.state_dict()
    lines = str(error).strip().splitlines() or [type(error).__name__]
    found = (
        checkpoints.some("lacks", [name for name in own if name not in state]),
        checkpoints.some("has besides", [name for name in state if name not in own]),
        f"timm's filter stops: {lines[0].partition('. ')[0].rstrip('.:')}",
    )
    return "; ".join(text for text in found if text)


def _channels(cfg: dict[str, Any], state: dict[str, Tensor]) -> int:
    """The number of channels that the checkpoint's first convolution takes, three where it is not seen."""
    first = cfg.get("first_conv")
    found = state.get(f"{first}.weight") if isinstance(first, str) else None
    return int(found.shape[1]) if found is not None and found.ndim == 4 else RGB


def _resized(state: dict[str, Tensor], module: nn.Module) -> list[str]:
    """What timm's filters made fit: another grid of positions, other patches, other channels."""
    own = module.state_dict()
    return [
        f"`{name}` made {list(own[name].shape)} from {list(tensor.shape)} as timm does"
        for name, tensor in state.items()
        if name in own
        and own[name].numel() != tensor.numel()
        and not name.startswith(checkpoints.heads_of(module))
    ]


def _computed_alike(contents: Contents, reading: Reading, module: nn.Module) -> list[str]:
    """What is known of what shapes do not tell, where the names were not timm's."""
    if reading.naming is TIMM:
        return []
    if vision := configs.vision_of(contents.configs):
        return configs.check(vision, module)
    return ["heads, activation and eps of norms are not in the file: the model's own are taken"]


def _other_images(contents: Contents, used: Preprocessing) -> list[str]:
    """What the files beside the weights say of images and is not what the model gets."""
    told, facts = configs.images_of(contents.configs), used.facts()
    other = {name: value for name, value in told.items() if not _alike(facts[name], value)}
    return (
        [f"files beside it say of images `preprocess: {flow(other)}`, which is not what is done"]
        if other
        else []
    )


def _alike(ours: Any, theirs: Any) -> bool:
    if isinstance(theirs, str):
        return bool(ours == theirs)
    return bool(np.shape(ours) == np.shape(theirs) and np.allclose(ours, theirs))


def _no_classifier(fit: Fit, planned: nn.Module) -> Misfit:
    found = [f"`{name}` {shape}" for name, shape in fit.left_out.items()]
    rows = {shape[0] for name, shape in fit.left_out.items() if name.endswith("weight")}
    rows.discard(getattr(planned, "num_classes", None))
    return Misfit(
        f"its classifier is not one of {planned.num_classes} classes: "
        f"{'it has ' + ', '.join(found) if found else 'it lacks ' + ticked(fit.fresh)}",
        f"write `options: {{num_classes: {rows.pop()}}}`"
        if len(rows) == 1
        else "write `options: {num_classes: 0}`",
        "or have a new one drawn at random: `weights: {file: ..., head: fresh}`",
    )


def _does_not_fit(model: Model, weights: WeightsFile, error: Misfit) -> EnvironmentProblem:
    return EnvironmentProblem(
        Diagnostic(
            "VD405",
            f"the checkpoint `{weights.file}` does not fit `{model.arch}`: {error}",
            label="does not fit",
            notes=(f"options of the model: {flow(model.options) if model.options else 'none'}",),
            help=error.help or ("give the `arch` and `options` that the checkpoint was trained with",),
            about=weight_files.WRITTEN_AT,
        )
    )
