"""From a study to a plan: names meet registries, selectors meet sites, parameters meet their kinds.

Works on the meta device: no weights, no GPU, no network. All errors of a step are collected, each at its place in
the file. Does not own what a study may say (`vitdsl.dsl`), nor what runs (`run`).
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeVar

from vitdsl.dsl.diagnostics import Diagnostic, StudyError, VitdslError
from vitdsl.dsl.load import Loaded
from vitdsl.dsl.schema import validated
from vitdsl.dsl.study import BASELINE, OWN
from vitdsl.dsl.study import Ablation as AblationEntry
from vitdsl.dsl.sweeps import Variant, variants
from vitdsl.dsl.text import did_you_mean
from vitdsl.runtime.ablations._base import Ablation
from vitdsl.runtime.bind_metrics import bind_metrics
from vitdsl.runtime.claims import claim_problems
from vitdsl.runtime.kinds import ABLATIONS, METRICS, SOURCES, Registry
from vitdsl.runtime.matching import matched
from vitdsl.runtime.metrics._base import Metric
from vitdsl.runtime.models import preprocessing, skeleton
from vitdsl.runtime.plan import Condition, Edit, Group, Plan, PlannedModel, baseline_of, frame
from vitdsl.runtime.sites import sites_of
from vitdsl.runtime.stream import open_source

K = TypeVar("K")
Where = tuple[str | int, ...]


def bind(loaded: Loaded) -> Plan:
    """Resolve a study.

    Raises:
        StudyError: Everything that is wrong with it, in the first step that finds anything.
    """
    study = loaded.study
    kinds = _Kinds(loaded)
    for section, registry in (("data", SOURCES), ("ablations", ABLATIONS), ("metrics", METRICS)):
        for name, entry in getattr(study, section).items():
            kinds.check(registry, (section, name), entry)
    _stop(kinds.problems)
    models = _models(loaded)
    problems: list[Diagnostic] = []
    conditioned = _conditions(loaded, kinds, models, problems)
    total = sum(len(model.conditions) for model in conditioned.values())
    if total > study.max_conditions:
        problems.append(
            loaded.problem(
                "VD260",
                ("max_conditions",) if loaded.source.exists(("max_conditions",)) else ("ablations",),
                f"the study has {total} conditions, more than `max_conditions: {study.max_conditions}`",
                help=(f"narrow `at:` or `vary:`, or write `max_conditions: {total}`",),
                key=True,
            )
        )
    data = {name: variants(name, entry) for name, entry in study.data.items()}
    streams = {name: [variant.name for variant in found] for name, found in data.items()}
    groups, notes = bind_metrics(loaded, conditioned, kinds.metrics, streams, problems)
    _labels(loaded, kinds.metrics, problems)
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
    _stop([*_shared_sizes(plan), *claim_problems(loaded, {group.path: frame(plan, group) for group in groups})])
    return plan


def _unfused(model: PlannedModel, groups: Sequence[Group]) -> frozenset[str]:
    """The attention modules of a model of which some group reads what only un-fused attention has."""
    return frozenset(
        name
        for group in groups
        for reading in (group.x, group.y)
        if reading.model == model.name
        for role in reading.roles
        for site in reading.sites
        if site.name and (name := model.sites.attention_of(model.sites.nodes[role][site.name]))
    )


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

    def check(self, registry: Registry[Any], where: Where, entry: Any) -> None:
        field = "source" if registry.section == "sources" else "kind"
        kind = find_kind(self.loaded, registry, where, getattr(entry, field), field, self.problems)
        if kind is None or self.params(kind, where, entry) is None:
            return
        if registry is METRICS:
            self.metrics[str(where[1])] = kind(self.params(kind, where, entry))

    def params(self, kind: Any, where: Where, entry: Any) -> Any:
        """The kind's parameters, or None where they are wrong (noted)."""
        found = validated(kind.Params, entry.params, self.loaded.source, where)
        if isinstance(found, list):
            own = [replace(p, code="VD221") for p in found]
            self.problems += [p for p in own if p not in self.problems]
            return None
        return found


def find_kind(
    loaded: Loaded, registry: Registry[K], where: Where, name: str, field: str, problems: list[Diagnostic]
) -> type[K] | None:
    """A kind by name, or None with a problem noted."""
    kinds = registry.kinds()
    if name not in kinds:
        what = registry.section.removesuffix("s")
        problems.append(
            loaded.problem(
                "VD220",
                (*where, field),
                f"there is no {what} `{name}`",
                label=f"not a {field}",
                help=(did_you_mean(name, list(kinds)), f"{registry.section}: {', '.join(kinds)}"),
            )
        )
    return kinds.get(name)


