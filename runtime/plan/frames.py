"""Frames: a group's results before there are any, with every label and unit, all numbers NaN.

Owns the coordinates and attributes of the results. What identifies a group is a coordinate, as its conditions and
sites are: the model (or `model_x` and `model_y`), the image stream, and the swept fields of both. Does not own the
numbers (`vitdsl.runtime.run.statistics`), or what is planned (`plan`).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from vitdsl.dsl.sweeps import value_name
from vitdsl.runtime.metrics._base import Value
from vitdsl.runtime.plan.plan import Group, Plan, Reading

INTACT = "the intact model"
"""What values call the model that conditions are compared with."""


def frame(plan: Plan, group: Group) -> xr.Dataset:
    """A group's results before there are any: every label and unit, all numbers NaN."""
    values = group.kind.values(paired=group.paired)
    seen = plan.models[group.y.model].seen
    dims = {dim for value in values.values() for dim in value.dims}
    coords = _condition_coords(plan, group)
    for dim, reading in (("site", group.x), ("site_x", group.x), ("site_y", group.y)):
        if dim in dims:
            coords |= _site_coords(plan, dim, reading)
    for dim, labels in group.kind.coordinates(group.x.sites).items():
        coords[dim] = (dim, _labels(labels))
    taken = {*coords, *dims, "replicate", *values}
    swept = {key: label for key, label in _swept(plan, group).items() if key not in taken}
    dataset = xr.Dataset(
        coords=_models(plan, group) | coords | {"data": group.data} | swept,
        attrs={
            "metric": group.metric,
            "kind": group.kind.name,
            "kind_version": group.kind.version,
            "paired": int(group.paired and not seen),
            "title": group.title or "",
        },
    )
    empty = {}
    for name, value in values.items():
        axes = ("condition", *value.dims)
        shape = [dataset.sizes[dim] for dim in axes]
        empty[name] = xr.Variable(axes, np.full(shape, np.nan), _value_attrs(group, name, value, seen))
    return dataset.assign(empty)


def _own(plan: Plan, group: Group) -> list[str]:
    """The models of a group, each once, wherever it sees other images."""
    return list(dict.fromkeys(plan.models[name].twin_of or name for name in group.models))


def _models(plan: Plan, group: Group) -> dict[str, str]:
    """The model of a group, or both."""
    x, *others = _own(plan, group)
    return {"model_x": x, "model_y": others[0]} if others else {"model": x}


def _swept(plan: Plan, group: Group) -> dict[str, Any]:
    """The swept fields of a group's models and image stream; where both of two models vary one, of each side."""
    x, *others = (plan.models[name].coordinates for name in _own(plan, group))
    found = dict(x)
    for y in others:
        both = [key for key in x if key in y]
        found |= y | {f"{key}_{side}": of[key] for key in both for side, of in (("x", x), ("y", y))}
        found = {key: value for key, value in found.items() if key not in both}
    seeds = {key for key in found if key.removesuffix("_x").removesuffix("_y").rpartition(".")[2] == "seed"}
    found |= plan.swept.get(group.data, {})
    return {
        key: ((), _labels([value])[0], {"training": 1} if key in seeds else {})
        for key, value in found.items()
    }


def _condition_coords(plan: Plan, group: Group) -> dict[str, Any]:
    """What is changed under each condition, and the swept fields of its ablation."""
    conditions = [plan.condition(view.owner, view.id) for view in group.views]
    coords: dict[str, Any] = {
        "condition": ("condition", _text([view.id for view in group.views])),
        "ablation": ("condition", _text([c.ablation for c in conditions])),
        "ablated_model": ("condition", _text([c.model if c.ablation else "" for c in conditions])),
        "ablated_site": (
            "condition",
            _text([",".join(c.sites) if len(c.sites) == 1 else "" for c in conditions]),
        ),
        "ablated_depth": ("condition", [plan.models[c.model].depth_of(c) for c in conditions]),
    }
    for name in dict.fromkeys(key for c in conditions for key in c.coordinates):
        coords[name] = ("condition", _labels([c.coordinates.get(name) for c in conditions]))
    return coords


def _value_attrs(group: Group, name: str, value: Value, seen: str) -> dict[str, Any]:
    """What results say of a value; `seen` is the data entry that is compared with, empty for the intact model."""
    attrs = value.attributes()
    if seen and (value.relative or group.kind.inputs.of == "layers"):
        words = attrs["long_name"].replace(INTACT, f"the same model on `{seen}`")
        attrs["long_name"] = (
            words if seen in words else f"{words}, `{group.data.partition('[')[0]}` against `{seen}`"
        )
    attrs |= {
        "relative": int((value.relative or group.paired) and not seen),
        "reference": group.kind.reference,
    }
    line = group.kind.line(name, group.x.sites)
    return attrs | ({"baseline_line": line[0], "baseline_label": line[1]} if line else {})


def _site_coords(plan: Plan, dim: str, reading: Reading) -> dict[str, Any]:
    suffix = dim.removeprefix("site")
    units = plan.models[reading.model].sites.units
    coords = {
        dim: (dim, _text([site.name or "output" for site in reading.sites])),
        f"depth{suffix}": (dim, [site.depth for site in reading.sites]),
        f"role{suffix}": (dim, _text([site.role for site in reading.sites])),
    }
    if len(reading.roles) > 1 and all(site.name in units for site in reading.sites):
        coords[f"branch_kind{suffix}"] = (
            dim,
            _text([units[site.name].branch_kind for site in reading.sites]),
        )
    return coords


def _labels(values: Sequence[Any]) -> Any:
    if all(isinstance(value, int) and not isinstance(value, bool) for value in values):
        return list(values)
    if all(
        isinstance(value, (int, float)) and not isinstance(value, bool) or value is None for value in values
    ):
        return [float("nan") if value is None else float(value) for value in values]
    return _text([_word(value) for value in values])


def _word(value: Any) -> str:
    if value is None:
        return ""
    return value_name(value) if isinstance(value, (list, tuple, dict)) else str(value)


def _text(values: Sequence[str]) -> Any:
    return np.asarray(list(values), dtype=object)
