"""Names: what models, ablations and conditions are called on the page. The one place that makes their labels.

A variant of a sweep is called after what differs (`depth 4, width 48`). Does not own names of sites (`labels`), nor
which name a reader wrote: titles stand in the study.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vitdsl.reports.labels import listing, short
from vitdsl.runtime.results.manifest import ConditionRecord, Manifest
from vitdsl.runtime.results.trainings import without

BASELINE = "baseline"
SEED = "seed"


@dataclass(frozen=True)
class Names:
    """Labels by id; what has none is called by its id.

    Attributes:
        conditions: By model and condition.
        variants: What was swept of a condition's ablation, such as `sd 3`; by model and condition.
        order: The ids of models, as the study has them.
    """

    models: Mapping[str, str] = field(default_factory=dict)
    ablations: Mapping[str, str] = field(default_factory=dict)
    conditions: Mapping[tuple[str, str], str] = field(default_factory=dict)
    variants: Mapping[tuple[str, str], str] = field(default_factory=dict)
    order: tuple[str, ...] = ()

    def model(self, id: str) -> str:
        """What a model or a variant is called."""
        return self.models.get(id, id)

    def ablation(self, id: str) -> str:
        """What an ablation is called."""
        return self.ablations.get(id, id)

    def condition(self, model: str, id: str) -> str:
        """What a condition of a model is called; the intact model is `intact`."""
        return "intact" if id == BASELINE else self.conditions.get((model, id), id)

    def variant(self, model: str, id: str) -> str:
        """What was swept of a condition's ablation; empty where nothing was."""
        return self.variants.get((model, id), "")

    def hue(self, ids: Sequence[str]) -> int:
        """Which colour what is said of some models has: that of the first, the same on the whole page."""
        return self.order.index(ids[0]) if ids and ids[0] in self.order else 0


PLAIN = Names()
"""No labels: everything is called by its id."""


def names_of(manifest: Manifest) -> Names:
    """The labels of a run."""
    ablations = {name: one.title for name, one in manifest.ablations.items() if one.title}
    models = _models(manifest)
    joined = _but_for_seeds(manifest)
    conditions: dict[tuple[str, str], str] = {}
    variants: dict[tuple[str, str], str] = {}
    for model, every in manifest.conditions.items():
        labels, called = _conditions(every, ablations), _axes([axis for c in every for axis in c.coordinates])
        for one in (model, joined.get(model, model)):
            conditions |= {(one, id): label for id, label in labels.items()}
            variants |= {(one, c.id): _variant(c, called) for c in every}
    order = tuple(dict.fromkeys(joined.values()))
    return Names(models, ablations, conditions, variants, order)


def _but_for_seeds(manifest: Manifest) -> dict[str, str]:
    """What each model and variant is called where its trainings stand as one."""
    return {id: _joined(id, one.coordinates) for id, one in manifest.models.items()}


def _models(manifest: Manifest) -> dict[str, str]:
    """Variants by what differs among those of one model; the model itself where there are others."""
    bases: dict[str, list[str]] = {}
    for id in manifest.models:
        bases.setdefault(id.partition("[")[0], []).append(id)
    found: dict[str, str] = {}
    for base, ids in bases.items():
        title = next((one for one in (manifest.models[id].title for id in ids) if one), "")
        axes = {id: dict(manifest.models[id].coordinates) for id in ids}
        called = _axes([axis for one in axes.values() for axis in one])
        alone = len(bases) == 1 and not title
        for id in ids:
            seedless = {axis: value for axis, value in axes[id].items() if _last(axis) != SEED}
            for one, coordinates in ((id, axes[id]), (_joined(id, axes[id]), seedless)):
                words = [f"{called[axis]} {_written(value)}" for axis, value in coordinates.items()]
                found[one] = ", ".join(words if words and alone else [title or base, *words])
    return _distinct(found)


def _joined(id: str, coordinates: Mapping[str, Any]) -> str:
    return without(id, {axis for axis in coordinates if _last(axis) == SEED})


def _conditions(every: Sequence[ConditionRecord], ablations: Mapping[str, str]) -> dict[str, str]:
    """Conditions by their ablation, what was swept of it, and the place where it has one."""
    called = _axes([axis for one in every for axis in one.coordinates])
    several = Counter(_without_place(one, ablations, called) for one in every)
    found = {}
    for one in every:
        if one.id == BASELINE:
            continue
        label = _without_place(one, ablations, called)
        if several[label] > 1 and one.sites:
            label += f" at {listing(one.sites)}"
        found[one.id] = label
    return _distinct(found)


def _without_place(one: ConditionRecord, ablations: Mapping[str, str], called: Mapping[str, str]) -> str:
    return ", ".join(
        filter(None, (ablations.get(one.ablation, one.ablation or one.id), _variant(one, called)))
    )


def _variant(one: ConditionRecord, called: Mapping[str, str]) -> str:
    return ", ".join(f"{called[axis]} {_written(value)}" for axis, value in one.coordinates.items())


def _axes(paths: Sequence[str]) -> dict[str, str]:
    """Swept fields by the last part of their path; by the whole path where two end alike."""
    ends = Counter(_last(path) for path in set(paths))
    return {path: _last(path) if ends[_last(path)] == 1 else path for path in paths}


def _last(path: str) -> str:
    return path.rpartition(".")[2]


def _written(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return "(" + ", ".join(map(_written, value)) + ")"
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return short(value)
    return str(value)


def _distinct(labels: Mapping[str, str]) -> dict[str, str]:
    """The labels; where two are equal, the ids instead."""
    counts = Counter(labels.values())
    return {id: label if counts[label] == 1 else id for id, label in labels.items()}
