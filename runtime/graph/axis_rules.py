"""How axes go through PyTorch's operations: one rule for each kind of operation, by the names that ATen gives them.

A rule takes what went in, as an operation was called, and the shape of what came out. What no rule knows keeps nothing
but its images. Does not own who calls the rules (`flow`), or what an axis is (`axes`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from torch import Tensor

from vitdsl.runtime.graph.axes import (
    Axes, Axis, Blank, Images, Joined, Key, Line, Named, Width, cut, features, joined, merged, reshaped, size_of,
    unknown,
)  # fmt: skip
from vitdsl.runtime.graph.meaning import Meaning, fixed, sources_of, together


@dataclass(frozen=True)
class Call:
    """One call of an operation.

    Attributes:
        name: What ATen calls it, without its overload.
        given: Its arguments by name, tensors as they are.
        known: What is known of a tensor.
        shape: Of the tensor that came out.
        nth: Which of several tensors that came out it is.
        source: A number for this call.
        batch: How many images there are.
        pointwise: Whether it joins its tensors position by position.
    """

    name: str
    given: Mapping[str, Any]
    known: Callable[[Tensor], Meaning]
    shape: tuple[int, ...]
    nth: int
    source: int
    batch: int
    pointwise: bool

    @property
    def first(self) -> Meaning:
        """What is known of the first tensor."""
        return self.tensors[0]

    @property
    def tensors(self) -> list[Meaning]:
        """What is known of all tensors, in order."""
        found = []
        for value in self.given.values():
            each = value if isinstance(value, (list, tuple)) else [value]
            found += [self.known(one) for one in each if isinstance(one, Tensor)]
        return found

    def axis(self, name: str = "dim", default: int = 0) -> int:
        """An argument that names an axis of the first tensor, counted from the front."""
        return int(self.given.get(name, default)) % max(1, len(self.first.axes))


Rule = Callable[[Call], Meaning]


def meaning_of(call: Call) -> Meaning:
    """What is known of what an operation gave."""
    meanings = call.tensors
    names = tuple(dict.fromkeys(name for one in meanings for name in one.names))
    rule = RULES.get(call.name) or (_pointwise if call.pointwise else None)
    if rule is None or not meanings:
        return lost(call) if any(one.images for one in meanings) else fixed(call.shape, names)
    found = rule(call)
    if tuple(map(size_of, found.axes)) != call.shape:
        return lost(call) if found.images else fixed(call.shape, names)
    return found


def lost(call: Call) -> Meaning:
    """What is known where no rule holds: the images alone, where they were the first axis and are."""
    axes = unknown(call.shape)
    first = next((one for one in call.tensors if one.images), None)
    if first is None:
        return fixed(call.shape)
    if call.shape and first.axes and first.axes[0] == (Images(call.shape[0]),):
        axes = (first.axes[0], *axes[1:])
    return Meaning(axes)


def _same(call: Call) -> Meaning:
    return call.first


def _pointwise(call: Call) -> Meaning:
    found = together(call.tensors, call.shape)
    if not sources_of(found.axes):
        return found
    weights = [one for one in call.tensors if sources_of(one.axes)]
    how = "differential attention" if len(weights) > 1 else "weights that are changed after their softmax"
    return replace(found, mixed=(*found.mixed, how))


def _written(call: Call) -> Meaning:
    return together(call.tensors, call.shape)


def _norm(call: Call) -> Meaning:
    return call.first if call.nth == 0 else lost(call)


def _view(call: Call) -> Meaning:
    return call.first.at(reshaped(call.first.axes, call.shape))


def _permute(call: Call) -> Meaning:
    axes = call.first.axes
    return call.first.at(tuple(axes[place % len(axes)] for place in call.given["dims"]))


def _transpose(call: Call) -> Meaning:
    axes = list(call.first.axes)
    one, other = (0, 1) if call.name == "t" else (call.axis("dim0"), call.axis("dim1"))
    if len(axes) > 1:
        axes[one], axes[other] = axes[other], axes[one]
    return call.first.at(tuple(axes))


def _unsqueeze(call: Call) -> Meaning:
    axes = list(call.first.axes)
    axes.insert(int(call.given["dim"]) % (len(axes) + 1), ())
    return call.first.at(tuple(axes))


def _expand(call: Call) -> Meaning:
    """Copies; a sequence of learned tokens becomes one of each image's."""
    first = call.first
    axes = [() for _ in range(len(call.shape) - len(first.axes))] + list(first.axes)
    copies = [size_of(axis) != size for axis, size in zip(axes, call.shape, strict=True)]
    found = [
        merged((*features(n // size_of(a)), *a)) if new else a
        for a, n, new in zip(axes, call.shape, copies, strict=True)
    ]
    if not first.images and len(first.axes) == 3 and copies == [True, False, False] and call.shape[0] == call.batch:
        name = "+".join(first.names)
        found = [(Images(call.shape[0]),), (Named(call.shape[1], name),), found[2]]
    return first.at(tuple(found))


def _slice(call: Call) -> Meaning:
    axes, place = list(call.first.axes), call.axis()
    size = size_of(axes[place])
    start, stop = (call.given.get(end) for end in ("start", "end"))
    start = 0 if start is None else max(0, start + size if start < 0 else start)
    stop = size if stop is None else min(size, stop + size if stop < 0 else stop)
    axes[place] = cut(axes[place], start, stop, call.given.get("step") or 1)
    return call.first.at(tuple(axes))


def _select(call: Call) -> Meaning:
    axes, place = call.first.axes, call.axis()
    return call.first.at(axes[:place] + axes[place + 1 :])


def _split(call: Call) -> Meaning:
    axes, place = list(call.first.axes), call.axis()
    sizes = call.given.get("split_sizes", call.given.get("split_size"))
    start = sum(sizes[: call.nth]) if isinstance(sizes, (list, tuple)) else int(sizes or 0) * call.nth
    axes[place] = cut(axes[place], start, start + call.shape[place])
    return call.first.at(tuple(axes))


def _cat(call: Call) -> Meaning:
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


def _index(call: Call) -> Meaning:
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


def _stack(call: Call) -> Meaning:
    shape = list(call.shape)
    place = int(call.given.get("dim", 0)) % len(shape)
    size = shape.pop(place)
    found = together(call.tensors, shape)
    return found.at((*found.axes[:place], features(size), *found.axes[place:]))


def _roll(call: Call) -> Meaning:
    axes = list(call.first.axes)
    for shift, place in zip(call.given["shifts"], call.given.get("dims") or (), strict=False):
        size = size_of(axes[place])
        at = -shift % size
        axes[place] = joined([cut(axes[place], at, size), cut(axes[place], 0, at)]) if at else axes[place]
    return call.first.at(tuple(axes))


def _pad(call: Call) -> Meaning:
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


def _reduce(call: Call) -> Meaning:
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


def _softmax(call: Call) -> Meaning:
    axes, place = list(call.first.axes), call.axis()
    axis = axes[place] or (Width(1),)
    axes[place] = tuple(
        Key(f.size, f.of if isinstance(f, Key) else f, call.source) for f in axis
    )
    return Meaning(tuple(axes), call.first.images)


def _product(call: Call) -> Meaning:
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


def _convolution(call: Call) -> Meaning:
    image, kernel = call.known(call.given["input"]), tuple(call.given["weight"].shape[2:])
    strides = list(call.given["stride"]) * (len(kernel) if len(call.given["stride"]) == 1 else 1)
    grow = bool(call.given["transposed"])
    axes = [image.axes[0], features(call.shape[1])]
    if any(isinstance(factor, Images) for factor in image.axes[1]):
        batch = next(factor for factor in image.axes[1] if isinstance(factor, Images))
        axes[1] = merged((batch, *features(call.shape[1] // batch.size)))
    for axis, size, stride in zip(image.axes[2:], call.shape[2:], strides, strict=True):
        axes.append(_strided(axis, size, Fraction(1, stride) if grow else Fraction(stride)))
    return _mixing(call, Meaning(tuple(axes), image.images), image)


def _pool(call: Call) -> Meaning:
    axes = list(call.first.axes)
    strides: Any = call.given.get("stride") or call.given["kernel_size"]
    spatial = len(call.given["kernel_size"])
    strides = list(strides) * (spatial if len(strides) == 1 else 1)
    for place, stride in zip(range(len(axes) - spatial, len(axes)), strides, strict=True):
        axes[place] = _strided(axes[place], call.shape[place], Fraction(stride))
    return call.first.at(tuple(axes))


def _resize(call: Call) -> Meaning:
    axes = [
        axis if size_of(axis) == size else _strided(axis, size, Fraction(size_of(axis), size))
        for axis, size in zip(call.first.axes, call.shape, strict=True)
    ]
    return call.first.at(tuple(axes))


def _strided(axis: Axis, size: int, stride: Fraction) -> Axis:
    """Lines that are `stride` times as far apart; an axis that keeps its size and is not strided stays."""
    if size_of(axis) == size and stride == 1:
        return axis
    line = _line(axis)
    if line is not None:
        return (Line(size, line.axis, line.step * stride),)
    return features(size) if all(isinstance(factor, Width) for factor in axis) else unknown([size])[0]


def _line(axis: Axis) -> Line | None:
    """The lines that an axis is, with padding or without."""
    match axis:
        case (Line() as line,):
            return line
        case (Joined(parts=parts),):
            inside = [part for part in parts if not isinstance(part[0], Blank)]
            return _line(inside[0]) if len(inside) == 1 else None
    return None


def _im2col(call: Call) -> Meaning:
    """Patches of a map as columns: their channels and pixels, by their places."""
    given = [call.given[key] for key in ("stride", "padding", "kernel_size", "dilation")]
    places: list[Line] = []
    for axis, stride, pad, kernel, dilation in zip(call.first.axes[-2:], *given, strict=True):
        line = _line(axis)
        if line is None:
            return lost(call)
        count = (size_of(axis) + 2 * pad - dilation * (kernel - 1) - 1) // stride + 1
        places.append(Line(count, line.axis, line.step * stride))
    return call.first.at((call.first.axes[0], features(call.shape[1]), merged(places)))


def _col2im(call: Call) -> Meaning:
    match call.first.axes[-1]:
        case (Line() as rows, Line() as cols):
            height, width = call.shape[-2:]
            lines: list[Axis] = [
                (Line(size, line.axis, line.step * line.size / size),)
                for line, size in ((rows, height), (cols, width))
            ]
            return call.first.at((call.first.axes[0], features(call.shape[1]), *lines))
    return lost(call)


def _unfold(call: Call) -> Meaning:
    axes, place = list(call.first.axes), call.axis("dimension")
    axes[place] = _strided(axes[place], call.shape[place], Fraction(call.given["step"]))
    return call.first.at((*axes, features(call.shape[-1])))


RULES: dict[str, Rule] = {}


def _rules(rule: Rule, names: str) -> None:
    RULES.update(dict.fromkeys(names.split(), rule))


_rules(_same, "clone _to_copy alias detach lift_fresh cumsum hardswish hardswish_ tril triu dropout")
_rules(_written, "copy_")
_rules(_same, "_prelu_kernel log_sigmoid _log_softmax cumprod nan_to_num contiguous view_as_real")
_rules(_norm, "native_layer_norm native_group_norm native_batch_norm cudnn_batch_norm native_dropout")
_rules(_norm, "_native_batch_norm_legit_no_training _native_batch_norm_legit _fused_rms_norm")
_rules(_view, "view _unsafe_view reshape _reshape_alias squeeze unflatten squeeze_")
_rules(_permute, "permute")
_rules(_transpose, "t transpose")
_rules(_unsqueeze, "unsqueeze unsqueeze_")
_rules(_expand, "expand repeat")
_rules(_slice, "slice")
_rules(_select, "select unbind")
_rules(_split, "split split_with_sizes")
_rules(_cat, "cat")
_rules(_index, "index")
_rules(_stack, "stack")
_rules(_roll, "roll")
_rules(_pad, "constant_pad_nd reflection_pad1d reflection_pad2d replication_pad2d")
_rules(_reduce, "mean sum amax amin max min var std var_mean linalg_vector_norm prod any all logsumexp argmax norm")
_rules(_softmax, "_softmax _safe_softmax")
_rules(_product, "mm addmm bmm baddbmm")
_rules(_convolution, "convolution")
_rules(_pool, "avg_pool1d avg_pool2d max_pool2d_with_indices max_pool2d avg_pool3d")
_rules(_resize, "_adaptive_avg_pool2d adaptive_max_pool2d adaptive_avg_pool1d upsample_nearest2d upsample_bilinear2d")
_rules(_resize, "upsample_bicubic2d _upsample_bilinear2d_aa _upsample_bicubic2d_aa mean_pool")
_rules(_im2col, "im2col")
_rules(_col2im, "col2im")
_rules(_unfold, "unfold")

