"""Quantiles of the distributions that intervals are made of.

They are those of `scipy.stats`, to the bit, from the special functions beneath it: importing `scipy.stats` takes longer
than checking a study. Where a parameter is out of range, the answer is NaN.
"""

from typing import Any

from scipy import special


def student(share: Any, freedom: Any) -> Any:
    """Quantiles of Student's t with so many degrees of freedom; of arrays, element by element."""
    return special.stdtrit(freedom, share)


def beta(share: Any, a: Any, b: Any) -> Any:
    """Quantiles of the beta distribution; of arrays, element by element."""
    return special.betaincinv(a, b, share)


def normal(share: Any) -> Any:
    """Quantiles of the standard normal distribution; of arrays, element by element."""
    return special.ndtri(share)
