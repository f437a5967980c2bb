"""From a study to a plan: names meet registries, selectors meet sites, parameters meet their kinds.

Works on the meta device: no weights, no GPU, no network. Every entry binds by itself, and all errors are collected,
each at its place in the file. Does not own what a study may say (`vitdsl.dsl`), nor what runs (`run`).
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

from vitdsl.dsl.canonical import canonical
from vitdsl.dsl.claim_forms import quantities_of
from vitdsl.dsl.diagnostics import Diagnostic, EnvironmentProblem, StudyError, VitdslError
from vitdsl.dsl.loaded import Loaded
from vitdsl.dsl.rest import Entry, dependent, entry_of, left_of, takes_others
from vitdsl.dsl.study import Model, WeightsFile, WeightsHub
from vitdsl.dsl.sweeps import Variant, sweep_places, variants
from vitdsl.runtime.graph.sites import Sites, sites_of
from vitdsl.runtime.metrics._base import Metric
from vitdsl.runtime.models import architectures, weight_files
from vitdsl.runtime.models.configs import outputs_of
from vitdsl.runtime.models.feature_model import with_features
from vitdsl.runtime.models.full import model_memory
from vitdsl.runtime.models.loading import skeleton, with_numbers
from vitdsl.runtime.models.options import narrowed
from vitdsl.runtime.models.outside import Given, received, without_weights
from vitdsl.runtime.models.preprocessing import Preprocessing, preprocessing, said
from vitdsl.runtime.models.recipe import check as check_training
from vitdsl.runtime.plan import fresh
from vitdsl.runtime.plan.bind_batches import cut_apart, small_batches
from vitdsl.runtime.plan.bind_conditions import conditions_of, too_many, too_many_models
from vitdsl.runtime.plan.bind_data import bind_data, open_data, shared_sizes
from vitdsl.runtime.plan.bind_given import given_problems, notes_of
from vitdsl.runtime.plan.bind_kinds import Kinds
from vitdsl.runtime.plan.bind_memory import large_rows
from vitdsl.runtime.plan.bind_metrics import bind_metrics, twins_of
from vitdsl.runtime.plan.frames import frame
from vitdsl.runtime.plan.lanes import changed_by, unfused_for
from vitdsl.runtime.plan.matching import matched
from vitdsl.runtime.plan.passes import passes_of
from vitdsl.runtime.plan.plan import Group, Plan, PlannedModel
from vitdsl.runtime.results.claims import claim_problems


def bind(
    loaded: Loaded, given: Mapping[str, Given] | None = None, *, missing: list[Diagnostic] | None = None
) -> Plan:
    """Resolve a study.

    A mistake hides only what depends on it: after each step the study goes on without the entries that something is
    wrong with, and without those that name them.

    Args:
        loaded: The study, whole or as far as it can be read.
        given: The modules of the models that it says are given, by name.
        missing: Where images that are not on this machine are noted, and the rest is resolved as if there were as many
            as it asks for, of classes that fit; None: without them there is no plan.

    Raises:
        StudyError: Everything that is wrong with it, but for what follows from something else that is wrong.
        EnvironmentProblem: Nothing is wrong but what this machine lacks: a folder, a checkpoint.
    """
    kinds = Kinds(loaded)
    kinds.check_all()
    problems = [*loaded.problems, *kinds.problems, *given_problems(loaded, given or {})]
    models = _models(loaded, given or {}, problems)
    opened = open_data(loaded, _read(loaded, kinds, problems), problems, missing)
    rest = _Rest(loaded, kinds, models, problems)
    rest.narrow()
    rest.models = conditions_of(rest.loaded, kinds, rest.models, problems)
    limit = too_many(rest.loaded, rest.models)
    for name, layer in rest.loaded.study.layers.items():
        for model in rest.models.values():
            if model.base == layer.of:
                what = f"site of `{model.name}` with the role `{layer.role}`"
                matched(loaded, ("layers", name, "at"), layer.at, model.sites, layer.role, what, problems)
    rest.narrow()
    data = {name: variants(name, entry) for name, entry in rest.loaded.study.data.items()}
    streams = {name: [variant.name for variant in found] for name, found in data.items()}
    groups, notes = bind_metrics(rest.loaded, rest.models, rest.metrics, streams, problems)
    if limit is not None:
        problems.append(limit)
        _stop(problems)
    rest.narrow()
    groups = [group for group in groups if group.metric in rest.metrics]
    whole = [group for group in groups if group.metric in rest.of_whole_models()]
    seen = rest.models | twins_of(groups, rest.models)
    planned = {name: replace(model, unfuse=_unfused(model, groups)) for name, model in seen.items()}
    plan = Plan(
        rest.loaded,
        {variant.name: variant.entry for found in data.values() for variant in found},
        planned,
        tuple(groups),
        (*notes_of(rest.models.values()), *notes, *opened.notes),
        {variant.name: variant.coordinates for found in data.values() for variant in found},
        images=opened.counts,
    )
    plan = replace(plan, passes=passes_of(plan), about_images=(*opened.shown, *opened.notes))
    claimed = {one.metric for claim in rest.loaded.study.claims.values() for _, one in quantities_of(claim)}
    frames = {group.path: frame(plan, group) for group in groups if group.metric in claimed}
    bind_data(rest.loaded, rest.of_whole_models(), planned, whole, opened, problems)
    problems += large_rows(rest.loaded, groups, opened.counts)
    expected = {name: fresh.expected(one) for name, one in planned.items()}
    problems += fresh.problems(rest.loaded, whole, planned, expected)
    problems += shared_sizes(rest.loaded, groups, planned)
    problems += small_batches(rest.loaded, groups, plan.data)
    problems += cut_apart(rest.loaded, plan, opened.counts)
    problems += claim_problems(rest.loaded, frames)
    _stop(problems)
    return plan


class _Rest:
    """What is left of a study, its models and kinds once what is wrong, and what depends on it, is left out."""

    def __init__(
        self, loaded: Loaded, kinds: Kinds, models: dict[str, PlannedModel], problems: list[Diagnostic]
    ) -> None:
        self.loaded, self.models, self.metrics = loaded, models, dict(kinds.metrics)
        self._links, self._problems = kinds.links, problems

    def narrow(self) -> None:
        """Leave out what is wrong by now."""
        study = self.loaded.study
        built = {model.base for model in self.models.values()}
        broken = _broken(self._problems) | {("models", name) for name in study.models if name not in built}
        gone = dependent(study, broken, self._links, self.loaded.dropped)
        self.loaded = replace(self.loaded, study=left_of(study, gone)) if gone else self.loaded
        study = self.loaded.study
        self.models = {name: one for name, one in self.models.items() if one.base in study.models}
        self.metrics = {name: one for name, one in self.metrics.items() if name in study.metrics}

    def of_whole_models(self) -> dict[str, Metric]:
        """The metrics of which no model has anything wrong, not even with its weights."""
        broken = {entry for one in self._problems if (entry := entry_of(one)) is not None}
        gone = dependent(self.loaded.study, broken, self._links, self.loaded.dropped)
        return {name: one for name, one in self.metrics.items() if ("metrics", name) not in gone}


def _broken(problems: Sequence[Diagnostic]) -> set[Entry]:
    """The entries with which something is wrong that what names them cannot do without."""
    wrong = (one for one in problems if takes_others(one) and not _of_the_machine(one))
    return {entry for one in wrong if (entry := entry_of(one)) is not None}


def _read(loaded: Loaded, kinds: Kinds, problems: Sequence[Diagnostic]) -> list[str]:
    """The data entries that a study reads and that can be opened; all of them where that is not known."""
    study, broken = loaded.study, _broken(problems)
    if ("folder",) in loaded.dropped:
        return []
    first = next(iter(study.data), None)
    used = {one.data or first for one in study.metrics.values()}
    used |= {one.against_data for one in study.metrics.values() if one.against_data in study.data}
    used |= {name for names in kinds.links.values() for section, name in names if section == "data"}
    unknown = any(entry[0] in ("metrics", "ablations") for entry in broken)
    unknown |= any(path[0] in ("metrics", "ablations") for path in loaded.dropped)
    return [name for name in study.data if (unknown or name in used) and ("data", name) not in broken]


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
    return unfused_for(model.sites, dict.fromkeys([*read, *changed_by(model.edits)]))


def bind_diagnostics(loaded: Loaded) -> Sequence[Diagnostic]:
    """What is wrong with a study beyond its text; empty where nothing is."""
    try:
        bind(loaded)
    except VitdslError as error:
        return error.diagnostics
    return ()


def _models(
    loaded: Loaded, given: Mapping[str, Given], problems: list[Diagnostic]
) -> dict[str, PlannedModel]:
    """The models that can be built; those that differ only in weights, seed or training share one skeleton."""
    found: dict[str, PlannedModel] = {}
    built: dict[str, tuple[Sites, Preprocessing]] = {}
    many = too_many_models(loaded)
    if many is not None:
        problems.append(many)
        return {}
    for name, entry in loaded.study.models.items():
        mine: dict[str, PlannedModel] = {}
        for variant in variants(name, entry):
            where = ("models", name)
            source = loaded.source.moved(sweep_places(where, entry, variant))
            if (entry.given and name not in given) or (entry.features and ("folder",) in loaded.dropped):
                continue
            for check in (partial(_weights_there, loaded), _trainable):
                try:
                    check(variant.entry)
                except VitdslError as error:
                    problems += [source.placed(one, where) for one in error.diagnostics]
            try:
                with model_memory(variant.name):
                    if entry.given or entry.features:
                        mine[variant.name] = _there_already(loaded, name, variant, given)
                        continue
                    architectures.check(variant.entry)
                    key = _built_alike(variant.entry)
                    if key not in built:
                        built[key] = _structure(variant.entry)
                    sites, config = built[key]
            except VitdslError as error:
                problems += [source.placed(one, where) for one in error.diagnostics]
                continue
            outputs = () if ("folder",) in loaded.dropped else outputs_of(variant.entry, loaded.folder)
            mine[variant.name] = PlannedModel(
                variant.name, name, variant.entry, variant.coordinates, sites, config, outputs=outputs
            )
        if len(mine) == len(variants(name, entry)):
            found |= mine
    return found


def _structure(model: Model) -> tuple[Sites, Preprocessing]:
    """The sites of a model that is built, and the images that it takes."""

    def found(one: Model) -> tuple[Sites, Preprocessing]:
        module = skeleton(one)
        config = preprocessing(module, one)
        return sites_of(module, config.input_size, real=partial(with_numbers, one)), config

    try:
        return found(model)
    except StudyError as error:
        raise narrowed(error, model, found) from error


def _there_already(
    loaded: Loaded, name: str, variant: Variant[Model], given: Mapping[str, Given]
) -> PlannedModel:
    """A model that Python gives as a module, or of which files hold the features."""
    entry = variant.entry
    if entry.features:
        sites, ready = with_features(entry, loaded.folder)
    else:
        ready = received(name, given[name], entry)
        real = partial(copy.deepcopy, ready.module)
        sites = sites_of(without_weights(ready.module), ready.config.input_size, real=real)
    return PlannedModel(variant.name, name, entry, variant.coordinates, sites, ready.config, ready=ready)


def _trainable(model: Model) -> None:
    """Its training can be carried out as written."""
    if model.train is not None and model.train.data is not None:
        check_training(model)


def _built_alike(model: Model) -> str:
    """All that decides a model's structure and the images that it takes."""
    return canonical([model.arch, model.options, model.input_size, said(model)])


def _weights_there(loaded: Loaded, model: Model) -> None:
    """A checkpoint that the study names is there; whether it fits is found when it is read."""
    if isinstance(model.weights, (WeightsFile, WeightsHub)) and ("folder",) not in loaded.dropped:
        weight_files.there(model.weights, loaded.folder)


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
