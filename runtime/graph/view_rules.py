"""How axes go through views: reshapes, reorderings, cuts, joins, padding.

One rule for each kind of operation, from what is known of what went in to what is known of what came out.
"""

from vitdsl.runtime.graph.axes import (
    Axis,
    Blank,
    Images,
    Named,
    Width,
    cut,
    features,
    joined,
    merged,
    reshaped,
    size_of,
    unknown,
)
from vitdsl.runtime.graph.calls import Call, lost
from vitdsl.runtime.graph.meaning import Meaning, together


def viewed(call: Call) -> Meaning:
    """The same values in another shape."""
    return call.first.at(reshaped(call.first.axes, call.shape))


def permuted(call: Call) -> Meaning:
    """Axes in another order."""
    axes = call.first.axes
    return call.first.at(tuple(axes[place % len(axes)] for place in call.given["dims"]))


def transposed(call: Call) -> Meaning:
    """Two axes change places."""
    axes = list(call.first.axes)
    one, other = (0, 1) if call.name == "t" else (call.axis("dim0"), call.axis("dim1"))
    if len(axes) > 1:
        axes[one], axes[other] = axes[other], axes[one]
    return call.first.at(tuple(axes))


def unsqueezed(call: Call) -> Meaning:
    """An axis of size 1 more."""
    axes = list(call.first.axes)
    axes.insert(int(call.given["dim"]) % (len(axes) + 1), ())
    return call.first.at(tuple(axes))


def expanded(call: Call) -> Meaning:
    """Copies; a sequence of learned tokens becomes one of each image's."""
    first = call.first
    axes = [() for _ in range(len(call.shape) - len(first.axes))] + list(first.axes)
    copies = [size_of(axis) != size for axis, size in zip(axes, call.shape, strict=True)]
    found = [
        merged((*features(n // size_of(a)), *a)) if new else a
        for a, n, new in zip(axes, call.shape, copies, strict=True)
    ]
    if (
        not first.images
        and len(first.axes) == 3
        and copies == [True, False, False]
        and call.shape[0] == call.batch
    ):
        name = "+".join(first.names)
        found = [(Images(call.shape[0]),), (Named(call.shape[1], name),), found[2]]
    return first.at(tuple(found))


def sliced(call: Call) -> Meaning:
    """Some positions of an axis."""
    axes, place = list(call.first.axes), call.axis()
    size = size_of(axes[place])
    start, stop = (call.given.get(end) for end in ("start", "end"))
    start = 0 if start is None else max(0, start + size if start < 0 else start)
    stop = size if stop is None else min(size, stop + size if stop < 0 else stop)
    axes[place] = cut(axes[place], start, stop, call.given.get("step") or 1)
    return call.first.at(tuple(axes))


def selected(call: Call) -> Meaning:
    """One position of an axis, which is gone."""
    axes, place = call.first.axes, call.axis()
    return call.first.at(axes[:place] + axes[place + 1 :])


def split_off(call: Call) -> Meaning:
    """A run of positions of an axis."""
    axes, place = list(call.first.axes), call.axis()
    sizes = call.given.get("split_sizes", call.given.get("split_size"))
    start = sum(sizes[: call.nth]) if isinstance(sizes, (list, tuple)) else int(sizes or 0) * call.nth
    axes[place] = cut(axes[place], start, start + call.shape[place])
    return call.first.at(tuple(axes))


def concatenated(call: Call) -> Meaning:
    """Tensors one behind the other along an axis."""
    place, meanings = call.axis(), call.tensors
    others = [one for one in meanings if len(one.axes) == len(call.shape)]
    shape = list(call.shape)
    shape[place] = 1
    found = together([one.at((*one.axes[:place], (), *one.axes[place + 1 :])) for one in others], shape)
    parts = [_part(one, one.axes[place], found.images) for one in others]
    axes = list(found.axes)
    axes[place] = joined(parts)
    return found.at(tuple(axes))


def _part(meaning: Meaning, axis: Axis, of_images: bool) -> Axis:
    """One of the parts of a sequence: without a name of its own, that of the parameter that it comes from."""
    if not meaning.images and of_images and meaning.names and all(isinstance(f, Width) for f in axis):
        return axis if len(meaning.axes) != 3 else (Named(size_of(axis), "+".join(meaning.names)),)
    return axis or ((Named(1, ""),) if len(meaning.axes) == 3 else (Width(1),))


def indexed(call: Call) -> Meaning:
    """Some positions of one axis, in an order of their own."""
    axes, indices = list(call.first.axes), list(call.given["indices"])
    chosen = [place for place, index in enumerate(indices) if index is not None]
    if len(chosen) != 1 or not call.first.images or len(call.known(indices[chosen[0]]).axes) != 1:
        return lost(call)
    (place,) = chosen
    size = call.shape[place]
    is_width = all(isinstance(factor, Width) for factor in axes[place])
    axes[place] = features(size) if is_width else unknown([size])[0]
    return call.first.at(tuple(axes))


def stacked(call: Call) -> Meaning:
    """Tensors side by side along a new axis."""
    shape = list(call.shape)
    place = int(call.given.get("dim", 0)) % len(shape)
    size = shape.pop(place)
    found = together(call.tensors, shape)
    return found.at((*found.axes[:place], features(size), *found.axes[place:]))


def rolled(call: Call) -> Meaning:
    """Positions that are moved along an axis, the last ones to the front."""
    axes = list(call.first.axes)
    for shift, place in zip(call.given["shifts"], call.given.get("dims") or (), strict=False):
        size = size_of(axes[place])
        at = -shift % size
        axes[place] = joined([cut(axes[place], at, size), cut(axes[place], 0, at)]) if at else axes[place]
    return call.first.at(tuple(axes))


def padded(call: Call) -> Meaning:
    """An axis with padding before or behind it, or cut shorter."""
    axes, pads = list(call.first.axes), list(call.given.get("pad") or call.given["padding"])
    for back, (before, after) in enumerate(zip(pads[::2], pads[1::2], strict=True)):
        axis = axes[-1 - back]
        size = size_of(axis)
        axis = cut(axis, max(0, -before), size - max(0, -after))
        blanks = [(Blank(count),) if count > 0 else () for count in (before, after)]
        parts = [part for part in (blanks[0], axis, blanks[1]) if part]
        all_features = all(isinstance(factor, Width) for factor in axis)
        axes[-1 - back] = features(size + before + after) if all_features else joined(parts)
    return call.first.at(tuple(axes))
