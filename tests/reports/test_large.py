"""Large sweeps on the page: lists are cut, and say what is left out."""

from vitdsl.reports.sentences import MOST_DETAILS, lead_and_details


def test_details_are_cut_and_counted() -> None:
    text = lead_and_details("Lead.", [f"m{i}: 1." for i in range(500)])
    lines = text.splitlines()
    assert lines[1] == "m0: 1." and len(lines) == MOST_DETAILS + 2
    assert lines[-1] == f"{500 - MOST_DETAILS} more are left out here; the data has all."
