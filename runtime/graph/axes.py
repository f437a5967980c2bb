"""What an axis of a tensor is: images, rows and columns, tokens of a parameter, features, keys; or unknown.

An axis is a product of factors, outermost first: the tokens of a ViT are rows times columns behind a class token, the
first axis of a tensor of windows is images times rows and columns of windows. Views split, reorder and merge factors,
so that what was taken apart is known when it is put together again. Owns this vocabulary and how factors are split,
merged, cut and joined. Does not own what operations do (`axis_rules`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import prod
from typing import Literal


@dataclass(frozen=True)
class Factor:
    """A part of an axis; `size` is how many positions it has."""

    size: int


@dataclass(frozen=True)
class Images(Factor):
    """The images of a batch."""


@dataclass(frozen=True)
class Line(Factor):
    """Rows or columns of the image, `step` pixels from one another."""

    axis: Literal["row", "col"]
    step: Fraction


@dataclass(frozen=True)
class Width(Factor):
    """Features: what has no place in the image."""


@dataclass(frozen=True)
class Named(Factor):
    """Tokens that a parameter of this name put beside those of the image."""

    name: str


@dataclass(frozen=True)
class Blank(Factor):
    """Padding."""


@dataclass(frozen=True)
class Unknown(Factor):
    """Positions of which nothing is known."""


@dataclass(frozen=True)
class Part(Factor):
    """Every `step`-th position of another factor."""

    whole: Factor
    step: int


@dataclass(frozen=True)
class Cut(Factor):
    """Positions of an axis from `start` on."""

    whole: "Axis"
    start: int


@dataclass(frozen=True)
class Joined(Factor):
    """Axes one behind the other."""

    parts: tuple["Axis", ...]


@dataclass(frozen=True)
class Key(Factor):
    """What a softmax was taken over; `source` numbers the softmax."""

    of: Factor
    source: int


Axis = tuple[Factor, ...]
Axes = tuple[Axis, ...]


def size_of(axis: Axis) -> int:
    """How many positions an axis has."""
    return prod(factor.size for factor in axis)


def unknown(shape: Sequence[int]) -> Axes:
    """Axes of which nothing is known."""
    return tuple((Unknown(size),) if size != 1 else () for size in shape)


def features(size: int) -> Axis:
    """An axis of features; one of size 1 says nothing."""
    return (Width(size),) if size != 1 else ()


def merged(factors: Sequence[Factor]) -> Axis:
    """Factors of one axis, with those that belong together put together."""
    found: list[Factor] = []
    for factor in factors:
        one = _merge(found[-1], factor) if found else None
        if one is None:
            found.append(factor)
        else:
            found[-1] = one
    large = [factor for factor in found if factor.size != 1 or isinstance(factor, Named)]
    return tuple(large or found[:1])


def _merge(outer: Factor, inner: Factor) -> Factor | None:
    size = outer.size * inner.size
    match outer, inner:
        case Width(), Width():
            return Width(size)
        case Unknown(), Unknown():
            return Unknown(size)
        case Line(axis=axis, step=coarse), Line(axis=other, step=fine) if axis == other:
            return Line(size, axis, fine) if coarse == fine * inner.size else None
        case Part(whole=whole, step=coarse), Part(whole=other, step=fine) if whole == other:
            if coarse != fine * inner.size:
                return None
            return whole if fine == 1 and size == whole.size else Part(size, whole, fine)
        case Key(of=one, source=source), Key(of=two, source=same) if source == same:
            together = _merge(one, two)
            return None if together is None else Key(size, together, source)
    return None


def split(factor: Factor, inner: int) -> tuple[Factor, Factor]:
    """A factor as an outer one times an inner one of this size."""
    outer = factor.size // inner
    match factor:
        case Line(axis=axis, step=step):
            return Line(outer, axis, step * inner), Line(inner, axis, step)
        case Width():
            return Width(outer), Width(inner)
        case Unknown():
            return Unknown(outer), Unknown(inner)
        case Part(whole=whole, step=step):
            return Part(outer, whole, step * inner), Part(inner, whole, step)
        case Key(of=of, source=source):
            first, second = split(of, inner)
            return Key(outer, first, source), Key(inner, second, source)
    return Part(outer, factor, inner), Part(inner, factor, 1)


def reshaped(axes: Axes, shape: Sequence[int]) -> Axes:
    """The axes of a tensor that is seen in another shape, its values in order."""
    if 0 in shape or prod(map(size_of, axes)) != prod(shape):
        return unknown(shape)
    pending = [factor for axis in axes for factor in axis]
    found: list[Axis] = []
    at = 0
    while at < len(shape):
        first, outside, inside = at, shape[at], 1
        taken: list[Factor] = []
        at += 1
        if outside == 1 and pending and pending[0].size == 1:
            taken.append(pending.pop(0))
        while inside != outside:
            if inside < outside:
                taken.append(pending.pop(0))
                inside *= taken[-1].size
            else:
                outside *= shape[at]
                at += 1
        while pending and pending[0].size == 1 and 1 not in shape[at:]:
            taken.append(pending.pop(0))
        found += _dealt(taken, shape[first:at])
    return tuple(found)


def _dealt(factors: Sequence[Factor], shape: Sequence[int]) -> list[Axis]:
    """Some factors over axes of these sizes, whose product is theirs; unknown where they do not split so."""
    if len(shape) == 1:
        return [merged(factors)]
    pending, found, single = list(factors), list[Axis](), list[Factor]()
    for place, size in enumerate(shape):
        axis, left = list[Factor](), size
        while left > 1 or size == 1 and not single and pending and pending[0].size == 1:
            factor = pending.pop(0)
            if factor.size == 1 and 1 in shape[place:]:
                single.append(factor)
            elif left % factor.size == 0:
                axis.append(factor)
                left //= factor.size
            elif factor.size % left == 0:
                outer, inner = split(factor, factor.size // left)
                axis.append(outer)
                pending.insert(0, inner)
                left = 1
            else:
                return list(unknown(shape))
        if size == 1 and single:
            axis.append(single.pop(0))
        found.append(merged(axis))
    return found


def cut(axis: Axis, start: int, stop: int, step: int = 1) -> Axis:
    """Positions `start` to `stop` of an axis, every `step`-th."""
    size = size_of(axis)
    count = max(0, -(-(stop - start) // step))
    if (start, stop, step) == (0, size, 1):
        return axis
    match axis:
        case (Width(),):
            return features(count)
        case (Line(axis=name, step=pixels),) if step > 1 and start < step and stop == size:
            return (Line(count, name, pixels * step),)
        case (Key(of=of, source=source),):
            inner = cut((of,), start, stop, step)
            return tuple(Key(factor.size, factor, source) for factor in inner)
    if step != 1 or count == 0:
        return (Unknown(count),)
    return joined([axis], start, stop)


def joined(axes: Sequence[Axis], start: int = 0, stop: int | None = None) -> Axis:
    """Axes one behind the other, from position `start` to `stop`."""
    pieces: list[tuple[Axis, int, int]] = []
    at, end = 0, sum(map(size_of, axes)) if stop is None else stop
    for piece, first, last in (found for axis in axes for found in _pieces(axis)):
        low, high = max(start - at, 0), min(end - at, last - first)
        at += last - first
        if low >= high:
            continue
        low, high = first + low, first + high
        if pieces and pieces[-1][0] == piece and pieces[-1][2] == low:
            low = pieces.pop()[1]
        pieces.append((piece, low, high))
    parts = tuple(_piece(*piece) for piece in pieces)
    if all(len(part) == 1 and isinstance(part[0], Width) for part in parts):
        return features(sum(map(size_of, parts)))
    return parts[0] if len(parts) == 1 else (Joined(sum(map(size_of, parts)), parts),)


def _pieces(axis: Axis) -> list[tuple[Axis, int, int]]:
    """An axis as pieces of axes that are not joined: the axis, first and last position."""
    match axis:
        case (Joined(parts=parts),):
            return [piece for part in parts for piece in _pieces(part)]
        case (Cut(size=size, whole=whole, start=start),):
            return [(whole, start, start + size)]
    return [(axis, 0, size_of(axis))]


def _piece(axis: Axis, first: int, last: int) -> Axis:
    if (first, last) == (0, size_of(axis)):
        return axis
    match axis:
        case (Named(name=name),):
            return (Named(last - first, name),)
        case (Blank() | Unknown() as factor,):
            return (type(factor)(last - first),)
        case (Width(),):
            return features(last - first)
    return (Cut(last - first, axis, first),)
