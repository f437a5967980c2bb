"""A part: one value of one group, with the words, coordinates and intervals that belong to it.

Does not own which parts stand together (`sections`), nor which figure shows one (`figures`).
"""

import json
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from vitdsl.reports.labels import listing
from vitdsl.reports.names import BASELINE, PLAIN, Names

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Part:
    """One value of one group.

    Attributes:
        called: What models, ablations and conditions are called.
        label: What the part is called beside the others of its figure; by default its models.
        hue: The colour of its model, which is the same on the whole page.
    """

    path: str
    dataset: xr.Dataset
    value: str
    called: Names = PLAIN
    label: str = ""
    hue: int = 0

    def __post_init__(self) -> None:
        if not self.label:
            object.__setattr__(self, "label", self.model)

    def of(self, value: str) -> "Part":
        """Another value of the same group."""
        return replace(self, value=value)

    @cached_property
    def array(self) -> xr.DataArray:
        """The estimates; always with a condition dimension, which comes first."""
        return self._conditioned(self.value)

    @cached_property
    def bounds(self) -> tuple[xr.DataArray, xr.DataArray]:
        """Ends of the intervals; NaN where the group has none."""
        if f"{self.value}_low" not in self.dataset or f"{self.value}_high" not in self.dataset:
            empty = xr.full_like(self.array, np.nan, dtype=np.float64)
            return empty, empty
        return self._conditioned(f"{self.value}_low"), self._conditioned(f"{self.value}_high")

    @property
    def replicates(self) -> Array | None:
        """The estimates without each part of the images, `[part, condition, ...]`; None where there are none."""
        return self._each("replicate")

    @property
    def trainings(self) -> Array | None:
        """The numbers of each training that the estimates are the mean of, `[training, condition, ...]`, if several."""
        return self._each("training")

    def _each(self, dim: str) -> Array | None:
        name = f"{self.value}_{dim}s"
        if name not in self.dataset or not self.dataset.sizes.get(dim):
            return None
        return np.asarray(self._conditioned(name).transpose(dim, *self.array.dims).values, np.float64)

    @property
    def left_out(self) -> Array:
        """How many images are in each part that is left out."""
        return np.atleast_1d(np.asarray(self.dataset.attrs.get("left_out", []), np.float64))

    def _conditioned(self, name: str) -> xr.DataArray:
        array = self.dataset[name]
        if array.dtype != np.float64:
            array = array.astype(np.float64)
        if "condition" not in array.dims:
            array = array.expand_dims("condition")
        if "condition" not in array.coords:
            only = array.sizes["condition"] == 1
            array = array.assign_coords(
                condition=[BASELINE] if only else [str(i) for i in range(array.sizes["condition"])]
            )
        return array if array.dims[0] == "condition" else array.transpose("condition", ...)

    def attr(self, name: str, default: Any = "") -> Any:
        """An attribute of the value."""
        return self.dataset[self.value].attrs.get(name, default)

    @property
    def metric(self) -> str:
        """The metric's name in the study."""
        return str(self.dataset.attrs.get("metric", self.path.partition("/")[0]))

    @property
    def title(self) -> str:
        """The metric's heading; empty where the study gives none."""
        return str(self.dataset.attrs.get("title") or "")

    @property
    def ids(self) -> tuple[str, ...]:
        """The models that it looks at, x first, as results call them."""
        coords = self.dataset.coords
        return tuple(str(coords[key].item()) for key in ("model", "model_x", "model_y") if key in coords)

    @property
    def models(self) -> tuple[str, ...]:
        """The models that it looks at, x first, as readers do."""
        return tuple(map(self.called.model, self.ids))

    def condition(self, i: int) -> str:
        """What condition i is called."""
        ids = self.ids
        return self.called.condition(ids[0] if ids else "", self.conditions[i])

    def variant(self, i: int) -> str:
        """What was swept of the ablation of condition i, such as `sd 3`."""
        ids = self.ids
        return self.called.variant(ids[0] if ids else "", self.conditions[i])

    def model_of(self, dim: str) -> str:
        """The model whose sites stand along a dimension."""
        return (self.models or ("",))[-1 if dim == "site_y" else 0]

    @property
    def model(self) -> str:
        """The model, or both as `x and y`."""
        return listing(self.models) or self.path.partition("/")[2] or self.path

    @property
    def name(self) -> str:
        """What the value is, in words."""
        name = str(self.attr("long_name") or self.value)
        return f"{name} with the intact model" if self.paired and "intact" not in name else name

    @property
    def paired(self) -> bool:
        """Whether each condition is compared with the intact model, site by site."""
        return bool(self.dataset.attrs.get("paired", 0))

    @property
    def relative(self) -> bool:
        """Whether the value compares with the intact model, so that the intact model's own says nothing."""
        return bool(self.attr("relative", 0))

    @property
    def units(self) -> str:
        """Its unit; `1` for a dimensionless one."""
        return str(self.attr("units", "1"))

    @cached_property
    def conditions(self) -> list[str]:
        """Ids of the conditions."""
        return [str(c) for c in self.array["condition"].values]

    @property
    def ablated(self) -> list[int]:
        """Positions of the conditions other than the intact model."""
        return [i for i, name in enumerate(self.conditions) if name != BASELINE]

    def of_condition(self, name: str, default: Any) -> list[Any]:
        """A coordinate of the conditions, such as `ablated_depth`."""
        if name not in self.dataset.coords or "condition" not in self.dataset.coords[name].dims:
            return [default] * len(self.conditions)
        return list(self.dataset[name].values)

    def depths(self, dim: str = "site") -> Array:
        """Depth of each site; positions from 0 to 1 where the group has no depths."""
        name = dim.replace("site", "depth")
        if name in self.dataset.coords:
            return np.asarray(self.dataset[name].values, np.float64)
        return np.linspace(0, 1, self.array.sizes[dim])

    def names(self, dim: str = "site") -> list[str]:
        """Names along a dimension."""
        if dim in self.dataset.coords:
            return [str(v) for v in self.dataset[dim].values]
        return [str(i) for i in range(self.array.sizes[dim])]

    @property
    def dims(self) -> frozenset[str]:
        """Dimensions beside the condition."""
        return frozenset(str(d) for d in self.array.dims) - {"condition"}

    @property
    def scalar(self) -> bool:
        """Whether each condition has one number."""
        return not self.dims

    @property
    def intact(self) -> float:
        """The number of the intact model; NaN where the part has none, or more than one."""
        if BASELINE not in self.conditions or not self.scalar:
            return float("nan")
        return float(self.array.values[self.conditions.index(BASELINE)])

    @property
    def defined(self) -> bool:
        """Whether any number is defined."""
        return bool(np.isfinite(self.array.values).any())

    def undefined(self) -> list[str]:
        """Reasons why numbers of the group are missing."""
        try:
            found = json.loads(self.dataset.attrs.get("undefined") or "[]")
        except (TypeError, ValueError):
            return []
        return [str(reason) for reason in found] if isinstance(found, list) else []
