"""How a broken law is told: its name, then what was found. Does not own any law."""

from collections.abc import Iterator
from contextlib import contextmanager


class LawBroken(AssertionError):
    """A kind breaks a law; the text starts with the law's name."""


@contextmanager
def law(name: str, of: str = "") -> Iterator[None]:
    """Whatever goes wrong inside breaks this law; a law that was named further inside keeps its name.

    Args:
        name: The law, as the error says it.
        of: What was looked at, such as a place.
    """
    try:
        yield
    except LawBroken:
        raise
    except Exception as error:
        found = str(error) if isinstance(error, AssertionError) else f"{type(error).__name__}: {error}"
        raise LawBroken(f"law `{name}` is broken{f' at {of}' if of else ''}: {found}") from error


def hold(condition: bool, otherwise: str) -> None:
    """Assert something; unlike the statement, also under `python -O`.

    Args:
        condition: What must be true.
        otherwise: What is the matter where it is not.
    """
    if not condition:
        raise AssertionError(otherwise)
