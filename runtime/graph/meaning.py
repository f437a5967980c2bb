"""What is known of one tensor: what its axes are, and where it comes from; and how meanings meet.

Owns how tensors that meet in one operation agree about their axes. Does not own what an axis is (`axes`), or which
operation does what (`axis_rules`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from vitdsl.runtime.graph.axes import (
    Axes,
    Axis,
    Blank,
    Factor,
    Images,
    Joined,
    Key,
    Line,
    Named,
    Unknown,
    Width,
    features,
    joined,
    merged,
    size_of,
    split,
)  # fmt: skip

DIFFERENCE = "differential attention"
"""What weights are, in `mixed`, that were taken from one another."""
VALUED = "weighted values"
"""What values are, in `mixed`, that weights were multiplied into, position by position."""


@dataclass(frozen=True)
class Meaning:
    """What is known of a tensor.

    Attributes:
        axes: What its axes are.
        images: Whether the images have a part in it.
        names: The parameters and buffers that it comes from, where the images have none.
        mixed: What was done to weights since their softmax, in order: nothing that keeps them shares is in it.
    """

    axes: Axes
    images: bool = True
    names: tuple[str, ...] = ()
    mixed: tuple[str, ...] = ()

    def at(self, axes: Axes) -> "Meaning":
        """The same with other axes."""
        return replace(self, axes=axes)


def fixed(shape: Sequence[int], names: tuple[str, ...] = ()) -> Meaning:
    """The meaning of a tensor in which the images have no part."""
    return Meaning(tuple(map(features, shape)), images=False, names=names)


def keys_of(axis: Axis) -> set[int]:
    """The softmaxes whose keys an axis has."""
    return {factor.source for factor in axis if isinstance(factor, Key)}


def sources_of(axes: Axes) -> set[int]:
    """The softmaxes whose keys a tensor has."""
    return {source for axis in axes for source in keys_of(axis)}


def plain(axis: Axis) -> Axis:
    """An axis without the note that a softmax was taken over it."""
    return tuple(factor.of if isinstance(factor, Key) else factor for factor in axis)


def agreed(choices: Sequence[Axis]) -> Axis:
    """What an axis is that several tensors share: of what each knows the most; where they contradict, unknown."""
    found = choices[0] if choices else ()
    for other in choices[1:]:
        one = _agree(plain(found), plain(other))
        if one is None:
            return (Unknown(size_of(found)),)
        found = next((axis for axis in (found, other) if keys_of(axis) and plain(axis) == one), one)
    return found


def _agree(one: Axis, other: Axis) -> Axis | None:
    """Two axes as one; the pixels between lines may differ by roundings."""
    if _kinds(one) == _kinds(other) or _says_nothing(other):
        return one
    if _says_nothing(one):
        return other
    match one, other:
        case (Named(),), (Named(name=name),):
            return one if one[0] != Named(one[0].size, "") else (Named(one[0].size, name),)
        case (Joined(parts=first),), (Joined(parts=second),):
            if tuple(map(size_of, first)) != tuple(map(size_of, second)):
                return None
            parts = [_agree(*pair) for pair in zip(first, second, strict=True)]
            return joined([part for part in parts if part]) if all(parts) else None
    whole = [axis for axis in (one, other) if _is_whole(axis)]
    return _aligned(one, other) or (whole[0] if len(whole) == 1 else None)


def _aligned(one: Axis, other: Axis) -> Axis | None:
    """Two products as one, factor by factor; features split as they must."""
    left, right, found = ([factor for factor in axis if factor.size != 1] for axis in (one, other, ()))
    while left and right:
        first, second = left.pop(0), right.pop(0)
        size = min(first.size, second.size)
        for factor, rest in ((first, left), (second, right)):
            if factor.size != size:
                if factor.size % size or not _says_nothing((factor,)):
                    return None
                rest.insert(0, split(factor, factor.size // size)[1])
        first, second = (type(f)(size) if f.size != size else f for f in (first, second))
        told = (first,) if _says_nothing((second,)) else (second,)
        if (
            not _says_nothing((first,))
            and not _says_nothing((second,))
            and _kinds((first,)) != _kinds((second,))
        ):
            return None
        found += told
    return merged(found)


def _is_whole(axis: Axis) -> bool:
    """Whether an axis is rows, columns, or both, row by row."""
    return all(isinstance(factor, Line) for factor in axis) and (
        len(axis) == 1 or [getattr(factor, "axis", "") for factor in axis] == ["row", "col"]
    )


def _says_nothing(axis: Axis) -> bool:
    return all(isinstance(factor, (Width, Unknown, Blank)) for factor in axis)


def _kinds(axis: Axis) -> tuple[object, ...]:
    return tuple(_kind(factor) for factor in axis)


def _kind(factor: Factor) -> object:
    if isinstance(factor, Joined):
        return tuple(_kinds(part) for part in factor.parts)
    if isinstance(factor, Line):
        return factor.size, factor.axis
    return factor


def together(meanings: Sequence[Meaning], shape: Sequence[int]) -> Meaning:
    """The meaning of what tensors give that are joined position by position, broadcast to a shape."""
    of_images = [one for one in meanings if one.images]
    names = tuple(dict.fromkeys(name for one in meanings for name in one.names))
    if not of_images:
        tokens = next(
            (one for one in meanings if len(one.axes) == len(shape) and _are_tokens(one.axes)), None
        )
        if tokens is not None and tuple(map(size_of, tokens.axes)) == tuple(shape):
            return Meaning(tokens.axes, False, names)
        return fixed(shape, names)
    axes: list[Axis] = []
    for place, size in enumerate(reversed(shape)):
        given = [one.axes[-1 - place] for one in of_images if place < len(one.axes)]
        fitting = [axis for axis in given if size_of(axis) == size]
        others = [one.axes[-1 - place] for one in meanings if not one.images and place < len(one.axes)]
        if size == 1:
            fitting = [axis for axis in fitting if axis] or [a for a in others if _is_named(a)]
        axes.append(agreed(fitting) if fitting else features(size))
    mixed = max((one.mixed for one in of_images), key=len)
    return Meaning(tuple(reversed(axes)), True, (), mixed)


def _is_named(axis: Axis) -> bool:
    return any(isinstance(factor, Named) for factor in axis)


def _are_tokens(axes: Axes) -> bool:
    return len(axes) == 3 and any(isinstance(factor, Images) for factor in axes[0])
