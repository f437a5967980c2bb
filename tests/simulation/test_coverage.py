"""A small part of the coverage table, with fixed seeds: the cases that were wrong once."""

import pytest

from simulation.coverage_of_intervals import Row, rate, rows

CASES = {row.case: row for row in rows()}
FAST = [row for row in rows() if not row.slow]
DRAWS = 120


@pytest.mark.parametrize("row", FAST, ids=lambda row: row.case)
def test_intervals_hold_the_truth_and_false_claims_are_not_supported(row: Row) -> None:
    """So many draws tell a rate of 0.95 from one of 0.85, and one of 0.025 from one of 0.1."""
    found = rate(row, DRAWS, seed=1)
    assert found >= 0.89 if row.kind == "coverage" else found <= 0.06


@pytest.mark.parametrize(
    "case", ["top-1 at 0.999, 64 images", "drop of 0.003, 256 images", "CKA 0.25, 65 images in batches of 32"]
)
def test_counts_and_short_batches(case: str) -> None:
    assert rate(CASES[case], 30, seed=1) >= 0.9
