"""Quantiles against `scipy.stats`, bit for bit, and at the ends of their ranges."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from vitdsl.runtime.results.quantiles import beta, normal, student

SHARES = st.floats(1e-4, 1 - 1e-4)
SIZES = st.floats(0.5, 1e6)


@given(SHARES, SIZES, SIZES)
def test_equal_those_of_scipy(share: float, a: float, b: float) -> None:
    assert student(share, a) == stats.t.ppf(share, a)
    assert beta(share, a, b) == stats.beta.ppf(share, a, b)
    assert normal(share) == stats.norm.ppf(share)


def test_arrays_and_parameters_out_of_range() -> None:
    hits = np.array([0.0, 3.0, 512.0])
    wanted = stats.beta.ppf(0.025, hits, 512 - hits + 1)
    np.testing.assert_array_equal(beta(0.025, hits, 512 - hits + 1), wanted)
    assert np.isnan(wanted[0]) and np.isnan(student(0.975, 0)) and np.isnan(stats.t.ppf(0.975, 0))
