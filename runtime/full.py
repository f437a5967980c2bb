"""Full memory: how it is told from other errors, and the error that a user gets.

Each library has its own way to say it. Whoever catches anything that a model's, a package's or a reader's program may
raise lets full memory pass: it says nothing about the program. Does not own what is tried before (`run.walk`), or the
advice, which depends on what was done.
"""

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager

from vitdsl.dsl.diagnostics import Diagnostic, EnvironmentProblem

SAID = re.compile(
    r"out of memory|allocate memory|bad_alloc|ALLOC_FAILED|could not (create|execute) a (primitive|memory)( object)?$"
)
"""What a plain `RuntimeError` says of it: the allocator of the CPU, C++, libraries of a device, and oneDNN, which gives
no reason where it cannot get memory for a computation. An operation that it does not have has a longer text."""
UNMAPPED = "failed to map segment"
"""What the loader says of a library for which there is no room, in an `ImportError`."""


def is_memory(error: BaseException) -> bool:
    """Whether an error is out of memory."""
    if isinstance(error, RuntimeError):
        return type(error).__name__ == "OutOfMemoryError" or bool(SAID.search(str(error)))
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, MemoryError) or (isinstance(error, ImportError) and UNMAPPED in str(error))


@contextmanager
def telling(problem: Diagnostic) -> Iterator[None]:
    """Out of memory becomes an error that says what to do."""
    try:
        yield
    except Exception as error:
        if not is_memory(error):
            raise
        raise EnvironmentProblem(problem) from error
