"""How axes go through operations on values: sums, norms, softmaxes, matrix products, convolutions, pools.

One rule for each kind of operation, from what is known of what went in to what is known of what came out. Rows and
columns stay what they are as long as an operation keeps their order; what a parameter mixes becomes features.
"""

from dataclasses import replace
from fractions import Fraction
from typing import Any

from vitdsl.runtime.graph.axes import (
    Axes,
    Axis,
    Blank,
    Images,
    Joined,
    Key,
    Line,
    Width,
    features,
    merged,
    size_of,
    unknown,
)
from vitdsl.runtime.graph.calls import Call, lost
from vitdsl.runtime.graph.meaning import DIFFERENCE, VALUED, Meaning, fixed, sources_of, together


def same(call: Call) -> Meaning:
    """Every position keeps its meaning."""
    return call.first


def pointwise(call: Call) -> Meaning:
    """Tensors that are joined position by position; attention weights are no shares after that."""
    found = together(call.tensors, call.shape)
    if not sources_of(found.axes):
        return found
    weights = [one for one in call.tensors if sources_of(one.axes)]
    how = DIFFERENCE if len(weights) > 1 else "changed weights"
    if (
        call.name == "mul"
        and len(weights) == 1
        and any(one.images for one in call.tensors if one not in weights)
    ):
        how = VALUED
    return replace(found, mixed=(*found.mixed, how))


def written(call: Call) -> Meaning:
    """A tensor into which another one is copied."""
    return together(call.tensors, call.shape)


def normed(call: Call) -> Meaning:
    """A norm: the first of what it gives has the axes of what went in."""
    return call.first if call.nth == 0 else lost(call)


def reduced(call: Call) -> Meaning:
    """Axes over which a sum, a mean or a maximum was taken are gone, or of size 1."""
    given, count = call.given.get("dim"), len(call.first.axes)
    dims = {place % count for place in ((given,) if isinstance(given, int) else given or range(count))}
    kept: list[Axis] = []
    for place, axis in enumerate(call.first.axes):
        if place not in dims:
            kept.append(axis)
        elif call.given.get("keepdim"):
            whole = axis[0] if len(axis) == 1 else None
            kept.append((Line(1, whole.axis, whole.step * whole.size),) if isinstance(whole, Line) else ())
    return call.first.at(tuple(kept))


def softmaxed(call: Call) -> Meaning:
    """The axis of a softmax holds keys from then on."""
    axes, place = list(call.first.axes), call.axis()
    axis = axes[place] or (Width(1),)
    axes[place] = tuple(Key(f.size, f.of if isinstance(f, Key) else f, call.source) for f in axis)
    return Meaning(tuple(axes), call.first.images)


def multiplied(call: Call) -> Meaning:
    """A matrix product: rows of the one, columns of the other; features where these are parameters'."""
    *_, left, right = call.tensors
    if not left.images and not right.images:
        return fixed(call.shape, tuple(dict.fromkeys(left.names + right.names)))
    rows = left.axes[-2] if left.images else features(call.shape[-2])
    columns = right.axes[-1] if right.images else features(call.shape[-1])
    before: Axes = ()
    if len(call.shape) > 2:
        before = together([left.at(left.axes[:1]), right.at(right.axes[:1])], call.shape[:1]).axes
    found = Meaning((*before, rows, columns))
    return _mixing(call, found, left, right)


def _mixing(call: Call, found: Meaning, *given: Meaning) -> Meaning:
    """Weights of which heads were mixed are no shares any more."""
    if not sources_of(found.axes):
        return found
    before = max((one.mixed for one in given if one.images), key=len)
    return replace(found, mixed=(*before, "talking heads"))


def convolved(call: Call) -> Meaning:
    """Channels become features; rows and columns stay, as far apart as the stride says."""
    image, kernel = call.known(call.given["input"]), tuple(call.given["weight"].shape[2:])
    strides = list(call.given["stride"]) * (len(kernel) if len(call.given["stride"]) == 1 else 1)
    grow = bool(call.given["transposed"])
    axes = [image.axes[0], features(call.shape[1])]
    if any(isinstance(factor, Images) for factor in image.axes[1]):
        batch = next(factor for factor in image.axes[1] if isinstance(factor, Images))
        axes[1] = merged((batch, *features(call.shape[1] // batch.size)))
    for axis, size, stride in zip(image.axes[2:], call.shape[2:], strides, strict=True):
        axes.append(strided(axis, size, Fraction(1, stride) if grow else Fraction(stride)))
    return _mixing(call, Meaning(tuple(axes), image.images), image)


def pooled(call: Call) -> Meaning:
    """A pool over a map: rows and columns as far apart as its stride says."""
    axes = list(call.first.axes)
    strides: Any = call.given.get("stride") or call.given["kernel_size"]
    spatial = len(call.given["kernel_size"])
    strides = list(strides) * (spatial if len(strides) == 1 else 1)
    for place, stride in zip(range(len(axes) - spatial, len(axes)), strides, strict=True):
        axes[place] = strided(axes[place], call.shape[place], Fraction(stride))
    return call.first.at(tuple(axes))


def resized(call: Call) -> Meaning:
    """A map that is resized: rows and columns over the same image."""
    axes = [
        axis if size_of(axis) == size else strided(axis, size, Fraction(size_of(axis), size))
        for axis, size in zip(call.first.axes, call.shape, strict=True)
    ]
    return call.first.at(tuple(axes))


def strided(axis: Axis, size: int, stride: Fraction) -> Axis:
    """Lines that are `stride` times as far apart; an axis that keeps its size and is not strided stays."""
    if size_of(axis) == size and stride == 1:
        return axis
    line = line_of(axis)
    if line is not None:
        return (Line(size, line.axis, line.step * stride),)
    return features(size) if all(isinstance(factor, Width) for factor in axis) else unknown([size])[0]


def line_of(axis: Axis) -> Line | None:
    """The lines that an axis is, with padding or without."""
    match axis:
        case (Line() as line,):
            return line
        case (Joined(parts=parts),):
            inside = [part for part in parts if not isinstance(part[0], Blank)]
            return line_of(inside[0]) if len(inside) == 1 else None
    return None


def columns(call: Call) -> Meaning:
    """Patches of a map as columns: their channels and pixels, by their places."""
    given = [call.given[key] for key in ("stride", "padding", "kernel_size", "dilation")]
    places: list[Line] = []
    for axis, stride, pad, kernel, dilation in zip(call.first.axes[-2:], *given, strict=True):
        line = line_of(axis)
        if line is None:
            return lost(call)
        count = (size_of(axis) + 2 * pad - dilation * (kernel - 1) - 1) // stride + 1
        places.append(Line(count, line.axis, line.step * stride))
    return call.first.at((call.first.axes[0], features(call.shape[1]), merged(places)))


def from_columns(call: Call) -> Meaning:
    """A map that is put together of columns of patches."""
    match call.first.axes[-1]:
        case (Line() as rows, Line() as cols):
            height, width = call.shape[-2:]
            lines: list[Axis] = [
                (Line(size, line.axis, line.step * line.size / size),)
                for line, size in ((rows, height), (cols, width))
            ]
            return call.first.at((call.first.axes[0], features(call.shape[1]), *lines))
    return lost(call)


def unfolded(call: Call) -> Meaning:
    """An axis that is seen through a window that steps along it."""
    axes, place = list(call.first.axes), call.axis("dimension")
    axes[place] = strided(axes[place], call.shape[place], Fraction(call.given["step"]))
    return call.first.at((*axes, features(call.shape[-1])))
