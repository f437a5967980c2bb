"""The same numbers as tables: `summary.csv` and `images.csv`, and what a cell of any CSV file may hold.

Does not own the numbers (`groups`), or which tables the report draws.
"""

import csv
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from vitdsl.runtime.results.writing import write_atomically

SUMMARY = "summary.csv"
IMAGES = "images.csv"
COMPANIONS = ("_low", "_high", "_replicates", "_trainings")
SUMMARY_COLUMNS = (
    "metric", "group", "value", "condition", "site", "site_x", "site_y", "head", "token", "depth",
    "estimate", "low", "high", "units",
)  # fmt: skip
NUMBER = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?")


def as_cell(value: Any) -> Any:
    """A cell that a spreadsheet takes for what it is: text that it would run as a formula gets a `'` in front."""
    if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")):
        return value if NUMBER.fullmatch(value) else f"'{value}"
    return value


def values_of(dataset: xr.Dataset) -> list[str]:
    """Names of a group's values, without their companions."""
    return [str(name) for name in dataset.data_vars if not str(name).endswith(COMPANIONS)]


def is_table(dataset: xr.Dataset, value: str) -> bool:
    """Whether the numbers of a value stand in tables: all but those of single images, which are pictures."""
    return not dataset[value].attrs.get("example")


def summary_rows(groups: Mapping[str, xr.Dataset]) -> Iterator[dict[str, Any]]:
    """One row for each number of each group: the columns of `summary.csv`, and one for each further dimension."""
    for path, dataset in groups.items():
        metric, _, group = path.partition("/")
        for name in filter(partial(is_table, dataset), values_of(dataset)):
            array = dataset[name]
            low, high = dataset.get(f"{name}_low"), dataset.get(f"{name}_high")
            for index in np.ndindex(array.shape):
                row: dict[str, Any] = {"metric": metric, "group": group, "value": name}
                for dim, position in zip(array.dims, index, strict=True):
                    row[str(dim)] = dataset[dim].values[position] if dim in dataset.coords else position
                    if dim == "site" and "depth" in dataset.coords:
                        row["depth"] = float(dataset["depth"].values[position])
                row["estimate"] = float(array.values[index])
                if low is not None and high is not None:
                    row["low"], row["high"] = float(low.values[index]), float(high.values[index])
                row["units"] = array.attrs.get("units", "1")
                yield row


def write_summary(path: Path, groups: Mapping[str, xr.Dataset]) -> None:
    """Write `summary.csv`."""
    dims = dict.fromkeys(
        str(dim)
        for data in groups.values()
        for name in values_of(data)
        if is_table(data, name)
        for dim in data[name].dims
    )
    more = [dim for dim in dims if dim not in SUMMARY_COLUMNS]
    place = SUMMARY_COLUMNS.index("estimate")
    columns = [*SUMMARY_COLUMNS[:place], *more, *SUMMARY_COLUMNS[place:]]
    _write(path, columns, ([row.get(name, "") for name in columns] for row in summary_rows(groups)))


def write_images(
    path: Path,
    records: Mapping[str, Iterable[tuple[str, int | None, str]]],
    facts: Mapping[str, Sequence[Mapping[str, str | float]]] | None = None,
) -> None:
    """Write `images.csv`: of each stream, position, id, label and content hash of its images, in order.

    Args:
        path: The file.
        records: Id, label and content hash of each image, by stream.
        facts: What else is known of each image, by stream: further columns, empty where a stream has them not.
    """
    known = facts or {}
    more = list(dict.fromkeys(column for rows in known.values() for row in rows for column in row))
    _write(
        path,
        ("data", "position", "id", "label", "sha256", *more),
        (
            (name, position, id, "" if label is None else label, sha256, *_cells(known, name, position, more))
            for name, rows in records.items()
            for position, (id, label, sha256) in enumerate(rows)
        ),
    )


def _cells(
    facts: Mapping[str, Sequence[Mapping[str, str | float]]], name: str, position: int, columns: Sequence[str]
) -> Iterator[str | float]:
    row = facts[name][position] if name in facts else {}
    return (row.get(column, "") for column in columns)


def _write(path: Path, columns: Iterable[str], rows: Iterable[Iterable[Any]]) -> None:
    def table(temporary: Path) -> None:
        with temporary.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
            writer = csv.writer(file)
            writer.writerow(map(as_cell, columns))
            writer.writerows(map(as_cell, row) for row in rows)

    write_atomically(path, table)
