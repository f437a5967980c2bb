"""Kinds meet their parameters: every entry's kind is there, and takes what it is given.

Owns the errors of kinds, of their own fields, and of the inputs and roles that they take. Does not own where kinds are
found (`runtime.kinds`).
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar

from pydantic import BaseModel

from vitdsl.dsl.diagnostics import Diagnostic, StudyError
from vitdsl.dsl.known import referred, unknown
from vitdsl.dsl.loaded import Loaded
from vitdsl.dsl.rest import Entry as Named
from vitdsl.dsl.rest import entry_of, is_dropped, names_of
from vitdsl.dsl.schema import Beside, validated
from vitdsl.dsl.shape import fields_of
from vitdsl.dsl.source import SourceMap
from vitdsl.dsl.study import Ablation as AblationEntry
from vitdsl.dsl.study import Data
from vitdsl.dsl.sweeps import sweep_places, variants
from vitdsl.dsl.text import ticked
from vitdsl.runtime.ablations._base import ABLATIONS, Ablation
from vitdsl.runtime.data.sources._base import SOURCES
from vitdsl.runtime.kinds import Registry
from vitdsl.runtime.metrics._base import METRICS, Metric
from vitdsl.runtime.plan.bind_inputs import inputs_fit

K = TypeVar("K")
Where = tuple[str | int, ...]
Places = Mapping[Where, Where]


class Kinds:
    """Kinds with their parameters, by entry."""

    def __init__(self, loaded: Loaded) -> None:
        self.loaded = loaded
        self.problems: list[Diagnostic] = []
        self.ablations: dict[str, Ablation] = {}
        self.metrics: dict[str, Metric] = {}
        self.links: dict[Named, set[Named]] = {}
        """The entries that the parameters of kinds name, by the entry whose kind it is."""

    def check_all(self) -> None:
        """Every kind of the study with its parameters, in every variant of a sweep."""
        study = self.loaded.study
        without_input = {entry_of(one) for one in self.loaded.problems if one.code == "VD222"}
        for name, data in study.data.items():
            self._check_variants(SOURCES, ("data", name), name, data)
        for name, model in study.models.items():
            if model.train is not None and model.train.data is not None:
                for variant in variants(name, model):
                    places = sweep_places(("models", name), model, variant)
                    train = variant.entry.train
                    if train is not None and train.data is not None:
                        self.check(SOURCES, ("models", name, "train", "data"), train.data, places)
        for name, ablation in study.ablations.items():
            self._check_variants(ABLATIONS, ("ablations", name), name, ablation)
        for name, metric in study.metrics.items():
            found = self.check(METRICS, ("metrics", name), metric)
            if found is None or ("metrics", name) in without_input:
                continue
            if inputs_fit(self.loaded, name, metric, found, self.problems):
                self.metrics[name] = found

    def _check_variants(self, registry: Registry[Any], where: Where, name: str, entry: Any) -> None:
        for variant in variants(name, entry):
            places = sweep_places(where, entry, variant)
            found = self.check(registry, where, variant.entry, places)
            if registry is ABLATIONS and found is not None:
                self._check_role(where, variant.entry, found, self.loaded.source.moved(places))

    def _check_role(self, where: Where, entry: AblationEntry, kind: Ablation, source: SourceMap) -> None:
        """The role that an ablation is to act on is one of its kind's."""
        if entry.role is None or entry.role in kind.roles:
            return
        acts = f"`{kind.name}` acts on {ticked(kind.roles)}, not on `{entry.role}`"
        help_ = ("leave `role` out, or take another kind",)
        problem = source.problem("VD221", (*where, "role"), acts, label="not this role", help=help_)
        if problem not in self.problems:
            self.problems.append(problem)

    def check(self, registry: Registry[Any], where: Where, entry: Any, places: Places | None = None) -> Any:
        """The kind of an entry with its parameters; None where one of them is wrong (noted)."""
        source = self.loaded.source.moved(places or {})
        kind = _find(source, registry, where, getattr(entry, registry.field), self.problems)
        params = None if kind is None else self.params(kind, where, entry, source)
        if kind is None or params is None:
            return None
        return kind(params) if registry is not SOURCES else kind

    def params(self, kind: Any, where: Where, entry: Any, source: SourceMap | None = None) -> Any:
        """The kind's parameters, or None where they are wrong (noted); a `seed` that is null is the study's."""
        beside = Beside(f"{_what(kind)} `{kind.name}`", _fields(kind))
        found = validated(kind.Params, entry.params, source or self.loaded.source, where, beside)
        if isinstance(found, list):
            own = [replace(p, code="VD221") for p in found]
            self.problems += [p for p in own if p not in self.problems]
            return None
        self._check_names(found, source or self.loaded.source, where)
        if getattr(found, "seed", 0) is None:
            found = found.model_copy(update={"seed": self.loaded.study.seed})
        return found

    def _check_names(self, params: BaseModel, source: SourceMap, where: Where) -> None:
        """The entries that a kind's parameters name are there."""
        dropped = self.loaded.dropped
        for field, section, name in referred(params):
            self.links.setdefault((str(where[0]), str(where[1])), set()).add((section, name))
            if is_dropped(dropped, section, name):
                continue
            extra = tuple(names_of(dropped, section))
            problem = unknown(self.loaded.study, source, name, section, (*where, field), extra=extra)
            if problem is not None and problem not in self.problems:
                self.problems.append(problem)


def _find(
    source: SourceMap, registry: Registry[K], where: Where, name: str, problems: list[Diagnostic]
) -> type[K] | None:
    """A kind by name, or None with a problem noted."""
    try:
        return registry.find(name)
    except StudyError as error:
        found = [source.joined(one, where) for one in error.diagnostics]
        problems += [one for one in found if one not in problems]
        return None


def _what(kind: Any) -> str:
    return "metric" if issubclass(kind, Metric) else "ablation" if issubclass(kind, Ablation) else "source"


def _fields(kind: Any) -> tuple[str, ...]:
    """The fields that stand beside a kind's own."""
    if issubclass(kind, Metric):
        return ("kind", *kind.inputs.fields, "under", "data", "title")
    return tuple(fields_of(AblationEntry if issubclass(kind, Ablation) else Data))
