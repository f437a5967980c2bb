"""Arithmetics that one study is computed in: what the command line offers, the float64 reference, and TF32 emulated.

The reference is the same program with float64 wherever it says float32: models, images, and what taps reduce to. No GPU
is needed for TF32: operands of products are rounded as its units round them, and products are exact float32 then.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from vitdsl.runtime.data.stream import Batch
from vitdsl.runtime.graph.tap import Reduce
from vitdsl.runtime.run.execute import Runner

DROPPED = 13
"""Bits of float32's mantissa that TF32 does not have: 10 of 23 are left."""
PRODUCTS = {
    "mm": (0, 1), "bmm": (0, 1), "mv": (0, 1), "dot": (0, 1), "addmm": (1, 2), "baddbmm": (1, 2), "addmv": (1, 2),
    "convolution": (0, 1), "convolution_backward": (0, 1, 2), "_scaled_dot_product_flash_attention_for_cpu": (0, 1, 2),
}  # fmt: skip
"""Operations of ATen that multiply and add, and which of their arguments are multiplied; others are made of these."""


@dataclass(frozen=True)
class Arithmetic:
    """One way to compute a study.

    Attributes:
        title: What the page calls it.
        dtype: As `--dtype` has it; `float64` for the reference.
        fast: As `--fast`.
        tf32: Whether operands of the models' products are rounded; taps compute in whole float32 in any case.
    """

    title: str
    dtype: str = "float32"
    fast: bool = False
    tf32: bool = False

    @property
    def reference(self) -> bool:
        """Whether it is what the others are compared with."""
        return self.dtype == "float64"

    @contextmanager
    def computing(self) -> Iterator[None]:
        """What is computed meanwhile is computed so, as far as modes are concerned."""
        with ExitStack() as stack:
            if self.reference:
                stack.enter_context(AllDouble())
                stack.enter_context(patch.object(Runner, "on_device", _double))
            if self.tf32:
                mode = stack.enter_context(Rounded(rounds=False))
                stack.enter_context(patch.object(Runner, "forward", mode.where(Runner.forward, rounds=True)))
                stack.enter_context(patch.object(Reduce, "forward", mode.where(Reduce.forward, rounds=False)))
            yield


REFERENCE = Arithmetic("float64", dtype="float64")
ARITHMETICS = (
    Arithmetic("float32"),
    Arithmetic("`--fast`", fast=True),
    Arithmetic("TF32, emulated", tf32=True),
    Arithmetic("`fp16`", dtype="fp16"),
    Arithmetic("`bf16`", dtype="bf16"),
)


class AllDouble(TorchFunctionMode):
    """What asks for float32 has float64."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Of casts and of arguments that name the type."""
        kwargs = dict(kwargs or {})
        if func is Tensor.float:
            return args[0].double()
        if kwargs.get("dtype") is torch.float32:
            kwargs["dtype"] = torch.float64
        args = tuple(torch.float64 if one is torch.float32 else one for one in args)
        return func(*args, **kwargs)


class Rounded(TorchDispatchMode):
    """Products as units of TF32 take them: of operands with 10 bits of mantissa."""

    def __init__(self, *, rounds: bool = True) -> None:
        super().__init__()
        self.rounds = rounds

    def where(self, function: Callable[..., Any], *, rounds: bool) -> Callable[..., Any]:
        """The function, in which products are rounded or are not."""

        def inside(*args: Any) -> Any:
            before, self.rounds = self.rounds, rounds
            try:
                return function(*args)
            finally:
                self.rounds = before

        return inside

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Round the operands of products; what is made of other operations is taken apart."""
        kwargs, name = kwargs or {}, func.overloadpacket.__name__
        if name not in PRODUCTS and func._can_decompose():
            with self:
                return func.decompose(*args, **kwargs)
        operands = PRODUCTS.get(name, ()) if self.rounds else ()
        return func(*(rounded(one) if place in operands else one for place, one in enumerate(args)), **kwargs)


def rounded(tensor: Any) -> Any:
    """A float32 tensor rounded to 10 bits of mantissa, to the nearest, half to even; anything else as it is."""
    if not isinstance(tensor, Tensor) or tensor.dtype != torch.float32:
        return tensor
    bits = tensor.contiguous().view(torch.int32)
    half = (1 << DROPPED - 1) - 1 + (bits >> DROPPED & 1)
    near = (bits + half >> DROPPED << DROPPED).view(torch.float32)
    return torch.where(tensor.isfinite(), near, tensor)


_on_device = Runner.on_device


def _double(runner: Runner, batch: Batch) -> dict[str, Tensor]:
    return {name: images.double() for name, images in _on_device(runner, batch).items()}
