"""Leaving a model as it was: what its program keeps on itself while it is traced is taken off again.

Programs keep things in Python: position biases by device, masks by size, what the last call gave. While a model is
traced these are values of the trace, which mean nothing to whoever runs or traces the model next. Owns the state of
modules as Python sees it: attributes, and the dictionaries, lists and sets among them. Does not own the values inside
tensors.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

Undo = Callable[[], None]


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Give every module of a model its attributes and containers back when the block ends, also by an error."""
    undo: dict[int, Undo] = {}
    for module in model.modules():
        _remember(vars(module), undo)
    try:
        yield
    finally:
        for back in undo.values():
            back()


def _remember(value: Any, undo: dict[int, Undo]) -> None:
    """Note how to fill a container, and those in it, with what they hold now."""
    if id(value) in undo:
        return
    if isinstance(value, dict):
        undo[id(value)] = _refill(value, value.update, dict(value))
        inside = list(value.values())
    elif isinstance(value, list):
        undo[id(value)] = _refill(value, value.extend, list(value))
        inside = list(value)
    elif isinstance(value, set):
        undo[id(value)] = _refill(value, value.update, set(value))
        inside = []
    else:
        inside = list(value) if isinstance(value, tuple) else []
    for one in inside:
        _remember(one, undo)


def _refill(container: Any, fill: Callable[[Any], Any], content: Any) -> Undo:
    def back() -> None:
        container.clear()
        fill(content)

    return back
