"""Full memory where a model is made ready: its place in the study, and what to do.

Does not own how full memory is told from other errors (`runtime.full`).
"""

from collections.abc import Iterator
from contextlib import contextmanager

from vitdsl.dsl.diagnostics import Diagnostic
from vitdsl.runtime.full import telling


@contextmanager
def model_memory(name: str) -> Iterator[None]:
    """Out of memory where a model is built, read or loaded becomes an error at its entry, which the caller places."""
    problem = Diagnostic(
        "VD409",
        f"out of memory where the model `{name}` is made ready",
        help=(
            "take a smaller model, or fewer of them: a run holds the weights of all",
            "close other programs",
        ),
        about=(("weights",), ("arch",), ("given",)),
    )
    with telling(problem):
        yield
