"""A model whose program cannot be followed, as a graph of one call: what its modules take and return can be read.

What is there is found by running the model on images of noise, one by one and beside others. Read is what is the same
for an image alone, with the image as first axis, from modules that are called as often for any images. What the axes
mean is followed through the run as through a graph (`flow`). Owns what is left out and what is refused. Does not own
the reading itself (`hooks`), or when it is asked for (`sites`).
"""

import operator
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode

from vitdsl.dsl.diagnostics import StudyError
from vitdsl.runtime.full import is_memory
from vitdsl.runtime.graph.axes import Images, unknown
from vitdsl.runtime.graph.flow import AXES, Flow
from vitdsl.runtime.graph.hooks import HOOKED, WHOLE, Calls, Slot, counts_of, listening, path_of
from vitdsl.runtime.graph.meaning import Meaning
from vitdsl.runtime.graph.propagate import FLOPS, OPS, PROBE, VALUE
from vitdsl.runtime.graph.refusals import no_run, no_tensor
from vitdsl.runtime.graph.trace import Traced
from vitdsl.runtime.graph.undisturbed import undisturbed
from vitdsl.runtime.graph.work import Op, Work
from vitdsl.runtime.randomness import isolated

MORE = 17
"""Images of the run in which the first `PROBE` have others beside them."""
MOST = 3
"""Names that a message shows."""
Real = Callable[[], nn.Module]
"""Gives a model with numbers, for one whose program cannot be followed without."""
ALIKE = 1e-4
"""How far what is read of an image may differ beside others, relative to its largest value."""


@dataclass(frozen=True)
class Unfollowed:
    """That a model is read by hooks.

    Attributes:
        why: Why its program cannot be followed.
        left_out: The modules of which something cannot be read: they are called more or less often for other images,
            or what they take or return is not of single images.
    """

    why: str
    left_out: tuple[str, ...]

    @property
    def said(self) -> str:
        """What a reader should know of such a model."""
        read = "its modules are read by hooks while it runs, it has no residual units or attention, and nothing in it "
        more = len(self.left_out) - MOST
        names = ", ".join(f"`{name}`" for name in self.left_out[:MOST]) + (
            f" and {more} more" if more > 0 else ""
        )
        lost = f". Left out is what is not of single images, in {names}" if names else ""
        return f"{self.why}. So {read}can be changed{lost}"


@dataclass
class _Ran:
    """One run: the names of calls; of each slot its shape, and the sum and norm at each position of the first axis."""

    order: list[str]
    shapes: dict[Slot, tuple[int, ...]]
    marks: dict[Slot, Tensor]


