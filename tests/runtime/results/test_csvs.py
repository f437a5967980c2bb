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


def test_what_else_is_known_has_columns_of_its_own(tmp_path: Path) -> None:
    records = {"drawn": [("a", 0, "f0"), ("b", 1, "f1")], "read": [("c", None, "f2")]}
    facts = {"drawn": [{"x": 1.5}, {"x": 2.0, "shape": "=disc"}], "read": [{}]}
    write_images(tmp_path / IMAGES, records, facts)
    with (tmp_path / IMAGES).open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["data", "position", "id", "label", "sha256", "x", "shape"]
    assert [row[5:] for row in rows[1:]] == [["1.5", ""], ["2.0", "'=disc"], ["", ""]]
