"""The delete-a-group jackknife against brute force, known variances, and coverage by simulation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from vitdsl.runtime.results.intervals import interval, jackknife


def brute_force(data: np.ndarray, blocks: list[np.ndarray], statistic: object) -> tuple[float, float]:
    """Busing, Meijer and van der Leeden 1999, equations for delete-m_j, one block after another on the data."""
    assert callable(statistic)
    n, g = len(data), len(blocks)
    whole = statistic(data)
    without = [statistic(np.delete(data, block)) for block in blocks]
    h = [n / len(block) for block in blocks]
    estimate = g * whole - sum((1 - len(block) / n) * one for block, one in zip(blocks, without, strict=True))
    pseudo = [hj * whole - (hj - 1) * one for hj, one in zip(h, without, strict=True)]
    variance = sum((one - estimate) ** 2 / (hj - 1) for one, hj in zip(pseudo, h, strict=True)) / g
    reach = stats.t.ppf(0.975, g - 1) * np.sqrt(variance)
    return whole - reach, whole + reach


def cut(n: int, sizes: list[int]) -> list[np.ndarray]:
    ends = np.cumsum(sizes)
    assert ends[-1] == n
    return [np.arange(end - size, end) for size, end in zip(sizes, ends, strict=True)]


@given(st.lists(st.integers(1, 9), min_size=2, max_size=12), st.integers(0, 10**6))
def test_equals_brute_force(sizes: list[int], seed: int) -> None:
    data = np.random.default_rng(seed).gamma(2.0, size=sum(sizes))
    blocks = cut(len(data), sizes)
    for statistic in (np.mean, lambda x: np.mean(x**2) / np.mean(x), lambda x: np.exp(-np.mean(x))):
        replicates = np.asarray([statistic(np.delete(data, block)) for block in blocks])
        found = interval(float(statistic(data)), replicates, np.asarray(sizes))
        np.testing.assert_allclose(found, brute_force(data, blocks, statistic), rtol=1e-9)


def test_of_a_mean_over_equal_blocks_is_the_classical_interval() -> None:
    data = np.random.default_rng(0).normal(size=120)
    means = data.reshape(20, 6).mean(1)
    replicates = np.asarray([np.delete(means, i).mean() for i in range(20)])
    low, high = interval(float(data.mean()), replicates, np.full(20, 6))
    wanted = stats.t.interval(0.95, 19, loc=means.mean(), scale=stats.sem(means))
    np.testing.assert_allclose((low, high), wanted, rtol=1e-12)


def test_of_a_mean_over_unequal_blocks_weighs_them() -> None:
    """For a mean, pseudo-values are block means: variance = sum (mean_j - mean)^2 / (h_j - 1) / g."""
    sizes = np.asarray([10, 10, 10, 2])
    means = np.asarray([1.0, 2.0, 4.0, 30.0])
    total = sizes.sum()
    whole = (sizes * means).sum() / total
    replicates = (total * whole - sizes * means) / (total - sizes)
    variance = ((means - whole) ** 2 / (total / sizes - 1)).sum() / 4
    low, high = interval(whole, replicates, sizes)
    assert (high - low) / 2 == pytest.approx(stats.t.ppf(0.975, 3) * np.sqrt(variance), rel=1e-12)
    assert low + high == pytest.approx(2 * whole, rel=1e-12)
    as_if_equal = interval(whole, replicates, np.full(4, 8))
    assert abs((as_if_equal[1] - as_if_equal[0]) / (high - low) - 1) > 0.2


@pytest.mark.parametrize("sizes", [[32] * 16, [32] * 15 + [7]])
def test_covers_the_truth_95_times_in_100(sizes: list[int]) -> None:
    """A ratio of means, over 600 data sets."""
    rng = np.random.default_rng(0)
    n, held = sum(sizes), 0
    starts = np.cumsum([0, *sizes[:-1]])
    for _ in range(600):
        x = rng.gamma(2.0, size=n)
        y = 3 * x + rng.normal(size=n)
        sx, sy = np.add.reduceat(x, starts), np.add.reduceat(y, starts)
        replicates = (sy.sum() - sy) / (sx.sum() - sx)
        low, high = interval(sy.sum() / sx.sum(), replicates, np.asarray(sizes))
        held += low < 3.0 < high
    assert 0.925 <= held / 600 <= 0.975


def test_many_numbers_at_once() -> None:
    rng = np.random.default_rng(0)
    estimate, replicates, sizes = rng.normal(size=(2, 3)), rng.normal(size=(5, 2, 3)), np.arange(1, 6)
    low, high = jackknife(estimate, replicates, sizes.astype(float))
    for index in np.ndindex(2, 3):
        one = interval(float(estimate[index]), replicates[(slice(None), *index)], sizes)
        np.testing.assert_allclose((low[index], high[index]), one, rtol=1e-14)


def test_too_few_blocks_and_undefined_replicates_give_no_interval() -> None:
    assert np.isnan(interval(1.0, [2.0], [5])).all()
    assert np.isnan(interval(1.0, [], [])).all()
    assert np.isnan(interval(1.0, [2.0, 1.0], [5, 0])).all(), "a block without images is none"
    assert np.isnan(interval(1.0, [2.0, np.nan, 1.0], [5, 5, 5])).all()
    assert np.isnan(interval(np.nan, [2.0, 3.0, 1.0], [5, 5, 5])).all()


def test_a_block_without_images_changes_nothing() -> None:
    found = interval(2.0, [1.0, 9.0, 2.0, 4.0], [5, 0, 5, 5])
    assert found == interval(2.0, [1.0, 2.0, 4.0], [5, 5, 5])


def test_equal_replicates_give_an_interval_without_width() -> None:
    assert interval(0.5, [0.5] * 4, [8] * 4) == (0.5, 0.5)
