"""Where a model's values stop being numbers: the module that gives the first NaN or infinity of finite inputs."""

from typing import Any

import torch
from torch import Tensor, nn

from vitdsl.dsl.diagnostics import Diagnostic, EnvironmentProblem


def check_finite(name: str, module: nn.Module, images: Tensor, output: Tensor, dtype: str) -> None:
    """Make sure that the intact model gives numbers.

    Args:
        name: What the study calls the model.
        module: The plain model.
        images: A batch of its images `[batch, channel, row, col]`.
        output: What it gave for them.
        dtype: What it was computed in.

    Raises:
        EnvironmentProblem: It does not; the message names the module where it begins (VD506).
    """
    if torch.isfinite(output).all():
        return
    where = _first(module, images)
    raise EnvironmentProblem(
        Diagnostic(
            "VD506",
            f"the output of `{name}` is not finite for the first {len(images)} images"
            + (f"; it begins in `{where}`" if where else ""),
            help=(
                f"compute with `--dtype float32`; {dtype} has a smaller range" if dtype != "float32" else "",
                "see whether the checkpoint, its preprocessing and the images belong together",
            ),
        )
    )


def _first(module: nn.Module, images: Tensor) -> str:
    """The first module, in the order of computing, whose inputs are finite and whose output is not."""
    found: list[str] = []

    def looking(path: str) -> Any:
        def look(_: nn.Module, inputs: Any, output: Any) -> None:
            if path and not found and _finite(inputs) and not _finite(output):
                found.append(path)

        return look

    handles = [inner.register_forward_hook(looking(path)) for path, inner in module.named_modules()]
    try:
        with torch.no_grad():
            module(images)
    finally:
        for handle in handles:
            handle.remove()
    return found[0] if found else ""


def _finite(value: Any) -> bool:
    if isinstance(value, Tensor):
        return not value.is_floating_point() or bool(torch.isfinite(value).all())
    return all(map(_finite, value)) if isinstance(value, (tuple, list)) else True
