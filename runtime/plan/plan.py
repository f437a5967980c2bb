"""The plan: a study with every name resolved, before anything is computed.

Owns the data between binding and running: which conditions each model has, which sites each metric reads, under
which conditions, and how the results will be labelled. Does not own how names are resolved (`bind`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr

from vitdsl.dsl.load import Loaded
from vitdsl.dsl.study import BASELINE, Data, Model
from vitdsl.runtime.ablations._base import Ablation
from vitdsl.runtime.graph.sites import Sites
from vitdsl.runtime.metrics._base import Metric, Site, Value
from vitdsl.runtime.models.preprocessing import Preprocessing


@dataclass(frozen=True)
class Edit:
    """An ablation at some units of a model."""

    kind: Ablation
    units: tuple[str, ...]


@dataclass(frozen=True)
class Condition:
    """One model under one ablation instance; `baseline` has no ablation."""

    id: str
    model: str
    ablation: str = ""
    edits: tuple[Edit, ...] = ()
    coordinates: dict[str, Any] = field(default_factory=dict)

    @property
    def sites(self) -> tuple[str, ...]:
        """Names of the places it changes."""
        return tuple(unit for edit in self.edits for unit in edit.units)


@dataclass(frozen=True)
class PlannedModel:
    """One model of the study, or one variant of a swept one.

    Attributes:
        name: `vit`, or `vit[train.fraction=0.1]`.
        base: The entry's name in the study.
        entry: The entry, its sweep resolved.
        coordinates: The swept fields and their values.
        sites: What can be named in it, found on the meta device with all attention un-fused.
        config: The preprocessing it takes.
        always: Edits that hold at every use: what it was trained without.
        conditions: `baseline` first.
        unfuse: Attention modules whose weights are read.
    """

    name: str
    base: str
    entry: Model
    coordinates: dict[str, Any]
    sites: Sites
    config: Preprocessing
    always: tuple[Edit, ...] = ()
    conditions: tuple[Condition, ...] = ()
    unfuse: frozenset[str] = frozenset()

    def depth_of(self, condition: Condition) -> float:
        """Depth of the one place that a condition changes; NaN without one."""
        (only,) = condition.sites if len(condition.sites) == 1 else (None,)
        return self.sites.units[only].depth if only is not None else float("nan")


@dataclass(frozen=True)
class Reading:
    """Some sites of one model, read in some roles."""

    model: str
    sites: tuple[Site, ...]
    roles: tuple[str, ...]


@dataclass(frozen=True)
class View:
    """One entry of the `condition` dimension: the condition of each side."""

    id: str
    x: str
    y: str
    owner: str


@dataclass(frozen=True)
class Group:
    """One metric of one model or pair of models: one group of the results.

    Attributes:
        metric: The metric's name in the study.
        path: `drift/vit` or `across/vit~resnet`.
        kind: The bound metric.
        x: What is read.
        y: What it is compared with; the same object as x within one set of sites.
        views: The conditions, in order.
        paired: Whether each condition is compared with the intact model at the same sites.
        data: Name of the image stream.
        title: Heading, if the study gives one.
    """

    metric: str
    path: str
    kind: Metric
    x: Reading
    y: Reading
    views: tuple[View, ...]
    paired: bool
    data: str
    title: str | None = None

    @property
    def models(self) -> tuple[str, ...]:
        """The models it looks at, x first, each once."""
        return tuple(dict.fromkeys((self.x.model, self.y.model)))


@dataclass(frozen=True)
class Plan:
    """Everything that a run will do.

    Attributes:
        loaded: The study.
        data: Image streams by name, sweeps resolved.
        models: Models by name, sweeps resolved.
        groups: The results to come, in order.
        notes: What the user should know: sites that a metric leaves out.
        swept: For a stream of a swept entry, its coordinates.
    """

    loaded: Loaded
    data: dict[str, Data]
    models: dict[str, PlannedModel]
    groups: tuple[Group, ...]
    notes: tuple[str, ...] = ()
    swept: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def conditions(self) -> int:
        """Number of conditions over all models, baselines included."""
        return sum(len(model.conditions) for model in self.models.values())

    def groups_on(self, data: str) -> list[Group]:
        """The groups that are measured on a stream."""
        return [group for group in self.groups if group.data == data]

    def models_on(self, data: str) -> list[str]:
        """The models that see a stream, in the order of the study."""
        used = {model for group in self.groups_on(data) for model in group.models}
        return [model for model in self.models if model in used]

    def preprocessing(self, entry: Data) -> Preprocessing:
        """The preprocessing of the model that a data entry names for all."""
        return next(model.config for model in self.models.values() if model.base == entry.preprocess)

    def condition(self, model: str, id: str) -> Condition:
        """A condition of a model by its id."""
        return next(c for c in self.models[model].conditions if c.id == id)


def frame(plan: Plan, group: Group) -> xr.Dataset:
    """A group's results before there are any: every label and unit, all numbers NaN."""
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
    dims = {dim for value in group.kind.values(paired=group.paired).values() for dim in value.dims}
    for dim, reading in (("site", group.x), ("site_x", group.x), ("site_y", group.y)):
        if dim in dims:
            coords |= _site_coords(plan, dim, reading)
    for dim, labels in group.kind.coordinates(group.x.sites).items():
        coords[dim] = (dim, _labels(labels))
    attrs: dict[str, Any] = {
        "metric": group.metric,
        "kind": group.kind.name,
        "kind_version": group.kind.version,
        "paired": int(group.paired),
        "data": group.data,
        "title": group.title or "",
    }
    if len(group.models) == 1:
        attrs["model"] = group.x.model
    else:
        attrs |= {"model_x": group.x.model, "model_y": group.y.model}
    for coordinates in (
        *(plan.models[name].coordinates for name in group.models),
        plan.swept.get(group.data, {}),
    ):
        attrs |= {key: value for key, value in coordinates.items() if _is_scalar(value)}
    dataset = xr.Dataset(coords=coords, attrs=attrs)
    for name, value in group.kind.values(paired=group.paired).items():
        axes = ("condition", *value.dims)
        shape = [dataset.sizes[dim] for dim in axes]
        dataset[name] = xr.Variable(axes, np.full(shape, np.nan), _value_attrs(group, name, value))
    return dataset


