"""What a quantity keeps of a metric's results: `where`, one coordinate after the other. Free of torch.

`where` keeps a value, a list, a range `{from:, to:}`, or, for names, selectors. A coordinate is one of a group's
dimensions, or one number or word for all of it (`model`, `train.fraction`). A group of two models has `model_x`
and `model_y`; `model` then stands for either, and so for every other coordinate that each side has its own of.
Where it says nothing of conditions, values that compare with the intact model (`drop`, drift) are taken over all
ablations, and all others at the baseline. Does not own what becomes of what is kept (`take`).
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from vitdsl.dsl.selectors import SelectorError, match
from vitdsl.dsl.study import BASELINE, Quantity, Range
from vitdsl.dsl.text import did_you_mean, ticked


class QuantityProblem(Exception):
    """A quantity names something that the results do not have.

    Attributes:
        path: The field of the quantity.
        message: What is wrong.
        help: What there is.
        key: Whether it is the field's name that is wrong, and not its value.
    """

    def __init__(
        self, path: tuple[str | int, ...], message: str, help: tuple[str, ...] = (), *, key: bool = False
    ) -> None:
        super().__init__(message)
        self.path, self.message, self.help, self.key = path, message, help, key


def kept(quantity: Quantity, groups: Mapping[str, xr.Dataset]) -> list[xr.Dataset]:
    """What is left of the metric's groups.

    Raises:
        QuantityProblem: There is no such value, coordinate or label.
    """
    candidates = [data for path, data in groups.items() if path.partition("/")[0] == quantity.metric]
    values = dict.fromkeys(
        str(name) for data in candidates for name, v in data.data_vars.items() if "relative" in v.attrs
    )
    if quantity.value not in values:
        raise QuantityProblem(
            ("value",),
            f"metric `{quantity.metric}` has no value `{quantity.value}`",
            (did_you_mean(quantity.value, list(values)), f"it has: {', '.join(values)}"),
        )
    keys = dict.fromkeys(key for data in candidates for key in _keys(data))
    for key in quantity.where:
        if key not in keys:
            raise QuantityProblem(
                ("where", key),
                f"results of metric `{quantity.metric}` have no coordinate `{key}`",
                (did_you_mean(key, list(keys)), f"they have: {', '.join(keys)}"),
                key=True,
            )
    left = candidates
    for key, wanted in quantity.where.items():
        labels = list(dict.fromkeys(label for data in left for label in _labels(data, key)))
        for index, one in enumerate(wanted) if isinstance(wanted, (list, tuple)) else [(None, wanted)]:
            if all(_keep(data, key, one) is None for data in left):
                place = ("where", key) if index is None else ("where", key, index)
                also = "" if len(quantity.where) == 1 else " with what the other coordinates keep"
                hint = did_you_mean(one, [str(label) for label in labels]) if isinstance(one, str) else ""
                raise QuantityProblem(
                    place, f"no result has `{key}: {_text(one)}`{also}", (hint, _there(labels, one))
                )
        left = [part for data in left if (part := _keep(data, key, wanted)) is not None]
    if not any(key.startswith(("condition", "ablat")) for key in quantity.where):
        left = [part for data in left if (part := _default_conditions(data, quantity.value)) is not None]
        if not left:
            raise QuantityProblem(
                ("value",),
                f"`{quantity.value}` compares conditions with the intact model, and there is no ablation here",
                ("add an ablation of this model, or take another value",),
            )
    return left


def _keep(data: xr.Dataset, key: str, wanted: Any) -> xr.Dataset | None:
    """The part of a group whose coordinate is wanted; None where nothing is."""
    labels = _labels(data, key)
    kept = [_is_wanted(label, wanted, labels) for label in labels]
    if not any(kept):
        return None
    dims = data[key].dims if key in data.coords else ()
    return data.isel({dims[0]: np.flatnonzero(kept)}) if dims else data


def _is_wanted(label: Any, wanted: Any, labels: list[Any]) -> bool:
    if isinstance(wanted, Range):
        if isinstance(label, str) or np.isnan(label):
            return False
        return (wanted.from_ is None or label >= wanted.from_ - 1e-9) and (
            wanted.to is None or label <= wanted.to + 1e-9
        )
    if isinstance(wanted, (list, tuple)):
        return any(_is_wanted(label, one, labels) for one in wanted)
    if isinstance(wanted, str):
        if str(label) == wanted or str(label).partition("[")[0] == wanted:
            return True
        return any(mark in wanted for mark in "*?[{") and _selects(wanted, str(label), labels)
    if isinstance(label, str):
        return label == str(wanted)
    if isinstance(wanted, bool):
        return False
    return bool(np.isclose(float(label), float(wanted), rtol=1e-9, atol=1e-9))


def _selects(wanted: str, label: str, labels: list[Any]) -> bool:
    """Whether a selector picks a label; of a condition `name@site`, its site among those of the name."""
    head, at, wanted_site = wanted.partition("@")
    names = [str(one) for one in labels]
    if at:
        prefix, _, label = label.partition("@")
        if prefix != head:
            return False
        names = [name.partition("@")[2] for name in names if name.startswith(f"{head}@")]
        wanted = wanted_site
    try:
        return label in match([wanted], names)
    except SelectorError:
        return False


def _default_conditions(data: xr.Dataset, value: str) -> xr.Dataset | None:
    if "condition" not in data.dims:
        return data
    intact = data["condition"].values == BASELINE
    kept = ~intact if data[value].attrs.get("relative") else intact
    if not kept.any():
        kept = ~kept if not data[value].attrs.get("relative") else kept
    return data.isel(condition=np.flatnonzero(kept)) if kept.any() else None


def only_intact(data: xr.Dataset, value: str) -> bool:
    """Whether a value that compares with the intact model is left at the intact model alone."""
    relative = data[value].attrs.get("relative") and "condition" in data.dims
    return bool(relative) and bool((data["condition"].values == BASELINE).all())


def _names(data: xr.Dataset, key: str) -> list[str]:
    """The coordinates that a key stands for: itself, or that of either side."""
    sides = [f"{key}_{side}" for side in "xy"]
    return [key] if key in data.coords else [name for name in sides if _is_single(data, name)]


def _labels(data: xr.Dataset, key: str) -> list[Any]:
    return [label for name in _names(data, key) for label in np.atleast_1d(data[name].values).tolist()]


def _keys(data: xr.Dataset) -> list[str]:
    """Everything that `where` can name of a group."""
    found: list[str] = []
    for name in map(str, data.coords):
        either = name[:-2]
        if name.endswith(("_x", "_y")) and _is_single(data, name) and either not in found:
            found.append(either)
        found.append(name)
    return found


def _is_single(data: xr.Dataset, name: str) -> bool:
    return name in data.coords and not data[name].ndim


def _text(wanted: Any) -> str:
    if isinstance(wanted, Range):
        ends = {"from": wanted.from_, "to": wanted.to}
        return "{" + ", ".join(f"{end}: {value:g}" for end, value in ends.items() if value is not None) + "}"
    return str(wanted)


def _there(labels: list[Any], wanted: Any) -> str:
    """The labels that there are, or their reach where they are numbers."""
    numbers = [label for label in labels if isinstance(label, (int, float)) and not np.isnan(label)]
    if isinstance(wanted, Range):
        if not numbers:
            return f"a range is for numbers; there are {ticked([one for one in labels if one != ''])}"
        return f"they go from {min(numbers):g} to {max(numbers):g}"
    if numbers:
        return f"there are {ticked([f'{number:g}' for number in sorted(numbers)])}"
    return f"there are {ticked([one for one in labels if one != ''])}"
