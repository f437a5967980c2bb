"""Models without data: what would draw or fill their parameters is left out, which is most of building them.

Does not own which model is built (`architectures`).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

FILLS = frozenset(
    (
        Tensor.add_, Tensor.clamp_, Tensor.erfinv_, Tensor.fill_, Tensor.mul_, Tensor.normal_, Tensor.uniform_,
        Tensor.zero_,
    )
)  # fmt: skip
"""What changes nothing about a tensor but its numbers, where no other tensor is given; `nn.init` is made of it."""


class _Undrawn(TorchFunctionMode):
    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Leave a tensor without data as it is."""
        if func in FILLS and args[0].is_meta and not any(isinstance(one, Tensor) for one in args[1:]):
            return args[0]
        return func(*args, **(kwargs or {}))


@contextmanager
def without_data() -> Iterator[None]:
    """Where modules that are built have shapes and no numbers."""
    with torch.device("meta"), _Undrawn():
        yield
