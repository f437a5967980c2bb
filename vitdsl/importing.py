"""Imports of what is large, with Python's search for garbage at rest.

PyTorch, timm and matplotlib are a million objects that stay: looking through them again and again while they are made
takes a third of the time, and looking through them later takes time as well. They are set aside for good.
"""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def importing() -> Iterator[None]:
    """While something large is imported, nobody looks for garbage; where it was, what is there is set aside."""
    searching, there = gc.isenabled(), len(sys.modules)
    gc.disable()
    try:
        yield
    finally:
        if len(sys.modules) > there:
            gc.freeze()
        if searching:
            gc.enable()
