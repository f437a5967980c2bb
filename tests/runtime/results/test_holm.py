"""Holm's adjustment, against its step-down form."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from vitdsl.runtime.results.holm import adjusted


@given(st.lists(st.floats(0, 1), max_size=12), st.floats(0.001, 0.5))
def test_equals_the_step_down_procedure(p: list[float], level: float) -> None:
    """The smallest against level / n, the next against level / (n - 1), until one fails."""
    order = np.argsort(p, kind="stable")
    kept = [False] * len(p)
    for rank, i in enumerate(order):
        if not (len(p) - rank) * p[i] <= level:
            break
        kept[i] = True
    assert [one <= level for one in adjusted(p)] == kept


def test_one_alone_is_not_changed() -> None:
    assert adjusted([0.04]) == [0.04] and adjusted([]) == []
    assert adjusted([0.5, 0.01, 0.02]) == [0.5, 0.03, 0.04]
