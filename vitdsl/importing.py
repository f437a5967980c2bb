"""Python's search for garbage, at rest while what is large is imported, and rare while much is made and soon dropped.

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


@contextmanager
def seldom() -> Iterator[None]:
    """While many small things are made that are soon dropped, such as figures, garbage is looked for less often."""
    before = gc.get_threshold()
    gc.set_threshold(50_000, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
