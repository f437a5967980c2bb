"""From a study to a plan: names meet registries, selectors meet sites, parameters meet their kinds.

Works on the meta device: no weights, no GPU, no network. All errors of a step are collected, each at its place in
the file. Does not own what a study may say (`vitdsl.dsl`), nor what runs (`run`).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import prod
from typing import Any, TypeVar

from vitdsl.dsl.diagnostics import Diagnostic, EnvironmentProblem, StudyError, VitdslError
from vitdsl.dsl.loaded import Loaded
from vitdsl.dsl.schema import Beside, validated
from vitdsl.dsl.shape import fields_of
from vitdsl.dsl.source import SourceMap
from vitdsl.dsl.study import Ablation as AblationEntry
from vitdsl.dsl.study import Data, Model, WeightsFile
from vitdsl.dsl.sweeps import Variant, sweep_places, variants
from vitdsl.runtime.ablations._base import ABLATIONS, Ablation
from vitdsl.runtime.data.sources._base import SOURCES
from vitdsl.runtime.graph.sites import sites_of
from vitdsl.runtime.kinds import Registry
from vitdsl.runtime.metrics._base import METRICS, Metric
from vitdsl.runtime.models import checkpoints
from vitdsl.runtime.models.loading import skeleton
from vitdsl.runtime.models.preprocessing import preprocessing
from vitdsl.runtime.models.recipe import check as check_training
from vitdsl.runtime.plan.bind_data import bind_data, shared_sizes, small_batches
from vitdsl.runtime.plan.bind_metrics import bind_metrics
from vitdsl.runtime.plan.frames import frame
from vitdsl.runtime.plan.lanes import unfused_for
from vitdsl.runtime.plan.matching import matched, role_words
from vitdsl.runtime.plan.plan import Condition, Edit, Group, Plan, PlannedModel, baseline_of
from vitdsl.runtime.results.claims import claim_problems

K = TypeVar("K")
Where = tuple[str | int, ...]
Places = Mapping[Where, Where]


def bind(loaded: Loaded) -> Plan:
    """Resolve a study.

    Raises:
        StudyError: Everything that is wrong with it, in the first step that finds anything.
        EnvironmentProblem: Nothing is wrong but what this machine lacks: a folder, a checkpoint.
    """
    study = loaded.study
    _count(loaded)
    kinds = _Kinds(loaded)
    kinds.check_all()
    _stop(kinds.problems)
    models = _models(loaded)
    problems: list[Diagnostic] = []
    conditioned = _conditions(loaded, kinds, models, problems)
    total = sum(len(model.conditions) for model in conditioned.values())
    if total > study.max_conditions:
        problems.append(_too_many(loaded, total, conditioned))
    data = {name: variants(name, entry) for name, entry in study.data.items()}
    streams = {name: [variant.name for variant in found] for name, found in data.items()}
    for name, layer in study.layers.items():
        for model in conditioned.values():
            if model.base == layer.of:
                what = f"site of `{model.name}` with the role `{layer.role}`"
                matched(loaded, ("layers", name, "at"), layer.at, model.sites, layer.role, what, problems)
    groups, notes = bind_metrics(loaded, conditioned, kinds.metrics, streams, problems)
    bind_data(loaded, kinds.metrics, conditioned, groups, problems)
    _stop(problems)
    unfuse = {name: _unfused(model, groups) for name, model in conditioned.items()}
    planned = {name: replace(model, unfuse=unfuse[name]) for name, model in conditioned.items()}
    plan = Plan(
        loaded,
        {variant.name: variant.entry for found in data.values() for variant in found},
        planned,
        tuple(groups),
        tuple(notes),
        {variant.name: variant.coordinates for found in data.values() for variant in found},
    )
    frames = {group.path: frame(plan, group) for group in groups}
    sizes = [*shared_sizes(loaded, groups, planned), *small_batches(loaded, groups, plan.data)]
    _stop([*sizes, *claim_problems(loaded, frames)])
    return plan


def _count(loaded: Loaded) -> None:
    """Refuse a sweep of more models than conditions may be, before any of them is built."""
    study = loaded.study
    sizes = {name: prod(map(len, entry.vary.values())) for name, entry in study.models.items()}
    if sum(sizes.values()) > study.max_conditions:
        most = max(sizes, key=lambda name: sizes[name])
        raise StudyError(_limit(loaded, sum(sizes.values()), ("models", most, "vary")))


def _too_many(loaded: Loaded, total: int, models: Mapping[str, PlannedModel]) -> Diagnostic:
    """More conditions than the study allows, at the entry that makes most of them."""
    made = Counter(c.ablation for model in models.values() for c in model.conditions if c.ablation)
    if not made:
        return _limit(loaded, total, ("models",))
    (name, _), *_ = made.most_common()
    entry = loaded.study.ablations[name]
    field = ("vary",) if entry.vary else ("each",) if entry.each else ()
    return _limit(loaded, total, ("ablations", name, *field))


def _limit(loaded: Loaded, total: int, most: Where) -> Diagnostic:
    limit: Where = ("max_conditions",)
    written = loaded.source.exists(limit)
    return loaded.problem(
        "VD260",
        limit if written else most,
        f"the study has {total:,} conditions, more than `max_conditions: {loaded.study.max_conditions}`",
        label="the limit" if written else "makes most of them",
        help=(f"narrow `at:` or `vary:`, or write `max_conditions: {total}`",),
        key=not written,
        secondary_paths=((most, "makes most of them"),) if written else (),
    )


def _unfused(model: PlannedModel, groups: Sequence[Group]) -> frozenset[str]:
    """The attention modules of a model that must be un-fused: for what some group reads, or some edit changes."""
    read = [
        (site.name, role)
        for group in groups
        for reading in (group.x, group.y)
        if reading.model == model.name
        for role in reading.roles
        for site in reading.sites
    ]
    edits = (edit for condition in model.conditions for edit in (*model.always, *condition.edits))
    changed = [(site.name, site.role) for edit in edits for site in edit.sites]
    return unfused_for(model.sites, dict.fromkeys([*read, *changed]))


def bind_diagnostics(loaded: Loaded) -> Sequence[Diagnostic]:
    """What is wrong with a study beyond its text; empty where nothing is."""
    try:
        bind(loaded)
    except VitdslError as error:
        return error.diagnostics
    return ()


class _Kinds:
    """Kinds with their parameters, by entry."""

    def __init__(self, loaded: Loaded) -> None:
        self.loaded = loaded
        self.problems: list[Diagnostic] = []
        self.ablations: dict[str, Ablation] = {}
        self.metrics: dict[str, Metric] = {}

    def check_all(self) -> None:
        """Every kind of the study with its parameters, in every variant of a sweep."""
        study = self.loaded.study
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
            if found is not None:
                self.metrics[name] = found

    def _check_variants(self, registry: Registry[Any], where: Where, name: str, entry: Any) -> None:
        for variant in variants(name, entry):
            self.check(registry, where, variant.entry, sweep_places(where, entry, variant))

    def check(self, registry: Registry[Any], where: Where, entry: Any, places: Places | None = None) -> Any:
        """The kind of an entry with its parameters; None where one of them is wrong (noted)."""
        source = self.loaded.source.moved(places or {})
        kind = find_kind(source, registry, where, getattr(entry, registry.field), self.problems)
        params = None if kind is None else self.params(kind, where, entry, source)
        if kind is None or params is None:
            return None
        return kind(params) if registry is not SOURCES else kind

    def params(self, kind: Any, where: Where, entry: Any, source: SourceMap | None = None) -> Any:
        """The kind's parameters, or None where they are wrong (noted)."""
        beside = Beside(f"{_what(kind)} `{kind.name}`", _fields(kind))
        found = validated(kind.Params, entry.params, source or self.loaded.source, where, beside)
        if isinstance(found, list):
            own = [replace(p, code="VD221") for p in found]
            self.problems += [p for p in own if p not in self.problems]
            return None
        return found


