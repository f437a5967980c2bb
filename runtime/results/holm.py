"""Many claims: what each may still say when all of a study are looked at together (Holm 1979). Free of torch."""

from collections.abc import Sequence


def adjusted(p: Sequence[float]) -> list[float]:
    """P-values that hold for a whole family: compare each with the one level that the family has.

    Args:
        p: One for each claim of the family, 0 to 1.

    Returns:
        The adjusted ones in the same order: the smallest times how many there are, the next times one fewer, and so
        on, never less than the one before, at most 1.
    """
    order = sorted(range(len(p)), key=lambda i: p[i])
    found, least = [1.0] * len(p), 0.0
    for rank, i in enumerate(order):
        least = max(least, min(1.0, (len(p) - rank) * p[i]))
        found[i] = least
    return found
