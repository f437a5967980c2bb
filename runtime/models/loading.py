"""Models: from what a study names to a timm module with its weights and the preprocessing it takes.

Owns: the skeleton (meta device, no weights, no network), the origins of weights, and the size of the images
that the *built* model takes (timm's data config reports the checkpoint's: 518 for a DINOv2 built with
`img_size: 224`). Does not own: what `create_model` takes (`architectures`), how a checkpoint is laid over a
module (`checkpoints`), training (`train`), stored weights (`store`), batches (`stream`). No model is changed
beyond what timm's `create_model` does.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from PIL.Image import Image
from timm.data import create_transform, resolve_model_data_config
from timm.models import load_model_config_from_hf
from torch import Tensor, nn

from vitdsl.dsl.diagnostics import Diagnostic, EnvironmentProblem, StudyError, VitdslError
from vitdsl.dsl.emit import flow
from vitdsl.dsl.study import Model, WeightsFile, WeightsHub
from vitdsl.runtime.models import architectures, checkpoints
from vitdsl.runtime.randomness import isolated


@dataclass(frozen=True)
class Preprocessing:
    """What happens to an RGB image before a model sees it; equal ones share their tensors.

    Attributes:
        input_size: Channels, height and width of the tensor, in pixels.
        mean: Subtracted from each channel in 0..1.
        std: Divides each channel afterwards.
        interpolation: Of the resize, such as `bicubic`.
        crop_pct: Share of the resized image's edge that the crop keeps; the checkpoint's, at any size.
        crop_mode: timm's way to crop: `center`, `squash` or `border`.
    """

    input_size: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str
    crop_pct: float
    crop_mode: str


@dataclass(frozen=True)
class WeightsRecord:
    """Where weights come from.

    Attributes:
        source: `pretrained`, `random`, `file`, `hub` or `trained`.
        sha256: Hash of the loaded state: names, types, shapes and bytes in the order of the names.
        detail: What more there is to say, ready for JSON: seed, path and hash of a file, `fresh` (parameters
            that the checkpoint does not hold: drawn at random), `unused` (those that found no place).
    """

    source: str
    sha256: str
    detail: dict[str, Any]


@dataclass(frozen=True)
class LoadedModel:
    """A module in float32 on the CPU, in eval mode, without gradients, and what it takes."""

    module: nn.Module
    config: Preprocessing
    weights: WeightsRecord
    arch: str
    options: dict[str, Any]


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


def load(model: Model, *, seed: int, folder: Path) -> LoadedModel:
    """Build a model with its weights; of a model that is trained, those that it starts from.

    Args:
        model: What the study names.
        seed: The study's, for what is drawn at random without a seed of its own.
        folder: Where relative paths start.

    Raises:
        StudyError: As `skeleton`; weights that do not fit the options (VD405).
        EnvironmentProblem: A checkpoint is missing (VD401), does not fit (VD405), cannot be fetched (VD406).
    """
    architectures.check(model)
    weights = model.weights
    if weights is None:
        if model.train is None:
            raise StudyError(_no_weights(model))
        weights = "random"
    seed = start_seed(model, seed)
    with isolated(seed):
        if isinstance(weights, WeightsFile):
            module, detail = _file(model, weights, folder)
        elif isinstance(weights, WeightsHub):
            module, detail = _hub(model, weights)
        elif weights == "pretrained":
            module, detail = _pretrained(model)
        else:
            module, detail = architectures.create(model), {}
    if weights == "random" or detail.get("fresh"):
        detail["seed"] = seed
    source = weights if isinstance(weights, str) else next(iter(type(weights).model_fields))
    return finish(module, model, source, detail)


def finish(module: nn.Module, model: Model, source: str, detail: dict[str, Any]) -> LoadedModel:
    """Put a module in its final state (float32, CPU, eval, no gradients), and record its weights."""
    module = module.cpu().float().eval().requires_grad_(False)
    record = WeightsRecord(source, checkpoints.digest(module), detail)
    return LoadedModel(module, preprocessing(module, model), record, model.arch, dict(model.options))


def start_seed(model: Model, seed: int) -> int:
    """The seed of a model's random start: its own, else its training's, else the study's."""
    for own in (model.seed, model.train.seed if model.train else None):
        if own is not None:
            return own
    return seed


def preprocessing(module: nn.Module, model: Model) -> Preprocessing:
    """The preprocessing of a built model: timm's data config, at the size that the module takes.

    Raises:
        StudyError: `input_size` differs from the size that the model was built for (VD233).
    """
    config = resolve_model_data_config(module)
    size = built_size(module, model)
    wanted = model.input_size
    if wanted is not None and size is not None and size != (wanted, wanted) and _is_fixed(module):
        raise StudyError(
            Diagnostic(
                "VD233",
                f"`input_size: {wanted}`, but `{model.arch}` was built for {size[0]} x {size[1]} pixels",
                notes=("its position embedding or its windows fix the input when it is built",),
                help=(f"write `options: {{img_size: {wanted}}}` and leave `input_size` out",),
            )
        )
    height, width = (wanted, wanted) if wanted is not None else size or config["input_size"][-2:]
    return Preprocessing(
        (3, int(height), int(width)),
        tuple(float(value) for value in config["mean"]),
        tuple(float(value) for value in config["std"]),
        str(config["interpolation"]),
        float(config["crop_pct"]),
        str(config["crop_mode"]),
    )


