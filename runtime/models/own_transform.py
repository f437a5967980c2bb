"""A transform that Python hands over: tried on a few images before it is believed.

Owns what is asked of it: one size of tensors, numbers, the same each time. Its hash is that of what it makes of these
images, since code and settings can say anything. Does not own how images reach it (`data`).
"""

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vitdsl.dsl.diagnostics import Diagnostic, StudyError
from vitdsl.runtime.full import is_memory
from vitdsl.runtime.models.checkpoints import bytes_of
from vitdsl.runtime.models.preprocessing import OwnTransform
from vitdsl.runtime.randomness import isolated

SIZES = ((48, 64), (300, 200), (37, 37))
"""Height and width of the images that a transform is tried on."""


def own_transform(name: str, function: Callable[[Image.Image], Any]) -> OwnTransform:
    """A transform as the preprocessing of a model.

    Args:
        name: The model's name in the study.
        function: From an RGB image of any size to a tensor [3, height, width].

    Raises:
        StudyError: It does not give such tensors, of one size and always the same (VD271).
    """
    tried = [_tried(name, function, image) for image in _images()]
    sizes = sorted({tuple(one.shape[1:]) for one in tried})
    if len(sizes) > 1:
        shown = " and ".join(f"{height} x {width}" for height, width in sizes)
        raise _refused(name, f"gives tensors of several sizes: {shown}", "end it with a crop to one size")
    total = hashlib.sha256()
    for one in tried:
        total.update(bytes_of(one))
    height, width = sizes[0]
    return OwnTransform(
        (3, height, width), (), (), "given in Python", 1.0, "given in Python", total.hexdigest(), function
    )


def _images() -> list[Image.Image]:
    draw = np.random.default_rng(0)
    return [
        Image.fromarray(draw.integers(0, 256, (height, width, 3), dtype=np.uint8)) for height, width in SIZES
    ]


def _tried(name: str, function: Callable[[Image.Image], Any], image: Image.Image) -> Tensor:
    found = []
    for seed in (0, 1):
        with isolated(seed):
            try:
                found.append(function(image.copy()))
            except Exception as error:  # a transform is anybody's code
                if is_memory(error):
                    raise
                why = f"fails on an RGB image: {type(error).__name__}: {str(error)[:200]}"
                raise _refused(name, why, "try it on `PIL.Image.new('RGB', (64, 48))`") from error
    first, second = found
    instead = "let it take an RGB image of any size, and give a float tensor [3, height, width]"
    if not isinstance(first, Tensor):
        raise _refused(name, f"gives a {type(first).__name__}, not a tensor", instead)
    if first.ndim != 3 or first.shape[0] != 3 or not first.is_floating_point():
        raise _refused(name, f"gives a tensor {list(first.shape)} of {first.dtype}", instead)
    if not torch.isfinite(first).all():
        raise _refused(name, "gives values that are not finite", instead)
    if not torch.equal(first, second):
        raise _refused(
            name,
            "gives another tensor each time",
            "hand over the transform of evaluation, without random crops and flips",
        )
    return first


def _refused(name: str, why: str, instead: str) -> StudyError:
    message = f"the transform that is handed over for `{name}` {why}"
    return StudyError(Diagnostic("VD271", message, label="its model", help=(instead,), about=(("given",),)))
