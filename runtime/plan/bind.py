"""From a study to a plan: names meet registries, selectors meet sites, parameters meet their kinds.

Works on the meta device: no weights, no GPU, no network. All errors of a step are collected, each at its place in
the file. Does not own what a study may say (`vitdsl.dsl`), nor what runs (`run`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from vitdsl.dsl.canonical import canonical
from vitdsl.dsl.diagnostics import Diagnostic, EnvironmentProblem, StudyError, VitdslError
from vitdsl.dsl.loaded import Loaded
from vitdsl.dsl.study import Model, WeightsFile
from vitdsl.dsl.sweeps import sweep_places, variants
from vitdsl.runtime.graph.sites import Sites, sites_of
from vitdsl.runtime.models import architectures, weight_files
from vitdsl.runtime.models.feature_model import with_features
from vitdsl.runtime.models.loading import LoadedModel, skeleton
from vitdsl.runtime.models.outside import Given, received, without_weights
from vitdsl.runtime.models.preprocessing import Preprocessing, preprocessing, said
from vitdsl.runtime.models.recipe import check as check_training
from vitdsl.runtime.plan import fresh
from vitdsl.runtime.plan.bind_batches import cut_apart
from vitdsl.runtime.plan.bind_conditions import check_count, conditions_of, too_many
from vitdsl.runtime.plan.bind_data import bind_data, shared_sizes, small_batches
from vitdsl.runtime.plan.bind_given import given_problems, notes_of
from vitdsl.runtime.plan.bind_kinds import Kinds
from vitdsl.runtime.plan.bind_memory import large_rows
from vitdsl.runtime.plan.bind_metrics import bind_metrics
from vitdsl.runtime.plan.frames import frame
from vitdsl.runtime.plan.lanes import changed_by, unfused_for
from vitdsl.runtime.plan.matching import matched
from vitdsl.runtime.plan.passes import passes_of
from vitdsl.runtime.plan.plan import Group, Plan, PlannedModel
from vitdsl.runtime.results.claims import claim_problems

K = TypeVar("K")
Where = tuple[str | int, ...]
Places = Mapping[Where, Where]


def bind(
    loaded: Loaded, given: Mapping[str, Given] | None = None, *, missing: list[Diagnostic] | None = None
) -> Plan:
    """Resolve a study.

    Args:
        loaded: The study.
        given: The modules of the models that it says are given, by name.
        missing: Where images that are not on this machine are noted, and the rest is resolved as if there were as many
            as it asks for, of classes that fit; None: without them there is no plan.

    Raises:
        StudyError: Everything that is wrong with it, in the first step that finds anything.
        EnvironmentProblem: Nothing is wrong but what this machine lacks: a folder, a checkpoint.
    """
    study = loaded.study
    check_count(loaded)
    kinds = Kinds(loaded)
    kinds.check_all()
    _stop(kinds.problems)
    _stop(given_problems(loaded, given or {}))
    models = _models(loaded, given or {})
    problems: list[Diagnostic] = []
    conditioned = conditions_of(loaded, kinds, models, problems)
    total = sum(len(model.conditions) for model in conditioned.values())
    if total > study.max_conditions:
        problems.append(too_many(loaded, total, conditioned))
    data = {name: variants(name, entry) for name, entry in study.data.items()}
    streams = {name: [variant.name for variant in found] for name, found in data.items()}
    for name, layer in study.layers.items():
        for model in conditioned.values():
            if model.base == layer.of:
                what = f"site of `{model.name}` with the role `{layer.role}`"
                matched(loaded, ("layers", name, "at"), layer.at, model.sites, layer.role, what, problems)
    groups, notes = bind_metrics(loaded, conditioned, kinds.metrics, streams, problems)
    images = bind_data(loaded, kinds.metrics, conditioned, groups, problems, missing)
    problems += large_rows(loaded, groups, images.counts)
    _stop(problems)
    unfuse = {name: _unfused(model, groups) for name, model in conditioned.items()}
    planned = {name: replace(model, unfuse=unfuse[name]) for name, model in conditioned.items()}
    plan = Plan(
        loaded,
        {variant.name: variant.entry for found in data.values() for variant in found},
        planned,
        tuple(groups),
        (*notes_of(models.values()), *notes, *images.notes),
        {variant.name: variant.coordinates for found in data.values() for variant in found},
    )
    plan = replace(plan, passes=passes_of(plan), about_images=(*images.shown, *images.notes))
    frames = {group.path: frame(plan, group) for group in groups} if study.claims else {}
    sizes = [
        *fresh.problems(
            loaded, groups, planned, {name: fresh.expected(one) for name, one in planned.items()}
        ),
        *shared_sizes(loaded, groups, planned),
        *small_batches(loaded, groups, plan.data),
        *cut_apart(loaded, plan, images.counts),
    ]
    _stop([*sizes, *claim_problems(loaded, frames)])
    return plan


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


def _models(loaded: Loaded, given: Mapping[str, Given]) -> dict[str, PlannedModel]:
    """The models; those that differ only in weights, seed or training share one skeleton and its sites."""
    found: dict[str, PlannedModel] = {}
    built: dict[str, tuple[Sites, Preprocessing]] = {}
    problems: list[Diagnostic] = []
    for name, entry in loaded.study.models.items():
        for variant in variants(name, entry):
            where = ("models", name)
            source = loaded.source.moved(sweep_places(where, entry, variant))
            try:
                if variant.entry.given or variant.entry.features:
                    sites, ready = _ready(loaded, name, variant.entry, given)
                    found[variant.name] = PlannedModel(
                        variant.name,
                        name,
                        variant.entry,
                        variant.coordinates,
                        sites,
                        ready.config,
                        ready=ready,
                    )
                    continue
                _weights_there(loaded, variant.entry)
                if variant.entry.train is not None:
                    check_training(variant.entry)
                architectures.check(variant.entry)
                key = _built_alike(variant.entry)
                if key not in built:
                    module = skeleton(variant.entry)
                    config = preprocessing(module, variant.entry)
                    built[key] = sites_of(module, config.input_size), config
                sites, config = built[key]
            except VitdslError as error:
                problems += [source.placed(one, where) for one in error.diagnostics]
                continue
            found[variant.name] = PlannedModel(
                variant.name, name, variant.entry, variant.coordinates, sites, config
            )
    _stop(problems)
    return found


def _ready(loaded: Loaded, name: str, model: Model, given: Mapping[str, Given]) -> tuple[Sites, LoadedModel]:
    """A model that is there already, and its sites."""
    if model.features:
        return with_features(model, loaded.folder)
    ready = received(name, given[name], model)
    return sites_of(without_weights(ready.module), ready.config.input_size), ready


def _built_alike(model: Model) -> str:
    """All that decides a model's structure and the images that it takes."""
    return canonical([model.arch, model.options, model.input_size, said(model)])


def _weights_there(loaded: Loaded, model: Model) -> None:
    """A checkpoint that the study names is there; whether it fits is found when it is read."""
    if isinstance(model.weights, WeightsFile):
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