def built_size(module: nn.Module, model: Model) -> tuple[int, int] | None:
    """Height and width that a module was built for, in pixels; None where nothing in it depends on a size."""
    for size in (
        model.options.get("img_size"),
        getattr(getattr(module, "patch_embed", None), "img_size", None),
        getattr(module, "img_size", None),
        ((getattr(module, "pretrained_cfg", None) or {}).get("input_size") or (None,))[-2:]
        if _is_fixed(module)
        else None,
    ):
        if isinstance(size, int):
            return size, size
        if isinstance(size, (tuple, list)) and len(size) == 2:
            return int(size[0]), int(size[1])
    return None


def transform(config: Preprocessing) -> Callable[[Image], Tensor]:
    """The evaluation transform: an RGB image to a tensor [3, height, width]."""
    made: Callable[[Image], Tensor] = create_transform(**asdict(config), is_training=False)
    return made


def describe(loaded: LoadedModel) -> dict[str, Any]:
    """What the manifest says of a model."""
    return {
        "arch": loaded.arch,
        "options": loaded.options,
        "parameters": sum(parameter.numel() for parameter in loaded.module.parameters()),
        "weights": asdict(loaded.weights),
        "preprocessing": asdict(loaded.config),
    }


def _is_fixed(module: nn.Module) -> bool:
    strict = getattr(getattr(module, "patch_embed", None), "strict_img_size", None)
    cfg = getattr(module, "pretrained_cfg", None) or {}
    return bool(cfg.get("fixed_input_size", False) if strict is None else strict)


def _file(model: Model, weights: WeightsFile, folder: Path) -> tuple[nn.Module, dict[str, Any]]:
    path = checkpoints.find(weights.file, folder)
    classes = architectures.on_meta(model).num_classes
    overlay = {"file": str(path), "num_classes": classes, "custom_load": False}
    with checkpoints.fitting(strict=True) as fit:
        try:
            module = architectures.create(
                model, pretrained=True, pretrained_cfg_overlay=overlay, num_classes=classes
            )
        except VitdslError:
            raise
        except Exception as error:  # timm and torch raise anything on a file that is not what it should be
            raise EnvironmentProblem(
                Diagnostic(
                    "VD405",
                    f"the checkpoint `{weights.file}` does not fit `{model.arch}`: {_first_line(error)}",
                    notes=(f"options of the model: {flow(model.options) if model.options else 'none'}",),
                    help=(
                        "give the `arch` and `options` that the checkpoint was trained with",
                        ""
                        if path.suffix == ".safetensors"
                        else f"a {path.suffix} file must hold tensors only (`torch.save(model.state_dict(), "
                        "path)`), bare or under `state_dict` or `model`",
                    ),
                )
            ) from error
    return module, {"file": str(path), "file_sha256": checkpoints.file_digest(path), **_left_out(fit)}


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
                    help=("leave out the options that change the architecture, or write `weights: random`",),
                )
            ) from error
        except Exception as error:  # every layer of the network stack has its own
            raise EnvironmentProblem(_unreachable(what, error)) from error
    cfg: dict[str, Any] = module.pretrained_cfg  # type: ignore[assignment]
    return module, {
        "tag": cfg.get("tag"),
        "from": cfg.get("hf_hub_id") or cfg.get("url"),
        **_left_out(fit),
    }


def _hub(model: Model, weights: WeightsHub) -> tuple[nn.Module, dict[str, Any]]:
    what = f"the weights of the repository `{weights.hub}`"
    try:
        cfg, arch, args = load_model_config_from_hf(weights.hub)
    except Exception as error:  # see `_pretrained`
        raise EnvironmentProblem(_unreachable(what, error)) from error
    if arch != model.arch.partition(".")[0]:
        raise StudyError(
            Diagnostic(
                "VD232",
                f"the repository `{weights.hub}` holds a `{arch}`, not a `{model.arch}`",
                help=(f"write `arch: {arch}`",),
            )
        )
    wanted = {**(args or {}), **({"num_classes": cfg["num_classes"]} if "num_classes" in cfg else {})}
    module, detail = _pretrained(model, what, pretrained_cfg=cfg)
    built = {key: tuple(value.shape) for key, value in module.state_dict().items()}
    planned = {key: tuple(value.shape) for key, value in architectures.on_meta(model).state_dict().items()}
    if built != planned:
        raise StudyError(
            Diagnostic(
                "VD232",
                f"the repository `{weights.hub}` was made with options that the study does not name",
                help=(f"write `options: {flow(wanted)}`",),
            )
        )
    return module, {**detail, "from": weights.hub}


def _left_out(fit: checkpoints.Fit) -> dict[str, Any]:
    return {"fresh": fit.fresh, "unused": fit.unused}


def _first_line(error: Exception) -> str:
    """The first sentence of an error of another library."""
    text = str(error).strip()
    if "weights_only" in text:
        return "it does not hold tensors alone, or is no checkpoint"
    return text.splitlines()[0].partition(". ")[0].rstrip(".:") if text else type(error).__name__


def _unreachable(what: str, error: Exception) -> Diagnostic:
    return Diagnostic(
        "VD406",
        f"{what} could not be fetched: {_first_line(error)[:200]}",
        help=(
            "check the network, and `HF_HUB_OFFLINE` and `HF_ENDPOINT` in the environment",
            "or fetch them elsewhere, and write `weights: {file: path/of/model.safetensors}`",
            "or write `weights: random` for an untrained control",
        ),
    )


def _no_weights(model: Model) -> Diagnostic:
    return Diagnostic(
        "VD232",
        f"the model `{model.arch}` has no weights",
        help=("write `weights: pretrained`, `random`, `{file: path}` or `{hub: id}`, or `train:`",),
    )