def _value_attrs(group: Group, name: str, value: Value) -> dict[str, Any]:
    attrs: dict[str, Any] = {
        "long_name": value.long_name,
        "units": value.units,
        "direction": value.direction,
        "relative": int(value.relative or group.paired),
        "reference": group.kind.reference,
    }
    attrs |= {
        key: end for key, end in zip(("valid_min", "valid_max"), value.range, strict=True) if end is not None
    }
    line = group.kind.line(name, group.x.sites)
    return attrs | ({"baseline_line": line[0], "baseline_label": line[1]} if line else {})


def lanes_of(group: Group, model: str) -> list[str]:
    """Ids of the conditions under which a group reads a model, each once."""
    found = [view.x for view in group.views if group.x.model == model]
    found += [view.y for view in group.views if group.y.model == model]
    return list(dict.fromkeys(found))


def baseline_of(model: str) -> Condition:
    """The intact model."""
    return Condition(BASELINE, model)


def _site_coords(plan: Plan, dim: str, reading: Reading) -> dict[str, Any]:
    suffix = dim.removeprefix("site")
    units = plan.models[reading.model].sites.units
    coords = {
        dim: (dim, _text([site.name or "output" for site in reading.sites])),
        f"depth{suffix}": (dim, [site.depth for site in reading.sites]),
        f"role{suffix}": (dim, _text([site.role for site in reading.sites])),
    }
    if len(reading.roles) > 1:
        coords[f"branch_kind{suffix}"] = (dim, _text([units[site.name].kind for site in reading.sites]))
    return coords


def _labels(values: Sequence[Any]) -> Any:
    if all(isinstance(value, int) and not isinstance(value, bool) for value in values):
        return list(values)
    if all(
        isinstance(value, (int, float)) and not isinstance(value, bool) or value is None for value in values
    ):
        return [float("nan") if value is None else float(value) for value in values]
    return _text(["" if value is None else str(value) for value in values])


def _text(values: Sequence[str]) -> Any:
    return np.asarray(list(values), dtype=object)


def _is_scalar(value: Any) -> bool:
    return isinstance(value, (int, float, str)) and not isinstance(value, bool)
