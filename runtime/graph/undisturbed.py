"""Leaving a model as it was: what its program keeps on itself while it is traced is taken off again.

Programs keep things in Python: position biases by device, masks by size, what the last call gave. While a model is
traced these are values of the trace, which mean nothing to whoever runs or traces the model next. Owns the state of
modules as Python sees it: attributes, and the dictionaries, lists and sets among them. Does not own the values inside
tensors.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Give every module of a model its attributes and containers back when the block ends, also by an error."""
    kept: dict[int, tuple[Any, Any]] = {}
    for module in model.modules():
        _remember(vars(module), kept)
    try:
        yield
    finally:
        for container, content in kept.values():
            container.clear()
            if isinstance(container, list):
                container.extend(content)
            else:
                container.update(content)


def _remember(value: Any, kept: dict[int, tuple[Any, Any]]) -> None:
    """Note what a container and those in it hold now."""
    if isinstance(value, (dict, list, set)):
        if id(value) in kept:
            return
        kept[id(value)] = value, value.copy()
    for one in value.values() if isinstance(value, dict) else value:
        if isinstance(one, (dict, list, set, tuple)):
            _remember(one, kept)
