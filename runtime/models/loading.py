"""Models: from what a study names to a timm module with its weights.

Owns: the skeleton (meta device, no weights, no network) and the origins of weights. Does not own: what
`create_model` takes (`architectures`), files of weights (`from_file`), how a checkpoint is laid over a module
(`checkpoints`), which images a model takes (`preprocessing`), training (`train`), stored weights (`store`). No model is
changed beyond what timm's `create_model` does.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from timm.models import load_model_config_from_hf
from torch import nn

from vitdsl.dsl.diagnostics import Diagnostic, EnvironmentProblem, StudyError, VitdslError
from vitdsl.dsl.emit import flow
from vitdsl.dsl.study import Model, WeightsFile, WeightsHub
from vitdsl.runtime.full import is_memory
from vitdsl.runtime.models import architectures, checkpoints, from_file, plugins
from vitdsl.runtime.models.fingerprint import structure
from vitdsl.runtime.models.plugin_weights import with_weights
from vitdsl.runtime.models.preprocessing import Preprocessing, preprocessing
from vitdsl.runtime.randomness import isolated


@dataclass(frozen=True)
class WeightsRecord:
    """Where weights come from.

    Attributes:
        origin: `pretrained`, `random`, `file`, `hub` or `trained`.
        sha256: Hash of the loaded state: names, types, shapes and bytes in the order of the names.
        detail: What more there is to say, ready for JSON: seed, path and hash of a file, `fresh` (parameters
            that the checkpoint does not hold: drawn at random), `unused` (those that found no place).
    """

    origin: str
    sha256: str
    detail: dict[str, Any]


@dataclass(frozen=True)
class LoadedModel:
    """A module in float32 on the CPU, in eval mode, without gradients, and what it takes.

    `structure` is the hash of what it computes beside its state, where `arch` and `options` do not say it.
    """

    module: nn.Module
    config: Preprocessing
    weights: WeightsRecord
    arch: str
    options: dict[str, Any]
    structure: str = ""


def skeleton(model: Model) -> nn.Module:
    """Build a model on the meta device: its structure, without weights, memory or network.

    Raises:
        StudyError: Unknown architecture or tag (VD230), an option that it does not take (VD231), no
            pretrained weights (VD232), an input size that it does not take (VD233).
    """
    architectures.check(model)
    module = architectures.on_meta(model)
    preprocessing(module, model)
    return module.eval().requires_grad_(False)


def with_numbers(model: Model) -> nn.Module:
    """Build a model with random weights: for what only a run tells of one whose program cannot be followed."""
    with isolated(start_seed(model, 0)):
        return architectures.create(model).cpu().float().eval().requires_grad_(False)


def load(model: Model, *, seed: int, folder: Path) -> LoadedModel:
    """Build a model with its weights; of a model that is trained, those that it starts from.

    Args:
        model: What the study names.
        seed: The study's, for what is drawn at random without a seed of its own.
        folder: Where relative paths start.

    Raises:
        StudyError: As `skeleton`; weights that do not fit the options (VD405).
        EnvironmentProblem: A checkpoint is missing (VD401), does not fit (VD405), cannot be fetched (VD406), holds
            values that are not finite (VD416).
    """
    architectures.check(model)
    weights = model.weights
    if weights is None:
        if model.train is None:
            raise StudyError(_no_weights(model))
        weights = "random"
    seed = start_seed(model, seed)
    with isolated(seed):
        if plugins.is_named(model.arch):
            module, detail = with_weights(model, folder)
        elif isinstance(weights, WeightsFile):
            module, detail = from_file.load(model, weights, folder)
        elif isinstance(weights, WeightsHub):
            module, detail = _hub(model, weights, folder)
        elif weights == "pretrained":
            module, detail = _pretrained(model)
        else:
            module, detail = architectures.create(model), {}
    if weights == "random" or detail.get("fresh"):
        detail["seed"] = seed
    origin = weights if isinstance(weights, str) else next(iter(type(weights).model_fields))
    return finish(module, model, origin, detail)


def finish(
    module: nn.Module,
    model: Model,
    origin: str,
    detail: dict[str, Any],
    *,
    config: Preprocessing | None = None,
) -> LoadedModel:
    """Put a module in its final state (float32, CPU, eval, no gradients), and record its weights.

    Args:
        module: The module with its weights.
        model: What the study says of it.
        origin: Where the weights come from.
        detail: What more there is to say of them.
        config: What images go through before it; None asks the module.
    """
    module = module.cpu().float().eval().requires_grad_(False)
    _check_finite(module, model)
    record = WeightsRecord(origin, checkpoints.digest(module), detail)
    config = config or preprocessing(module, model)
    own = structure(module, config.input_size) if plugins.is_named(model.arch) else ""
    return LoadedModel(module, config, record, model.what, dict(model.options), own)


def _check_finite(module: nn.Module, model: Model) -> None:
    """Every weight is a number; a NaN in one would be a NaN in every result."""
    for name, tensor in module.state_dict().items():
        bad = int((~torch.isfinite(tensor)).sum()) if tensor.is_floating_point() else 0
        if bad:
            raise EnvironmentProblem(
                Diagnostic(
                    "VD416",
                    f"the weights of `{model.what}` are not finite: {bad:,} of {tensor.numel():,} values of `{name}`",
                    label="not finite",
                    help=("take an earlier checkpoint, or train again with a smaller learning rate",),
                    about=(("weights", "file"), ("weights",), ("train",), ("arch",), ("given",)),
                )
            )


def start_seed(model: Model, seed: int) -> int:
    """The seed of a model's random start: its own, else its training's, else the study's."""
    for own in (model.seed, model.train.seed if model.train else None):
        if own is not None:
            return own
    return seed


