"""In what models compute: the names that a run can ask for, and how float32 products are rounded.

Unless it is told not to, a CUDA device rounds the operands of convolutions to 10 bits of mantissa (TF32), and those of
matrix products where a program before has allowed it. Here float32 means float32, and `tf32` is asked for by name.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch

from vitdsl.dsl.diagnostics import Diagnostic, EnvironmentProblem

AUTOCAST = {"float32": None, "tf32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
"""By the name of what a run computes in: what autocast casts to."""
TF32 = "tf32"


def check_dtype(dtype: str, device: torch.device) -> None:
    """Make sure that a device computes so.

    Raises:
        EnvironmentProblem: `tf32` without CUDA, or something that nothing computes in (VD408).
    """
    if dtype not in AUTOCAST:
        raise EnvironmentProblem(
            Diagnostic(
                "VD408", f"nothing computes in `{dtype}`", help=(f"take one of: {', '.join(AUTOCAST)}",)
            )
        )
    if dtype == TF32 and device.type != "cuda":
        raise EnvironmentProblem(
            Diagnostic(
                "VD408",
                f"`--dtype tf32` is how CUDA devices round products, and this run computes on {device.type}",
                help=("leave it out for float32, or write `--device cuda` where there is one",),
            )
        )


@contextmanager
def products_in(dtype: str) -> Iterator[None]:
    """Float32 products and convolutions in all bits of float32, or rounded before as `tf32` does.

    What stood before is set again.
    """
    settings = _Settings.now()
    wanted = settings.rounding(dtype == TF32)
    if wanted == settings:
        yield
        return
    try:
        wanted.set()
        yield
    finally:
        settings.set()


@dataclass(frozen=True)
class _Settings:
    """How torch rounds products: by its old names, which read the new ones and fail where these differ, and by its new.

    Attributes:
        old: Of matrix products, and whether convolutions are rounded; None where torch cannot say.
        new: For each of `_parts`.
    """

    old: tuple[str, bool] | None
    new: tuple[str, ...]

    @classmethod
    def now(cls) -> "_Settings":
        try:
            old = (torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32)
        except RuntimeError:
            old = None
        return cls(old, tuple(part.fp32_precision for part, _ in _parts()))

    def rounding(self, rounded: bool) -> "_Settings":
        """The same with products on devices rounded, or with none."""
        new = tuple("tf32" if rounded and device else "ieee" for _, device in _parts())
        return _Settings(("high" if rounded else "highest", rounded), new)

    def set(self) -> None:
        """Let torch compute so; the new names last, since setting an old one resets them."""
        if self.old is not None:
            torch.set_float32_matmul_precision(self.old[0])
            torch.backends.cudnn.allow_tf32 = self.old[1]
        for (part, _), value in zip(_parts(), self.new, strict=True):
            part.fp32_precision = value


@cache
def _parts() -> list[tuple[Any, bool]]:
    """What torch has a setting for, and whether it is a device's; none before torch 2.9."""
    backends: Any = torch.backends
    if not hasattr(backends.cudnn, "conv"):
        return []
    device = [backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn]
    return [
        *((part, True) for part in device),
        (backends.mkldnn.matmul, False),
        (backends.mkldnn.conv, False),
    ]
