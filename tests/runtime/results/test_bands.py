"""Numbers that a choice gave, against brute force and laws."""

import itertools

import numpy as np
import pytest
from scipy import stats

from vitdsl.runtime.results.bands import not_beaten, ranked, selected, together
from vitdsl.runtime.results.intervals import PLAIN, Scale, interval

SIZES = np.full(8, 16.0)


def made(means: np.ndarray, noise: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Numbers and what they are without each of eight parts."""
    parts = means + noise * np.random.default_rng(seed).normal(size=(8, len(means)))
    return parts.mean(0), (parts.sum(0) - parts) / 7


def test_levels_multiply() -> None:
    assert together(0.95, 16) ** 16 == pytest.approx(0.95)


@pytest.mark.parametrize("take", ["max", "min", "spread"])
def test_extremes_are_those_of_intervals_that_hold_at_once(take: str) -> None:
    values, without = made(np.linspace(0, 1, 5), 0.3)
    level = 0.95 ** (1 / 5)
    ends = [interval(v, without[:, i], SIZES, level=level) for i, v in enumerate(values)]
    low, high = (np.array([float(end[k]) for end in ends]) for k in (0, 1))
    wanted = {
        "max": (low.max(), high.max()),
        "min": (low.min(), high.min()),
        "spread": (max(0.0, low.max() - high.min()), high.max() - low.min()),
    }[take]
    found = selected(take, np.arange(5.0), values, without, SIZES, PLAIN)
    np.testing.assert_allclose(found, wanted, rtol=1e-12)


def test_one_number_alone_has_its_own_interval() -> None:
    values, without = made(np.array([0.4]), 0.1)
    own = interval(values, without, SIZES)
    for take in ("max", "min"):
        np.testing.assert_allclose(selected(take, np.zeros(1), values, without, SIZES, PLAIN), np.ravel(own))


def test_the_place_of_the_extreme_is_a_set() -> None:
    values, without = made(np.array([0.0, 1.0, 1.02, 0.2]), 0.1)
    kept = not_beaten(values, without, SIZES, PLAIN)
    assert kept.tolist() == [False, True, True, False]
    x = np.array([0.1, 0.4, 0.7, 1.0])
    assert selected("argmax", x, values, without, SIZES, PLAIN) == (0.4, 0.7)
    assert selected("argmin", x, values, without, SIZES, PLAIN)[0] == 0.1
    lowest = not_beaten(-values, -without, SIZES, PLAIN, lowest=True)
    assert (lowest == kept).all()


def test_what_numbers_have_in_common_cancels_between_them() -> None:
    """All move together by far more than they differ: still one of them is the largest."""
    common = np.random.default_rng(1).normal(size=(8, 1))
    parts = np.array([0.0, 0.1]) + common + 1e-4 * np.random.default_rng(2).normal(size=(8, 2))
    values, without = parts.mean(0), (parts.sum(0) - parts) / 7
    assert not_beaten(values, without, SIZES, PLAIN).tolist() == [False, True]


def test_a_lead_that_no_image_contradicts_needs_more_than_an_image() -> None:
    """Of shares of images: 127 right against 126 is no lead, although each part without one says the same."""
    scale = Scale(0.0, 1.0, share=True, count=True)
    values = np.array([127, 126]) / 128
    without = np.repeat(values[None], 8, 0)
    assert not_beaten(values, without, SIZES, scale).all()


@pytest.mark.parametrize("seed", range(6))
def test_rank_correlation_reaches_as_far_as_the_intervals_allow(seed: int) -> None:
    """All orders of four numbers inside their intervals: none reaches further, some reach as far."""
    rng = np.random.default_rng(seed)
    values, without = made(rng.normal(size=4), 0.3, seed)
    x = np.arange(4.0)
    low, high = interval(values, without, SIZES, PLAIN, together(0.95, 4))
    grid = [np.linspace(lo, hi, 13) for lo, hi in zip(low, high, strict=True)]
    ranks = stats.rankdata(list(itertools.product(*grid)), axis=1)
    found = 1 - ((ranks - x - 1) ** 2).sum(1) / 10
    untied = (np.sort(ranks, 1) == x + 1).all(1)
    ends = ranked(x, values, without, SIZES, PLAIN)
    np.testing.assert_allclose(ends, (found[untied].min(), found[untied].max()), rtol=0, atol=1e-9)


def test_numbers_in_a_clear_order_have_one_rank_correlation() -> None:
    values, without = made(np.linspace(0, 10, 6), 0.01)
    assert ranked(np.arange(6.0), values, without, SIZES, PLAIN) == (1.0, 1.0)
    assert ranked(np.arange(6.0), -values, -without, SIZES, PLAIN) == (-1.0, -1.0)