def model_facts(loaded: LoadedModel) -> dict[str, Any]:
    """What the manifest says of a model."""
    weights = loaded.weights
    return {
        "arch": loaded.arch,
        "options": loaded.options,
        "parameters": sum(parameter.numel() for parameter in loaded.module.parameters()),
        "weights": {"source": weights.origin, "sha256": weights.sha256, "detail": weights.detail},
        "preprocessing": loaded.config.facts(),
    }


def _pretrained(model: Model, what: str | None = None, **more: Any) -> tuple[nn.Module, dict[str, Any]]:
    what = what or f"the pretrained weights of `{model.arch}`"
    with checkpoints.fitting(strict=False) as fit:
        try:
            module = architectures.create(model, pretrained=True, **more)
        except VitdslError:
            raise
        except checkpoints.Misfit as error:
            raise StudyError(
                Diagnostic(
                    "VD405",
                    f"{what} do not fit its options `{flow(model.options)}`: {error}",
                    label="does not fit",
                    help=("leave out the options that change the architecture, or write `weights: random`",),
                    about=(("weights", "hub"), ("weights",)),
                )
            ) from error
        except Exception as error:  # every layer of the network stack has its own
            if is_memory(error):
                raise
            raise EnvironmentProblem(_unreachable(what, error)) from error
    cfg: dict[str, Any] = module.pretrained_cfg  # type: ignore[assignment]
    return module, {
        "tag": cfg.get("tag"),
        "from": cfg.get("hf_hub_id") or cfg.get("url"),
        "fresh": fit.fresh,
        "unused": fit.unused,
    }


def _hub(model: Model, weights: WeightsHub, folder: Path) -> tuple[nn.Module, dict[str, Any]]:
    what = f"the weights of the repository `{weights.hub}`"
    try:
        cfg, arch, args = load_model_config_from_hf(weights.hub)
    except Exception as error:  # see `_pretrained`
        if is_memory(error):
            raise
        raise EnvironmentProblem(_unreachable(what, error)) from error
    if arch != model.arch.partition(".")[0]:
        raise StudyError(
            Diagnostic(
                "VD232",
                f"the repository `{weights.hub}` holds a `{arch}`, not a `{model.arch}`",
                label="not there",
                help=(f"write `arch: {arch}`",),
                about=(("weights",), ("arch",)),
            )
        )
    wanted = {**(args or {}), **({"num_classes": cfg["num_classes"]} if "num_classes" in cfg else {})}
    module, detail = _pretrained(model, what, pretrained_cfg=cfg)
    if weights.adapter is not None:
        module, more = from_file.with_adapter(model, module, weights.adapter, folder)
        changed = more.pop("changed")
        detail |= {**more, "fresh": [name for name in detail["fresh"] if name not in changed]}
    built = {key: tuple(value.shape) for key, value in module.state_dict().items()}
    planned = {key: tuple(value.shape) for key, value in architectures.on_meta(model).state_dict().items()}
    if built != planned:
        raise StudyError(
            Diagnostic(
                "VD232",
                f"the repository `{weights.hub}` was made with options that the study does not name",
                label="not there",
                help=(f"write `options: {flow(wanted)}`",),
                about=(("weights",), ("arch",)),
            )
        )
    return module, {**detail, "from": weights.hub}


def _first_line(error: Exception) -> str:
    """The first sentence of an error of another library."""
    text = str(error).strip()
    return text.splitlines()[0].partition(". ")[0].rstrip(".:") if text else type(error).__name__


def _unreachable(what: str, error: Exception) -> Diagnostic:
    return Diagnostic(
        "VD406",
        f"{what} could not be fetched: {_first_line(error)[:200]}",
        label="cannot be fetched",
        help=(
            "check the network, and `HF_HUB_OFFLINE` and `HF_ENDPOINT` in the environment",
            "or fetch them elsewhere, and write `weights: {file: path/of/model.safetensors}`",
            "or write `weights: random` for an untrained control",
        ),
        about=(("weights", "hub"), ("weights",)),
    )


def _no_weights(model: Model) -> Diagnostic:
    return Diagnostic(
        "VD232",
        f"the model `{model.arch}` has no weights",
        label="not there",
        help=("write `weights: pretrained`, `random`, `{file: path}` or `{hub: id}`, or `train:`",),
        about=(("weights",), ("arch",)),
    )