def find_kind(
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


def _models(loaded: Loaded) -> dict[str, PlannedModel]:
    found: dict[str, PlannedModel] = {}
    problems: list[Diagnostic] = []
    for name, entry in loaded.study.models.items():
        for variant in variants(name, entry):
            where = ("models", name)
            source = loaded.source.moved(sweep_places(where, entry, variant))
            try:
                _weights_there(loaded, variant.entry)
                if variant.entry.train is not None:
                    check_training(variant.entry)
                module = skeleton(variant.entry)
                config = preprocessing(module, variant.entry)
                sites = sites_of(module, config.input_size)
            except VitdslError as error:
                problems += [source.placed(one, where) for one in error.diagnostics]
                continue
            found[variant.name] = PlannedModel(
                variant.name, name, variant.entry, variant.coordinates, sites, config
            )
    _stop(problems)
    return found


def _weights_there(loaded: Loaded, model: Model) -> None:
    """A checkpoint that the study names is there; whether it fits is found when it is read."""
    if isinstance(model.weights, WeightsFile):
        checkpoints.find(model.weights.file, loaded.folder)


def _conditions(
    loaded: Loaded, kinds: _Kinds, models: dict[str, PlannedModel], problems: list[Diagnostic]
) -> dict[str, PlannedModel]:
    study = loaded.study
    result = {}
    for name, model in models.items():
        always: list[Edit] = []
        conditions = [baseline_of(name)]
        without = (model.entry.train.without or ()) if model.entry.train else ()
        for ablation, entry in study.ablations.items():
            if entry.of != model.base:
                continue
            found = _instances(loaded, kinds, model, ablation, entry, problems)
            if ablation in without:
                always += [edit for condition in found for edit in condition.edits]
            else:
                conditions += found
        result[name] = replace(model, always=tuple(always), conditions=tuple(conditions))
    return result


def _instances(
    loaded: Loaded,
    kinds: _Kinds,
    model: PlannedModel,
    name: str,
    entry: AblationEntry,
    problems: list[Diagnostic],
) -> list[Condition]:
    """The conditions of one ablation on one model."""
    where: Where = ("ablations", name)
    role = ABLATIONS.kinds()[entry.kind].roles[0]
    what = f"{role_words(role)} of `{model.name}`"
    names = matched(loaded, (*where, "at"), entry.at, model.sites, role, what, problems)
    sites = [model.sites.site(one, role) for one in names]
    conditions: list[Condition] = []
    for variant in _variants(name, entry):
        kind = ABLATIONS.kinds()[variant.entry.kind]
        params = kinds.params(kind, where, variant.entry)
        if params is None:
            continue
        bound = kind(params)
        suffix = variant.name.removeprefix(name)
        if entry.each:
            conditions += [
                Condition(
                    f"{name}@{site.name}{suffix}",
                    model.name,
                    name,
                    (Edit(bound, (site,)),),
                    variant.coordinates,
                )
                for site in sites
            ]
        elif sites:
            edit = Edit(bound, tuple(sites))
            conditions.append(Condition(f"{name}{suffix}", model.name, name, (edit,), variant.coordinates))
    return conditions


def _variants(name: str, entry: AblationEntry) -> list[Variant[AblationEntry]]:
    return variants(name, entry)


def _stop(problems: Sequence[Diagnostic]) -> None:
    """Raise what is wrong in the order of the file; what is wrong alike with variants of one model, once."""
    once: dict[object, Diagnostic] = {}
    for one in problems:
        once.setdefault((one.code, one.span, one.label, one.about, one.secondary), one)
    if once:
        found = sorted(once.values(), key=_position)
        raise (EnvironmentProblem if all(map(_of_the_machine, found)) else StudyError)(found)


def _of_the_machine(diagnostic: Diagnostic) -> bool:
    """Whether a study may be right and only this machine lacks something."""
    return diagnostic.code.startswith("VD4") and diagnostic.code not in ("VD404", "VD405")


def _position(diagnostic: Diagnostic) -> tuple[str, int, int]:
    span = diagnostic.span
    return (span.file, span.line, span.column) if span else ("", 0, 0)
