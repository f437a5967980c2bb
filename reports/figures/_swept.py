"""Sweeps: a number of the whole model against a swept field, a line for each combination of the other fields.

Fields of models and image streams are coordinates of a group, those of ablations of its conditions; numbers only, for
words are no axis. Does not own what a variant is called (`names`).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from vitdsl.reports.canvas import Sheet
from vitdsl.reports.figures._labels import label_lines, level_of
from vitdsl.reports.figures._lines import Line, distinct, draw_lines, limits
from vitdsl.reports.labels import fold, short, with_unit
from vitdsl.reports.names import BASELINE
from vitdsl.reports.parts import Part

NO_FIELDS = frozenset(
    ("model", "model_x", "model_y", "data")
    + ("condition", "ablation", "ablated_model", "ablated_site", "ablated_depth")
)
"""Coordinates that are no field of a sweep."""
MOST_LINES = 8
SPREAD = 20.0
"""Positive values of a field that span a larger factor than this stand on a logarithmic axis."""


@dataclass(frozen=True)
class Swept:
    """Lines against one field.

    Attributes:
        field: The field.
        lines: Those that are drawn.
        parts: Whose numbers they show.
        left_out: How many are not drawn.
    """

    field: str
    lines: tuple[Line, ...]
    parts: tuple[Part, ...]
    left_out: int = 0

    @property
    def name(self) -> str:
        """The field's own name."""
        return self.field.rpartition(".")[2]


@dataclass(frozen=True)
class _Point:
    fields: dict[str, float]
    words: tuple[str, ...]
    part: Part
    numbers: tuple[float, float, float]


def swept(parts: Sequence[Part]) -> list[Swept]:
    """What the parts show against each field that was swept; empty where none was."""
    of_models = list(_of_models(parts))
    of_conditions = [point for part in parts for point in _of_conditions(part)]
    return [one for points in (of_models, of_conditions) for one in _against(points)]


def _of_models(parts: Sequence[Part]) -> Iterator[_Point]:
    for part in parts:
        fields = {
            str(name): coord.item()
            for name, coord in part.dataset.coords.items()
            if not coord.ndim and str(name) not in NO_FIELDS
        }
        i = part.conditions.index(BASELINE) if BASELINE in part.conditions and not part.relative else None
        if fields and i is not None:
            base = part.ids[0].partition("[")[0] if part.ids else ""
            yield _point(part, i, fields, (base,))


def _of_conditions(part: Part) -> Iterator[_Point]:
    names = [
        str(name)
        for name, coord in part.dataset.coords.items()
        if coord.dims == ("condition",) and str(name) not in NO_FIELDS
    ]
    columns = {name: list(part.dataset[name].values) for name in names}
    places = part.of_condition("ablated_site", "")
    for i in part.ablated if names else ():
        fields = {name: values[i] for name, values in columns.items() if values[i] == values[i]}
        ablation = part.called.ablation(str(part.of_condition("ablation", "")[i]))
        yield _point(part, i, fields, (part.label, ablation, str(places[i])))


def _point(part: Part, i: int, fields: dict[str, Any], words: tuple[str, ...]) -> _Point:
    numbers = {name: float(value) for name, value in fields.items() if isinstance(value, (int, float))}
    others = tuple(f"{name} {value}" for name, value in fields.items() if name not in numbers)
    value, low, high = (float(array.values[i]) for array in (part.array, *part.bounds))
    return _Point(numbers, (*words, *others), part, (value, low, high))


def _against(points: Sequence[_Point]) -> Iterator[Swept]:
    """One set of lines: against the field with most values."""
    varying = {
        name: sorted({point.fields[name] for point in points if name in point.fields})
        for name in dict.fromkeys(name for point in points for name in point.fields)
    }
    varying = {name: values for name, values in varying.items() if len(values) > 1}
    if not varying:
        return
    field = max(varying, key=lambda name: len(varying[name]))
    rest = [name for name in varying if name != field]
    told = [
        i for i in range(max(len(p.words) for p in points)) if len({p.words[i : i + 1] for p in points}) > 1
    ]
    lines: dict[str, list[_Point]] = {}
    for point in points:
        if field in point.fields:
            words = [point.words[i] for i in told if i < len(point.words)]
            words += [f"{n.rpartition('.')[2]} {short(point.fields[n])}" for n in rest if n in point.fields]
            lines.setdefault(", ".join(filter(None, words)), []).append(point)
    found = [
        (_line(label, field, some, look), some)
        for look, (label, some) in enumerate(lines.items())
        if len({point.fields[field] for point in some}) > 1
    ]
    if found:
        chosen = found
        if len(found) > MOST_LINES:
            chosen = [found[round(float(i))] for i in np.linspace(0, len(found) - 1, MOST_LINES)]
        drawn = {point.part.path: point.part for _, some in chosen for point in some}
        shown = distinct([line for line, _ in chosen])
        yield Swept(field, tuple(shown), tuple(drawn.values()), len(found) - len(chosen))


def _line(label: str, field: str, points: Sequence[_Point], look: int) -> Line:
    ordered = sorted(points, key=lambda point: point.fields[field])
    y, low, high = (np.array([point.numbers[i] for point in ordered]) for i in range(3))
    name = field.rpartition(".")[2]
    said = tuple(f"{name} {short(point.fields[field])}" for point in ordered)
    x = np.array([point.fields[field] for point in ordered])
    hues = {point.part.hue for point in points}
    return Line(label, x, y, low, high, hues.pop() if len(hues) == 1 else look, look, look, names=said)


def draw_swept(sheet: Sheet, wide: bool, found: Swept) -> None:
    """The lines on one pair of axes, the field's values as ticks where they are few."""
    axes = sheet.subplots()
    values = np.unique(np.concatenate([line.x for line in found.lines]))
    levels = level_of(*found.parts)
    axes.set_ylim(*limits(found.lines, [one.value for one in levels]))
    _field_axis(axes, found, values)
    axes.set_ylabel(fold(with_unit(found.parts[0].name, found.parts[0].units), 36))
    draw_lines(axes, found.lines)
    label_lines(sheet, axes, found.lines, direct=wide, levels=levels)


def _field_axis(axes: Axes, found: Swept, values: Any) -> None:
    if values.min() > 0 and values.max() / values.min() > SPREAD:
        axes.set_xscale("log")
    if len(values) <= 8:
        axes.set_xticks(values, [short(float(value)) for value in values])
        axes.minorticks_off()
    axes.set_xlabel(found.name)
