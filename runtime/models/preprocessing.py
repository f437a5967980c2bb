"""Preprocessing: what happens to an image before a model sees it, when it is measured and while it is trained.

Owns the size of the images that the *built* model takes (timm's data config reports the checkpoint's: 518 for a DINOv2
built with `img_size: 224`), and the two transforms. Does not own: reading images (`data`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np
from PIL.Image import Image
from timm.data import create_transform, resolve_model_data_config
from torch import Tensor, nn
from torchvision.transforms import Compose

from vitdsl.dsl.diagnostics import Diagnostic, StudyError
from vitdsl.dsl.emit import flow
from vitdsl.dsl.study import Augment, Model


@dataclass(frozen=True)
class Preprocessing:
    """What happens to an RGB image before a model sees it; equal ones share their tensors.

    Attributes:
        input_size: Channels (3, or 1 for a model of grey images), height and width of the tensor, in pixels.
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

    def facts(self) -> dict[str, Any]:
        """All that changes pixels, ready for JSON."""
        return {item.name: getattr(self, item.name) for item in fields(self) if item.compare}


@dataclass(frozen=True)
class OwnTransform(Preprocessing):
    """A transform that is handed over in Python; nothing is known of it but what it does.

    Attributes:
        sha256: Hash of what it makes of a few images; equal ones share their tensors.
        function: An RGB image to a tensor [3, height, width].
    """

    sha256: str
    function: Callable[[Image], Tensor] = field(compare=False, repr=False)


@dataclass(frozen=True)
class ByImage(Preprocessing):
    """What features take: which image it is, as a row of theirs, and none of its pixels.

    Attributes:
        sha256: Hash of the ids of all rows.
        rows: The row of each image by its id.
    """

    sha256: str
    rows: Mapping[str, int] = field(compare=False, repr=False)


def preprocessing(module: nn.Module, model: Model) -> Preprocessing:
    """The preprocessing of a built model: what the study says, else timm's data config; at the module's size.

    Raises:
        StudyError: `input_size` differs from the size that the model was built for (VD233).
    """
    config = {**resolve_model_data_config(module), **said(model)}
    size = built_size(module, model)
    wanted = wanted_size(model)
    if wanted is not None and size is not None and size != wanted and _is_fixed(module):
        raise StudyError(
            Diagnostic(
                "VD233",
                f"`input_size: {flow(model.input_size)}`, but `{model.arch}` was built for "
                f"{size[0]} x {size[1]} pixels",
                label="does not fit",
                notes=("its position embedding or its windows fix the input when it is built",),
                help=(f"write `options: {{img_size: {flow(model.input_size)}}}` and leave `input_size` out",),
                about=(("input_size",), ("options", "img_size"), ("arch",)),
            )
        )
    channels = int(model.options.get("in_chans", 3))
    height, width = wanted or size or config["input_size"][-2:]
    return Preprocessing(
        (channels, int(height), int(width)),
        _for_channels(config["mean"], channels),
        _for_channels(config["std"], channels),
        str(config["interpolation"]),
        float(config["crop_pct"]),
        str(config["crop_mode"]),
    )


def wanted_size(model: Model) -> tuple[int, int] | None:
    """Height and width that a study asks for, in pixels; None where it asks for none."""
    return (model.input_size, model.input_size) if isinstance(model.input_size, int) else model.input_size


def _for_channels(values: Sequence[float], channels: int) -> tuple[float, ...]:
    """What is subtracted or divides, for each channel; for one of grey, the mean over those of RGB."""
    found = tuple(float(value) for value in values)
    return found if len(found) == channels else (sum(found) / len(found),) * channels


def said(model: Model) -> dict[str, Any]:
    """What the study says of a model's images, ready for JSON; empty where it says nothing."""
    return {} if model.preprocess is None else model.preprocess.model_dump(mode="json", exclude_none=True)


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
    """The evaluation transform: an RGB image to a tensor [channels, height, width]."""
    if isinstance(config, OwnTransform):
        return config.function
    made: Callable[[Image], Tensor] = create_transform(**asdict(config), is_training=False)
    return made if config.input_size[0] > 1 else Compose([to_grey, made])


def pixels(tensor: Tensor, config: Preprocessing) -> np.ndarray:
    """What a model gets, `[channel, row, col]`, as pixels `[row, col, 3]` from 0 to 255, its normalisation undone.

    A transform that was given in Python does not say how it normalises: then from the smallest value to the largest.
    """
    values = tensor.double().numpy()
    if config.mean:
        mean, std = (np.asarray(one)[:, None, None] for one in (config.mean, config.std))
        values = values * std + mean
    else:
        low, high = values.min(), values.max()
        values = (values - low) / (high - low if high > low else 1.0)
    shown = np.round(values.clip(0, 1) * 255).astype(np.uint8).transpose(1, 2, 0)
    return np.ascontiguousarray(shown.repeat(3 // shown.shape[2], axis=2))


def to_grey(image: Image) -> Image:
    """An RGB image in grey, one channel; of a grey image, its own values."""
    return image.convert("L")


def training_transform(augment: Augment, config: Preprocessing) -> Callable[[Image], Tensor]:
    """The transform of training; without a random crop, the crop of evaluation takes its place."""
    first, second, last = create_transform(
        input_size=config.input_size,
        is_training=True,
        scale=augment.scale,
        ratio=augment.ratio,
        hflip=augment.hflip,
        vflip=augment.vflip,
        color_jitter=augment.color_jitter or None,
        auto_augment=augment.auto_augment,
        interpolation=config.interpolation,
        mean=config.mean,
        std=config.std,
        re_prob=augment.erase,
        separate=True,
    )
    if augment.scale == (1.0, 1.0) and augment.ratio == (1.0, 1.0):
        steps = create_transform(**asdict(config), is_training=False).transforms
        first = Compose([*steps[:-2], *first.transforms[1:]])
    grey = () if config.input_size[0] > 1 else (to_grey,)
    made: Callable[[Image], Tensor] = Compose([first, second, *grey, last])
    return made


def _is_fixed(module: nn.Module) -> bool:
    strict = getattr(getattr(module, "patch_embed", None), "strict_img_size", None)
    cfg = getattr(module, "pretrained_cfg", None) or {}
    return bool(cfg.get("fixed_input_size", False) if strict is None else strict)