def by_hooks(model: nn.Module, input_size: tuple[int, ...], error: StudyError) -> tuple[Traced, Unfollowed]:
    """The graph of a model that is read by hooks.

    Args:
        model: With numbers; it runs.
        input_size: `(channels, height, width)` of one image.
        error: Why it cannot be traced.

    Returns:
        Its graph, annotated as after `propagate`, and what is to be said of it.

    Raises:
        StudyError: It does not run on such images, gives no tensor, calls its modules in another order for other
            images, or what it gives of an image hangs on others (VD301).
    """
    images = _drawn(input_size)
    few = images[:PROBE]
    try:
        meanings, ops = _followed(model, few)
        beside = _ran(model, images)
        alone = [_ran(model, image) for image in torch.split(few, 1)]
    except StudyError:
        raise
    except Exception as own:  # a model's program raises anything
        if is_memory(own):
            raise
        raise no_run(error, own) from own
    counts = [counts_of(one.order) for one in (beside, *alone)]
    called = dict.fromkeys(path for one in counts for path in one)
    varying = frozenset(path for path in called if len({one.get(path) for one in counts}) > 1)
    orders = {tuple(name for name in one.order if path_of(name) not in varying) for one in (beside, *alone)}
    if len(orders) > 1:
        raise no_run(error, "it calls its modules in another order for other images")
    read = {
        slot: (len(beside.marks[slot]) // MORE, *shape[1:])
        for slot, shape in beside.shapes.items()
        if slot in meanings and path_of(slot[1]) not in varying and _of_images(slot, alone, beside)
    }
    if WHOLE not in read:
        raise no_run(error, "what it gives of an image hangs on the others of its batch, or on chance")
    sizes = [prod(shape) // MORE for (role, _), shape in beside.shapes.items() if role == "output"]
    unread = {path_of(name) for _, name in beside.shapes.keys() - read.keys()} | varying
    left_out = tuple(path for path in called if path in unread)
    calls = Calls(orders.pop(), varying, read, max(sizes), sum(sizes))
    return _graph(few, calls, meanings, ops), Unfollowed(error.diagnostics[0].message, left_out)


def operations_of(model: nn.Module, input_size: tuple[int, ...], error: StudyError) -> list[str]:
    """The operations that a model does on images of noise, with their arguments: what stands for its graph as text.

    Args:
        model: With numbers; it runs.
        input_size: `(channels, height, width)` of one image.
        error: Why it cannot be traced.

    Raises:
        StudyError: It does not run on such images (VD301).
    """
    noted, images = _Noted(), _drawn(input_size)
    try:
        with _undisturbed(model), torch.no_grad(), noted:
            model(images)
    except Exception as own:  # a model's program raises anything
        if is_memory(own):
            raise
        raise no_run(error, own) from own
    return noted.said


def _drawn(input_size: tuple[int, ...]) -> Tensor:
    """Images of noise, the same each time."""
    return torch.randn(MORE, *input_size, generator=torch.Generator().manual_seed(0))


def _graph(images: Tensor, calls: Calls, meanings: dict[Slot, Meaning], ops: list[Op]) -> Traced:
    """The graph: one call, and what is taken of it, in the order in which the program had it."""
    graph = fx.Graph()
    given = graph.placeholder("images")
    given.meta |= {
        VALUE: images.to("meta"),
        AXES: Flow(nn.Module(), images).meaning(images),
        OPS: (),
        FLOPS: 0.0,
    }
    call = graph.call_module("", (given,))
    done = tuple(op.times(1 / PROBE) for op in ops)
    call.meta |= {HOOKED: calls, VALUE: None, OPS: done, FLOPS: sum(op.flops for op in done)}
    found: dict[Slot, fx.Node] = {}
    for slot, (times, *rest) in calls.shapes.items():
        node = found[slot] = graph.call_function(operator.getitem, (call, slot))
        value = torch.empty(times * PROBE, *rest, device="meta")
        node.meta |= {VALUE: value, AXES: _meaning(meanings[slot], tuple(value.shape)), OPS: (), FLOPS: 0.0}
    graph.output(found[WHOLE])
    outputs, inputs = (
        {name: node for (role, name), node in found.items() if role == wanted and name}
        for wanted in ("output", "input")
    )
    return Traced(graph, outputs, inputs, {})


def _meaning(known: Meaning, shape: tuple[int, ...]) -> Meaning:
    """What is known of a tensor whose first axis goes by images, also where the program took them apart."""
    rest = known.axes[1:] if known.images else unknown(shape[1:])
    if shape[0] != PROBE:
        return known if known.images else Meaning((*unknown(shape[:1]), *rest))
    return Meaning(((Images(PROBE),), *rest))


def _followed(model: nn.Module, images: Tensor) -> tuple[dict[Slot, Meaning], list[Op]]:
    """What the axes mean of all that can be read, and the operations of the program."""
    found: dict[Slot, Meaning] = {}

    def take(slot: Slot, tensor: Tensor) -> None:
        if tensor.is_floating_point() and tensor.ndim:
            found[slot] = flow.meaning(tensor)

    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with (
            _undisturbed(model),
            torch.no_grad(),
            sdpa_kernel(SDPBackend.MATH),
            Work() as work,
            Flow(model, images) as flow,
            listening(model, take),
        ):
            result = model(images)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    if not isinstance(result, Tensor):
        raise no_tensor(model, result)
    return found, work.ops


def _ran(model: nn.Module, images: Tensor) -> _Ran:
    """What a run as those of a study gives."""
    found = _Ran([], {}, {})

    def take(slot: Slot, tensor: Tensor) -> None:
        if tensor.ndim:
            found.shapes[slot] = tuple(tensor.shape)
            rows = tensor.reshape(len(tensor), -1).double()
            found.marks[slot] = torch.stack([rows.sum(1), rows.norm(dim=1)], 1)

    with _undisturbed(model), torch.inference_mode(), listening(model, take) as order:
        model(images)
    found.order = order
    return found


def _of_images(slot: Slot, alone: list[_Ran], beside: _Ran) -> bool:
    """Whether a tensor has the image as first axis, or as its outer part, and each image's is its own."""
    first, *rest = beside.shapes[slot]
    times, odd = divmod(first, MORE)
    if odd or not times or any(one.shapes.get(slot) != (times, *rest) for one in alone):
        return False
    mine = torch.cat([one.marks[slot] for one in alone])
    difference = (mine - beside.marks[slot][: len(mine)]).abs()
    return bool((difference <= ALIKE * mine.abs().amax(0)).all())


@contextmanager
def _undisturbed(model: nn.Module) -> Iterator[None]:
    """Run a model with the same chance each time, and leave it as it was."""
    with isolated(0), undisturbed(model):
        yield


class _Noted(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes operations with their arguments: of tensors type and shape, of fractions six digits."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.said: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and note it."""
        self.said.append(f"{func} {_argument(args)} {_argument(kwargs or {})}")
        return func(*args, **(kwargs or {}))


def _argument(value: Any) -> str:
    match value:
        case Tensor():
            return f"{value.dtype}{list(value.shape)}"
        case float():
            return f"{value:.6g}"
        case list() | tuple():
            return f"[{', '.join(map(_argument, value))}]"
        case dict():
            return f"{{{', '.join(f'{key}: {_argument(one)}' for key, one in value.items())}}}"
    plain = (bool, int, str, torch.dtype, torch.device, torch.layout, torch.memory_format)
    return repr(value) if isinstance(value, plain) else type(value).__name__
