"""Conditions: what each model runs under, from the ablations of a study; and how many there may be.

Owns which places an ablation's selectors, role and tokens pick. Does not own kinds and parameters (`bind_kinds`).
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from math import prod

from vitdsl.dsl.diagnostics import Diagnostic
from vitdsl.dsl.loaded import Loaded
from vitdsl.dsl.selectors import nearest
from vitdsl.dsl.study import Ablation as AblationEntry
from vitdsl.dsl.sweeps import sweep_places, variants
from vitdsl.dsl.text import shown, ticked
from vitdsl.runtime.ablations._base import ABLATIONS, Ablation
from vitdsl.runtime.graph.site import Site
from vitdsl.runtime.graph.tokens import refuse_tokens
from vitdsl.runtime.models.feature_model import NO_GRAPH
from vitdsl.runtime.plan.bind_data import several_streams
from vitdsl.runtime.plan.bind_kinds import Kinds
from vitdsl.runtime.plan.matching import matched, role_words
from vitdsl.runtime.plan.plan import Condition, Edit, PlannedModel, baseline_of

Where = tuple[str | int, ...]


def too_many_models(loaded: Loaded) -> Diagnostic | None:
    """A sweep of more models than conditions may be, known before any of them is built."""
    sizes = {name: prod(map(len, entry.vary.values())) for name, entry in loaded.study.models.items()}
    most = max(sizes, key=lambda name: sizes[name], default="")
    return _over(loaded, sum(sizes.values()), ("models", most, "vary"))


def too_many(loaded: Loaded, models: Mapping[str, PlannedModel]) -> Diagnostic | None:
    """More conditions than the study allows, at the entry that makes most of them."""
    total = sum(len(model.conditions) for model in models.values())
    made = Counter(c.ablation for model in models.values() for c in model.conditions if c.ablation)
    if not made:
        return _over(loaded, total, ("models",))
    (name, _), *_ = made.most_common()
    entry = loaded.study.ablations[name]
    field = ("vary",) if entry.vary else ("each",) if entry.each else ()
    return _over(loaded, total, ("ablations", name, *field))


def _over(loaded: Loaded, total: int, most: Where) -> Diagnostic | None:
    limit: Where = ("max_conditions",)
    if total <= loaded.study.max_conditions or limit in loaded.dropped:
        return None
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


def conditions_of(
    loaded: Loaded, kinds: Kinds, models: dict[str, PlannedModel], problems: list[Diagnostic]
) -> dict[str, PlannedModel]:
    """Every model with its conditions, the intact model first, and with what it was trained without."""
    study = loaded.study
    result = {}
    for name, model in models.items():
        always: list[Edit] = []
        conditions = [baseline_of(name)]
        without = (model.entry.train.without or ()) if model.entry.train else ()
        for ablation, entry in study.ablations.items():
            if entry.of != model.base:
                continue
            if model.entry.features:
                problems.append(_of_features(loaded, ablation, entry))
                continue
            if model.sites.unfollowed is not None:
                problems.append(_of_hooks(loaded, ablation, entry, model.sites.unfollowed.why))
                continue
            found = _instances(loaded, kinds, model, ablation, entry, problems)
            if ablation in without:
                problems += _not_in_training(loaded, model, ablation, found)
                always += [edit for condition in found for edit in condition.edits]
            else:
                conditions += found
        result[name] = replace(model, always=tuple(always), conditions=tuple(conditions))
    return result


def _of_features(loaded: Loaded, name: str, entry: AblationEntry) -> Diagnostic:
    """An ablation of a model that is features and nothing else."""
    return loaded.problem(
        "VD302",
        ("ablations", name, "of"),
        f"`{entry.kind}` has nothing to change in `{entry.of}`: {NO_GRAPH}",
        label="no graph",
        help=("ablate the model where its features are computed, and bring both files of features",),
    )


def _of_hooks(loaded: Loaded, name: str, entry: AblationEntry, why: str) -> Diagnostic:
    """An ablation of a model that is read by hooks."""
    return loaded.problem(
        "VD305",
        ("ablations", name, "of"),
        f"`{entry.kind}` cannot change anything in `{entry.of}`, which is read by hooks: {why}",
        label="no graph to change",
        help=("change that line of the model's program, or ablate a model that can be traced",),
    )


def _not_in_training(
    loaded: Loaded, model: PlannedModel, name: str, found: list[Condition]
) -> list[Diagnostic]:
    """What is wrong with an ablation that holds during training, such as a fit, which needs a trained model."""
    reasons = {edit.kind.name: edit.kind.refuse_training() for one in found for edit in one.edits}
    without = model.entry.train.without if model.entry.train else None
    return [
        loaded.problem(
            "VD302",
            ("models", model.base, "train", "without", list(without or ()).index(name)),
            f"`{kind}` cannot hold during training: {why}",
            label="not during training",
            help=("take another ablation, such as `remove_branch`",),
        )
        for kind, why in reasons.items()
        if why
    ]


def _instances(
    loaded: Loaded,
    kinds: Kinds,
    model: PlannedModel,
    name: str,
    entry: AblationEntry,
    problems: list[Diagnostic],
) -> list[Condition]:
    """The conditions of one ablation on one model."""
    conditions: list[Condition] = []
    for variant in variants(name, entry):
        where: Where = ("ablations", name)
        kind = ABLATIONS.kinds()[variant.entry.kind]
        params = kinds.params(kind, where, variant.entry)
        if params is None:
            continue
        bound = kind(params)
        over = bound.over()
        if over is not None and loaded.study.data[over].vary:
            problems.append(several_streams(loaded, (*where, "over"), over))
            continue
        varied = replace(loaded, source=loaded.source.moved(sweep_places(where, entry, variant)))
        sites = _places(varied, model, where, variant.entry, bound, problems)
        suffix = variant.name.removeprefix(name)
        if variant.entry.each:
            found = [(f"{name}@{site.name}{suffix}", Edit(bound, (site,))) for site in sites]
        else:
            found = [(f"{name}{suffix}", Edit(bound, tuple(sites)))] if sites else []
        conditions += [Condition(id, model.name, name, (edit,), variant.coordinates) for id, edit in found]
    return conditions


def _places(
    loaded: Loaded,
    model: PlannedModel,
    where: Where,
    entry: AblationEntry,
    kind: Ablation,
    problems: list[Diagnostic],
) -> list[Site]:
    """The places at which an ablation acts on a model; none where one of them is refused (noted)."""
    role = entry.role or kind.role
    what = f"{role_words(role)} of `{model.name}`"
    names = matched(loaded, (*where, "at"), entry.at, model.sites, role, what, problems)
    tokens = tuple(entry.tokens) if isinstance(entry.tokens, list) else entry.tokens
    if not _all_there(loaded, model, where, kind, problems):
        return []
    places = [model.sites.place(one, role, tokens=tokens) for one in names]
    sites = [place.site for place in places if place.site is not None]
    for place, site in zip(places, sites, strict=True):
        unread = _unread(kind, site)
        refused = unread or kind.refuse_place(place)
        if not refused:
            changed = (one.site for one in kind.places(place) if one.site and one is not place)
            refused = unread = next(filter(None, (_unread(kind, one) for one in changed)), None)
        why, _, instead = (refused or "").partition("; ")
        if why:
            field = "tokens" if unread and entry.tokens != "all" else "at"
            problem = loaded.problem(
                "VD242" if unread else "VD302",
                (*where, field if loaded.source.exists((*where, field)) else "kind"),
                f"`{kind.name}` cannot act at `{site.name}` of `{model.name}`: {why}",
                label="not there",
                help=(instead or "choose other `tokens:`, or other places with `at:`",),
                notes=(f"one image's tensor there has shape {list(site.shape)}",),
            )
            problems.append(problem)
            return []
    return sites


def _unread(kind: Ablation, site: Site) -> str | None:
    """Why a site does not have the tokens that are changed, or None."""
    windows = kind.windows and site.layout == "windows" and site.tokens == "all"
    return None if windows else refuse_tokens(site)


def _all_there(
    loaded: Loaded, model: PlannedModel, where: Where, kind: Ablation, problems: list[Diagnostic]
) -> bool:
    """Whether a model has the other sites that an ablation reads; what it lacks is noted."""
    before = len(problems)
    for field, (name, role) in kind.reads().items():
        names = model.sites.names(role)
        if name not in names:
            near = ticked(nearest(name, names) or names[:3])
            problem = loaded.problem(
                "VD210",
                (*where, field),
                f"there is no {role_words(role)} `{shown(name)}` of `{model.name}`",
                label="no such site",
                help=(f"nearest: {near}" if names else "`vitdsl sites MODEL` shows what the model has",),
            )
            problems.append(problem)
    return len(problems) == before
