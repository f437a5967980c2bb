"""What a program sees of a tensor while it is followed: operations on it become nodes, its sizes are plain numbers.

Owns how a value of the program behaves. Does not own what becomes of its operations (`tracer`).
"""

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx
from torch.fx.proxy import Attribute

SAMPLE = "sample"
"""In `node.meta` while tracing: what the node gives for the images that are traced with, as empty tensors."""
BY_VALUE = ("item", "tolist", "numpy", "nonzero")


class Undecided(Exception):
    """The program decides by what no graph can know; says by what."""


BY_NUMBERS = "the numbers in a tensor"
BY_DEVICE = "the kind of device that it runs on"


class Followed(fx.Proxy):
    """A tensor of the program, or several, or a data type or device that follows one."""

    def __getattr__(self, name: str) -> Any:
        """A method, to be called; or an attribute, as a number where it is one."""
        if name in BY_VALUE and isinstance(self.node.meta[SAMPLE], Tensor):
            raise Undecided(BY_NUMBERS)
        if name == "type" and isinstance(self.node.meta[SAMPLE], torch.device):
            raise Undecided(BY_DEVICE)
        tracer: Any = self.tracer
        if callable(tracer.asked(self.node, name)):
            return Attribute(self, name)
        return tracer.create_proxy("call_function", getattr, (self, name), {})

    def __setitem__(self, index: Any, value: Any) -> None:
        """Writing to a part of a tensor."""
        self.tracer.create_proxy("call_function", operator.setitem, (self, index, value), {})

    def __len__(self) -> int:
        tracer: Any = self.tracer
        return int(tracer.asked(self.node, "__len__"))

    def __iter__(self) -> Any:
        count, tracer = len(self), self.tracer
        tracer.refuse_loops(count)  # type: ignore[attr-defined]
        return iter([self[index] for index in range(count)])  # type: ignore[index]


def number(value: fx.Proxy) -> Any:
    """What a function that stays whole gave, where that is no tensor."""
    sample = value.node.meta[SAMPLE]
    if symbolic(sample):
        raise Undecided(BY_NUMBERS)
    return value.tracer.doubts.counted(sample)  # type: ignore[attr-defined]


def _converted(kind: Callable[[Any], Any]) -> Callable[[Followed], Any]:
    return lambda self: kind(number(self))


def _augmented(target: Callable[..., Any]) -> Callable[[fx.Proxy, Any], fx.Proxy]:
    """`+=` stays one, so that other names of the tensor see the sum, as in the program."""
    return lambda self, other: self.tracer.create_proxy("call_function", target, (self, other), {})


_conversions: dict[str, Callable[[Any], Any]] = {"int": int, "float": float, "index": operator.index}
for _name, _kind in _conversions.items():
    setattr(Followed, f"__{_name}__", _converted(_kind))
for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and", "or", "xor"):
    setattr(Followed, f"__i{_name}__", _augmented(getattr(operator, f"i{_name}")))


def symbolic(value: Any) -> bool:
    """Whether something is no plain number, or holds what is not."""
    if isinstance(value, (tuple, list)):
        return any(map(symbolic, value))
    if isinstance(value, dict):
        return any(map(symbolic, value.values()))
    return isinstance(value, (Tensor, torch.dtype, torch.device, torch.layout, torch.memory_format))
