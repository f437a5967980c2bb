"""The numbers behind a figure: as CSV, whole, and as a table on the page, cut where it would be too long."""

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vitdsl.reports.changed import change_of, compares
from vitdsl.reports.labels import number, spread, unit
from vitdsl.reports.parts import Part
from vitdsl.runtime.results.csvs import as_cell

MOST_ROWS = (400, 200, 100, 50, 20)
"""A table with more rows than this is cut to it; the first that keeps the page below `ALL_ROWS`."""
ALL_ROWS = 1000
EMBEDDED = 20_000
"""The page embeds so many rows of a figure's CSV; the file beside it has all."""
DIGITS = 9
DASH = "\N{EN DASH}"
CHANGE = ("change", "change_low", "change_high")
"""What a condition's number has beside it where it is compared with the intact model's."""
ENDS = ("estimate", "low", "high", *CHANGE, "units")


@dataclass(frozen=True)
class Cell:
    """A table cell: what is shown, and what sorting compares (None sorts as text)."""

    text: str
    number: float | None = None


@dataclass(frozen=True)
class Table:
    """A table of the page; `total` counts the rows of the CSV."""

    columns: tuple[str, ...]
    numeric: tuple[bool, ...]
    rows: tuple[tuple[Cell, ...], ...]
    total: int

    @property
    def cut(self) -> bool:
        """Whether rows are left to the CSV."""
        return len(self.rows) < self.total


def records(parts: Sequence[Part]) -> Iterator[dict[str, Any]]:
    """One record for each number: coordinates first, then estimate and interval."""
    for part in parts:
        arrays = [np.asarray(a.values, np.float64) for a in (part.array, *part.bounds)]
        dims = [str(d) for d in part.array.dims]
        labels = {d: part.conditions if d == "condition" else part.names(d) for d in dims}
        extra = {
            name: (str(c.dims[0]), [v.item() if hasattr(v, "item") else v for v in c.values])
            for name, c in ((str(n), c) for n, c in part.dataset.coords.items())
            if name not in dims and c.ndim == 1 and str(c.dims[0]) in dims and not name.startswith("role")
        }
        metric, units = part.metric, part.units
        changes = dict(zip(CHANGE, change_of(part), strict=True)) if compares(part) else {}
        ablated = set(part.ablated)
        for index in np.ndindex(arrays[0].shape):
            here = dict(zip(dims, index, strict=True))
            yield {
                "metric": metric,
                "group": part.path.partition("/")[2] or part.path,
                "value": part.value,
                **{d: labels[d][i] for d, i in here.items()},
                **{name: values[here[d]] for name, (d, values) in extra.items()},
                "estimate": float(arrays[0][index]),
                "low": float(arrays[1][index]),
                "high": float(arrays[2][index]),
                **{
                    name: float(array[index]) if index[0] in ablated else float("nan")
                    for name, array in changes.items()
                },
                "units": units,
            }


def columns_of(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Every column that a record has, coordinates before numbers."""
    seen = dict.fromkeys(key for row in rows for key in row)
    return [c for c in seen if c not in ENDS] + [c for c in ENDS if c in seen]


def longest(sizes: Sequence[int]) -> int:
    """How many rows a table of the page may have, given the sizes of all, for the page to open fast."""
    fitting = (most for most in MOST_ROWS if sum(min(size, most) for size in sizes) <= ALL_ROWS)
    return next(fitting, MOST_ROWS[-1])


def to_csv(rows: Sequence[dict[str, Any]]) -> str:
    """All records at nine significant digits (`results.nc` has them all), NaN as an empty field."""
    buffer = io.StringIO()
    columns = columns_of(rows)
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(map(as_cell, columns))
    writer.writerows([_field(row.get(name, "")) for name in columns] for row in rows)
    return buffer.getvalue()


def _field(value: Any) -> Any:
    if isinstance(value, float):
        return "" if np.isnan(value) else f"{value:.{DIGITS}g}"
    return as_cell(value)


def to_table(rows: Sequence[dict[str, Any]], most: int = MOST_ROWS[0]) -> Table:
    """The first records, for reading; columns that never change are left to the CSV."""
    varying = [
        c
        for c in columns_of(rows)
        if c not in ENDS and (c in ("group", "condition") or len({str(row.get(c, "")) for row in rows}) > 1)
    ]
    units = sorted({unit(str(row["units"])) for row in rows} - {""})
    heading = f"estimate ({', '.join(units)})" if units else "estimate"
    ends = [("estimate", "low", "high"), *([CHANGE] if any("change" in row for row in rows) else [])]
    body = []
    for row in rows[:most]:
        cells = [_cell(row.get(c, "")) for c in varying]
        body.append((*cells, *(cell for names in ends for cell in _spread(row, names))))
    numeric = [all(r[i].number is not None or not r[i].text for r in body) for i in range(len(varying))]
    names = [c.replace("_", " ") for c in varying]
    names += [
        heading,
        "95 % interval",
        *["change from the intact model", "its 95 % interval"][: 2 * len(ends) - 2],
    ]
    return Table(tuple(names), (*numeric, *[True] * 2 * len(ends)), tuple(body), len(rows))


def _spread(row: dict[str, Any], names: Sequence[str]) -> tuple[Cell, Cell]:
    """An estimate and its interval."""
    value, low, high = (row.get(name, float("nan")) for name in names)
    if names == CHANGE and np.isnan(value):
        return _cell(value), _cell(value)
    text, span = spread(value, low, high)
    known = [None if np.isnan(one) else one for one in (value, low)]
    return Cell(text, known[0]), Cell(span or DASH, known[1])


def _cell(value: Any) -> Cell:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if isinstance(value, float) and np.isnan(value):
            return Cell(DASH, None)
        return Cell(number(value), float(value))
    return Cell(str(value))
