"""What a model's modules take and return, read by hooks while its own program runs on a batch.

For a model whose program cannot be followed (`trace`): in a graph it is one call, `HookedModel`, that gives what is
read of it. Owns the names of calls as they come, and that they come the same way for every batch. Does not own which
of them are sites (`unfollowed`).
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, fx, nn

from vitdsl.runtime.graph.refusals import first_line, line_of

HOOKED = "hooked"
"""In `node.meta` of the call of a model that is read by hooks: its `Calls`."""
Slot = tuple[str, str]
"""A role, `input` or `output`, and the name of a call: a module's path, `path:1` where it is called again."""
WHOLE: Slot = ("output", "")
"""The model's own output."""


@dataclass(frozen=True)
class Calls:
    """What every batch must do, as some images of noise did.

    Attributes:
        order: The calls in the order in which they begin, but for those of modules in `varying`.
        varying: The paths of modules that are called more or less often for other images: nothing of them is read.
        shapes: Of what can be read: how often the number of images goes into the first axis, and the other axes.
        largest: Most values that one module gives, for one image.
        all: Values that all of them give.
    """

    order: tuple[str, ...]
    varying: frozenset[str]
    shapes: Mapping[Slot, tuple[int, ...]]
    largest: int
    all: int


class OtherwiseError(Exception):
    """A program did something else for these images than for others: whose, and what."""

    def __init__(self, model: nn.Module, what: str) -> None:
        super().__init__(what)
        self.model = model


class HookedModel(nn.Module):
    """A model that gives what is wanted of its modules' inputs and outputs, by slot.

    Everything given is a copy: the program may write over its tensors afterwards.
    """

    def __init__(self, model: nn.Module, calls: Calls, wanted: Collection[Slot]) -> None:
        super().__init__()
        self.model, self.calls, self.wanted = model, calls, frozenset(wanted)

    def forward(self, images: Tensor) -> dict[Slot, Tensor]:
        """What is wanted for images `[batch, channel, row, col]`.

        Raises:
            OtherwiseError: The program called other modules than for other images, one gave another shape, or it
                raised an error.
        """
        found: dict[Slot, Tensor] = {}

        def take(slot: Slot, tensor: Tensor) -> None:
            if slot in self.wanted:
                found[slot] = tensor.clone()

        with listening(self.model, take) as order:
            try:
                self.model(images)
            except Exception as error:  # a model's program raises anything
                what = f"it raises {type(error).__name__}: {first_line(error)}, {line_of(error)}"
                raise OtherwiseError(self.model, what) from error
        self._check_order([name for name in order if path_of(name) not in self.calls.varying])
        for slot in self.wanted:
            self._check_shape(slot, found.get(slot), len(images))
        return found

    def _check_order(self, order: list[str]) -> None:
        came, otherwise = (
            [*(f"calls `{name}`" for name in names), "ends"] for names in (order, self.calls.order)
        )
        different = next((pair for pair in zip(came, otherwise, strict=False) if pair[0] != pair[1]), None)
        if different is not None:
            raise OtherwiseError(self.model, "it {} where it otherwise {}".format(*different))

    def _check_shape(self, slot: Slot, tensor: Tensor | None, images: int) -> None:
        times, *rest = self.calls.shapes[slot]
        shape = None if tensor is None else list(tensor.shape)
        if shape != [times * images, *rest]:
            role, name = slot
            what = f"the {role} of `{name}`" if name else "its output"
            raise OtherwiseError(
                self.model,
                f"{what} is {shape or 'no tensor'} where it otherwise is {[times * images, *rest]}",
            )


def readers(model: nn.Module, graph: fx.Graph) -> dict[str, HookedModel]:
    """The calls of a graph that are read by hooks, each giving only what the graph takes of it."""
    return {
        str(node.target): HookedModel(model, node.meta[HOOKED], [user.args[1] for user in node.users])
        for node in graph.nodes
        if HOOKED in node.meta
    }


@contextmanager
def listening(model: nn.Module, take: Callable[[Slot, Tensor], None]) -> Iterator[list[str]]:
    """Hooks on every module of a model for a while; gives the names of calls, which grow as the program runs.

    Args:
        model: The model.
        take: Told of the first tensor that a module is given, and of the first that it returns, when it is.
    """
    order: list[str] = []
    open_calls: list[str] = []
    counts: dict[str, int] = {}

    def entering(path: str) -> Callable[..., None]:
        def hook(module: nn.Module, given: Any) -> None:
            count = counts.get(path, 0)
            counts[path] = count + 1
            name = f"{path}:{count}" if count else path
            order.append(name)
            open_calls.append(name)
            first = next((one for one in given if isinstance(one, Tensor)), None)
            if first is not None:
                take(("input", name), first)

        return hook

    def leaving(module: nn.Module, given: Any, result: Any) -> None:
        name = open_calls.pop()
        first = first_of(result)
        if first is not None:
            take(("output", name), first)

    handles = []
    for path, module in model.named_modules():
        handles += [
            module.register_forward_pre_hook(entering(path)),
            module.register_forward_hook(leaving),
        ]
    try:
        yield order
    finally:
        for handle in handles:
            handle.remove()


def first_of(result: Any) -> Tensor | None:
    """The first tensor that a module returned."""
    while isinstance(result, (tuple, list)) and result:
        result = result[0]
    return result if isinstance(result, Tensor) else None


def path_of(name: str) -> str:
    """The module of a call."""
    return name.partition(":")[0]


def counts_of(order: Iterable[str]) -> Counter[str]:
    """How often each module is called."""
    return Counter(map(path_of, order))
