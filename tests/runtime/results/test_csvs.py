"""Cells: what a spreadsheet would run as a formula is text."""

import csv
from pathlib import Path
from typing import Any

import pytest

from vitdsl.runtime.results.csvs import IMAGES, as_cell, write_images


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_text_that_starts_like_a_formula(start: str) -> None:
    for text in (f"{start}SUM(A1)", f"{start}1+1", f"{start}1_000", start):
        assert as_cell(text) == f"'{text}"


@pytest.mark.parametrize(
    "value", [-1.5, 3, float("nan"), None, True, "-1", "+2.5", "-1e-3", "-.5", "", "a=b", " =1", "a@b", "'=1"]
)
def test_numbers_and_other_text_stay(value: Any) -> None:
    assert as_cell(value) is value


def test_a_table_on_disk(tmp_path: Path) -> None:
    write_images(tmp_path / IMAGES, {"@probe": [("=1+1.png", -1, "+f0"), ("-2.png", None, "-3")]})
    with (tmp_path / IMAGES).open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    assert rows[1:] == [["'@probe", "0", "'=1+1.png", "-1", "'+f0"], ["'@probe", "1", "'-2.png", "", "-3"]]