def _models(loaded: Loaded) -> dict[str, PlannedModel]:
    found: dict[str, PlannedModel] = {}
    problems: list[Diagnostic] = []
    for name, entry in loaded.study.models.items():
        for variant in variants(name, entry):
            try:
                module = skeleton(variant.entry)
                config = preprocessing(module, variant.entry)
                sites = sites_of(module, config.input_size)
            except VitdslError as error:
                problems += [_placed(loaded, ("models", name), d) for d in error.diagnostics]
                break
            found[variant.name] = PlannedModel(
                variant.name, name, variant.entry, variant.coordinates, sites, config
            )
    _stop(problems)
    return found


def _placed(loaded: Loaded, where: Where, diagnostic: Diagnostic) -> Diagnostic:
    """A diagnostic about a model at the field that it speaks of."""
    if diagnostic.span is not None:
        return diagnostic
    field = {"VD230": "arch", "VD231": "options", "VD301": "arch", "VD302": "arch", "VD233": "input_size"}
    path: Where = (*where, field.get(diagnostic.code, "arch"))
    for option in loaded.study.models[str(where[1])].options:
        if diagnostic.code == "VD231" and f"`{option}`" in diagnostic.message:
            path = (*path, option)
    span = loaded.source.span(path, key=len(path) > 3)
    return replace(diagnostic, span=span)


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
    what = f"residual unit of `{model.name}`"
    units = matched(loaded, (*where, "at"), entry.at, model.sites, "branch", what, problems)
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
                Condition(f"{name}@{unit}{suffix}", model.name, name, (Edit(bound, (unit,)),), variant.coordinates)
                for unit in units
            ]
        elif units:
            edit = Edit(bound, tuple(units))
            conditions.append(Condition(f"{name}{suffix}", model.name, name, (edit,), variant.coordinates))
    return conditions


def _variants(name: str, entry: AblationEntry) -> list[Variant[AblationEntry]]:
    return variants(name, entry)


def _labels(loaded: Loaded, metrics: dict[str, Metric], problems: list[Diagnostic]) -> None:
    """Metrics that need labels read streams that have them."""
    study = loaded.study
    for name, kind in metrics.items():
        if not kind.labels:
            continue
        data = study.metrics[name].data or next(iter(study.data))
        try:
            source = open_source(
                study.data[data], seed=study.seed, folder=loaded.folder
            )
        except VitdslError as error:
            problems += [replace(d, span=loaded.source.span(("data", data))) for d in error.diagnostics]
            continue
        if source.classes is None:
            problems.append(
                loaded.problem(
                    "VD241",
                    ("metrics", name),
                    f"`{kind.name}` needs labels, and the images of `{data}` have none",
                    help=("use class folders or a source with labels, or leave this metric out",),
                    key=True,
                    secondary_paths=((("data", data), "these images"),),
                )
            )


def _shared_sizes(plan: Plan) -> list[Diagnostic]:
    """Streams with one preprocessing for all, whose models take images of another size."""
    problems = []
    for group in plan.groups:
        entry = plan.data[group.data]
        if entry.preprocess == OWN:
            continue
        height, width = plan.preprocessing(entry).input_size[1:]
        for name in group.models:
            size = plan.models[name].config.input_size[1:]
            if size != (height, width):
                problems.append(
                    plan.loaded.problem(
                        "VD234",
                        ("data", group.data.partition("[")[0], "preprocess"),
                        f"`preprocess: {entry.preprocess}` gives images of {height} x {width} pixels, "
                        f"and model `{name}` takes {size[0]} x {size[1]}",
                        help=("build both for one size (`options: {img_size: N}` or `input_size: N`)",),
                    )
                )
    return list(dict.fromkeys(problems))


def _stop(problems: Sequence[Diagnostic]) -> None:
    """Raise what is wrong in the order of the file; what is wrong alike with variants of one model, once."""
    once: dict[object, Diagnostic] = {}
    for problem in problems:
        once.setdefault((problem.code, problem.span, re.sub(r"\[[^\]]*\]`", "`", problem.message)), problem)
    if once:
        raise StudyError(sorted(once.values(), key=_position))


def _position(diagnostic: Diagnostic) -> tuple[str, int, int]:
    span = diagnostic.span
    return (span.file, span.line, span.column) if span else ("", 0, 0)


__all__ = ["BASELINE", "bind", "bind_diagnostics"]
