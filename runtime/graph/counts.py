"""Numbers of images as a program computes with them while it is traced: what holds for any number, and what may not.

A program is traced with a number of images that is a prime and that nothing else in it can be. So a size that is a
multiple of it is that of a batch, and is marked. Products, exact quotients and comparisons with other such numbers hold
for any number of images; whatever else is done with one is a doubt, and another trace must settle it. Does not own
what becomes of the marks in a graph (`batch`).
"""

from collections.abc import Callable
from typing import Any

import torch

BATCH = 50_021
"""The number of images that a program is traced with: a prime, larger than a program has operations."""


class Doubts:
    """Whether a program did something with the number of images that may not hold for others."""

    def __init__(self) -> None:
        self.any = False

    def counted(self, value: Any) -> Any:
        """What a program sees of a number or of sizes: multiples of the number of images are marked."""
        if type(value) is int and value and value % BATCH == 0:
            return Count(value, self)
        if isinstance(value, torch.Size):
            self.any = self.any or any(size and size % BATCH == 0 for size in value[1:])
            return torch.Size([self.counted(size) for size in value])
        return value


class Count(int):
    """A multiple of the number of images."""

    doubts: Doubts

    def __new__(cls, value: int, doubts: Doubts) -> "Count":
        """A number that is so many images, or so many things of each."""
        made = super().__new__(cls, value)
        made.doubts = doubts
        return made

    def __reduce__(self) -> Any:
        """Copies are plain numbers."""
        return int, (self.plain,)

    @property
    def plain(self) -> int:
        """The number alone."""
        return int.__add__(self, 0)

    @property
    def times(self) -> int:
        """How many of each image there are."""
        return self.plain // BATCH

    def __mul__(self, other: Any) -> Any:
        """So many times as much; a list is not repeated for each image without a doubt."""
        if type(other) is int and other >= 0:
            return self.doubts.counted(self.plain * other)
        return self._doubted(other * self.plain if not isinstance(other, Count) else other.plain * self.plain)

    __rmul__ = __mul__

    def __floordiv__(self, other: Any) -> Any:
        """A whole part of it, or how many times another one goes into it."""
        if isinstance(other, Count) and self.times % other.times == 0:
            return self.times // other.times
        if type(other) is int and other > 0 and self.times % other == 0:
            return self.doubts.counted(self.plain // other)
        return self._doubted(self.plain // other)

    def __mod__(self, other: Any) -> Any:
        """What is left over; nothing, where nothing is for any number of images."""
        if isinstance(other, Count) and self.times % other.times == 0:
            return 0
        if type(other) is int and other > 0 and self.times % other == 0:
            return 0
        return self._doubted(self.plain % other)

    __eq__ = int.__eq__
    __hash__ = int.__hash__

    def _doubted(self, result: Any) -> Any:
        self.doubts.any = True
        return result


def _doubting(name: str) -> Callable[..., Any]:
    """An operation whose result may be another one for other numbers of images."""

    def operation(self: Count, *others: Any) -> Any:
        return self._doubted(getattr(int, name)(self, *others))

    return operation


def _comparing(name: str) -> Callable[..., Any]:
    """A comparison; with one image and with another such number it is the same for any number of them."""

    def comparison(self: Count, other: Any) -> Any:
        result = getattr(int, name)(self, other)
        return result if isinstance(other, Count) or other in (0, 1) else self._doubted(result)

    return comparison


for _name in (
    "add radd sub rsub rfloordiv truediv rtruediv rmod pow rpow divmod rdivmod lshift rlshift rshift rrshift and rand "
    "or ror xor rxor neg abs invert int float trunc round floor ceil"
).split():
    setattr(Count, f"__{_name}__", _doubting(f"__{_name}__"))
for _name in ("lt", "le", "gt", "ge"):
    setattr(Count, f"__{_name}__", _comparing(f"__{_name}__"))
