"""Sweeps: one entry written once, with axes that vary some of its fields.

Owns the variants of an entry, their names and order. Does not own how many conditions a study may have.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Generic, TypeVar

from vitdsl.dsl.canonical import canonical
from vitdsl.dsl.diagnostics import Diagnostic, StudyError
from vitdsl.dsl.entries import Ablation, Data, Model
from vitdsl.dsl.schema import validated
from vitdsl.dsl.shape import fields_of, shape_at
from vitdsl.dsl.source import SourceMap
from vitdsl.dsl.text import did_you_mean, shown, ticked

E = TypeVar("E", Data, Model, Ablation)

_FIXED = {
    "vary": "an axis cannot vary the axes",
    "of": "an ablation stays with its model",
    "train.recipe": "a recipe is written out before the sweep; vary its fields",
}
_MOST_AXES = 16
_MOST_VARIANTS = 100_000


@dataclass(frozen=True)
class Variant(Generic[E]):
    """One entry of a sweep: its name, its fields in place, and its coordinates."""

    name: str
    entry: E
    coordinates: dict[str, Any]


def variants(name: str, entry: E) -> list[Variant[E]]:
    """The entries that one stands for: itself, or the cross product of its axes, the first the slowest.

    Args:
        name: The entry's name in the study.
        entry: A data entry, a model or an ablation.

    Returns:
        At least one variant, named such as `vit[train.fraction=0.1]`.

    Raises:
        StudyError: An axis is no field of the entry, or a value does not fit there.
    """
    problems = list(sweep_problems("", name, entry, SourceMap()))
    if problems:
        raise StudyError(problems)
    if not entry.vary:
        return [Variant(name, entry, {})]
    found = []
    for values in product(*entry.vary.values()):
        coordinates = dict(zip(entry.vary, values, strict=True))
        label = ",".join(f"{path}={value_name(value)}" for path, value in coordinates.items())
        found.append(Variant(f"{name}[{label}]", _with(entry, coordinates), coordinates))
    return found


def sweep_places(
    where: tuple[str | int, ...], entry: Data | Model | Ablation, variant: "Variant[Any]"
) -> dict[tuple[str | int, ...], tuple[str | int, ...]]:
    """Where the swept fields of a variant were written: in the axes of its entry."""
    return {
        (*where, *axis.split(".")): (*where, "vary", axis, entry.vary[axis].index(value))
        for axis, value in variant.coordinates.items()
    }


def value_name(value: Any) -> str:
    """A value in the name of a variant."""
    return value if isinstance(value, str) else canonical(value)


def sweep_problems(
    section: str, name: str, entry: Data | Model | Ablation, source: SourceMap
) -> Iterator[Diagnostic]:
    """What is wrong with the axes of an entry, each value tried by itself."""
    where = (section, name, "vary") if section else (name, "vary")
    if len(entry.vary) > _MOST_AXES:
        message = f"`{name}` has {len(entry.vary)} axes, at most {_MOST_AXES} can vary together"
        yield source.problem("VD260", where, message, label="too many", help=["remove some"], key=True)
        return
    count = 1
    for axis, values in entry.vary.items():
        count *= len(values)
        path = (*where, axis)
        problem = _axis_problem(entry, axis)
        if problem is not None:
            message, hint = problem
            yield source.problem("VD207", path, message, label="not a field to vary", help=[hint], key=True)
            continue
        yield from _value_problems(entry, axis, values, path, source)
    if count > _MOST_VARIANTS:
        message = f"the axes of `{name}` make {count:,} variants, at most {_MOST_VARIANTS:,} can be made"
        yield source.problem("VD260", where, message, label="too many", help=["shorten an axis"], key=True)


def _axis_problem(entry: Data | Model | Ablation, axis: str) -> tuple[str, str] | None:
    """Why a path cannot be an axis, and what to write; None where it can."""
    if axis in _FIXED:
        return f"`{shown(axis)}` cannot be an axis", _FIXED[axis]
    parts = axis.split(".")
    if not all(parts):
        return f"`{shown(axis)}` is not the path of a field", "write it as `train.fraction`"
    if any(axis != other and f"{axis}.".startswith(f"{other}.") for other in entry.vary):
        return f"axis `{shown(axis)}` lies inside another axis", "vary one of the two"
    for end in range(1, len(parts) + 1):
        if shape_at(parts[:end], type(entry)) is None or _is_extra_typo(entry, parts):
            above = shape_at(parts[: end - 1], type(entry))
            known = list(fields_of(above.entries[0])) if above and above.entries else []
            hint = did_you_mean(parts[end - 1], known) or f"there are {ticked(known)}"
            if not known:
                hint = f"`{shown('.'.join(parts[: end - 1]))}` has no fields"
            return f"`{shown(axis)}` is not a field of this entry", hint
    return None


def _is_extra_typo(entry: Data | Model | Ablation, parts: Sequence[str]) -> bool:
    """Whether the first part is close to a field and no parameter that the entry has."""
    if isinstance(entry, Model) or parts[0] in fields_of(type(entry)):
        return False
    return len(parts) > 1 and parts[0] not in entry.params


def _value_problems(
    entry: Data | Model | Ablation, axis: str, values: Sequence[Any], path: tuple[str, ...], source: SourceMap
) -> Iterator[Diagnostic]:
    names: set[str] = set()
    data = _data_with(entry, {})
    for index, value in enumerate(values):
        label = value_name(value)
        if label in names:
            message = f"`{shown(label)}` stands twice in the axis `{shown(axis)}`"
            yield source.problem(
                "VD208", (*path, index), message, label="again here", help=["keep one of the two"]
            )
            continue
        names.add(label)
        _set(data, axis, value)
        found = validated(type(entry), data, SourceMap(), path[:-2])
        if isinstance(found, list):
            first = found[0]
            yield source.problem(
                first.code, (*path, index), first.message, label=first.label, help=first.help
            )


def _with(entry: E, coordinates: dict[str, Any]) -> E:
    found = validated(type(entry), _data_with(entry, coordinates), SourceMap())
    if isinstance(found, list):
        raise StudyError(found)
    return found


def _data_with(entry: Data | Model | Ablation, coordinates: dict[str, Any]) -> dict[str, Any]:
    data: dict[str, Any] = entry.model_dump(by_alias=True, exclude_unset=True)
    data.pop("vary", None)
    for axis, value in coordinates.items():
        _set(data, axis, value)
    return data


def _set(data: dict[str, Any], axis: str, value: Any) -> None:
    *above, last = axis.split(".")
    for part in above:
        if not isinstance(data.get(part), dict):
            data[part] = {}
        data = data[part]
    data[last] = value
