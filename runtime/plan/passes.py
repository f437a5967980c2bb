"""Passes: the walks over image streams that a plan needs, in the order in which they need one another.

One pass is one walk over one stream. Results that only read share the pass of their stream; results that differentiate
have one of their own. What a condition must know before it can act (a fit) is made in a pass before. Does not own what
a group looks at (`bind_metrics`).
"""

from collections.abc import Sequence

from vitdsl.runtime.ablations._base import Ablation
from vitdsl.runtime.graph.site import Site
from vitdsl.runtime.metrics._base import Fit, Observer
from vitdsl.runtime.plan.plan import Edit, Group, Pass, Plan, PlannedModel, Reading, View, lanes_of


def passes_of(plan: Plan) -> tuple[Pass, ...]:
    """The passes of a plan, each after those that it needs."""
    results: dict[tuple[str, bool], list[Group]] = {}
    for group in plan.groups:
        results.setdefault((group.data, group.kind.gradients), []).append(group)
    order = list(plan.data)
    keys = sorted(results, key=lambda key: (order.index(key[0]), key[1]))
    levels = _levels([group for key in keys for group in results[key]])
    measured: list[Group[Observer]] = [*(fit for level in levels for fit in level), *plan.groups]
    of_ablations = [
        fit for data in order for fit in fits_for(plan, data, [g for g in measured if g.data == data])
    ]
    fits: list[Pass] = []
    for level in (of_ablations, *reversed(levels)):
        for data, groups in _by_stream(level, order):
            fits.append(Pass(data, groups, step=1 + sum(one.data == data for one in fits)))
    return (*fits, *(Pass(data, tuple(results[data, g]), g) for data, g in keys))


def _levels(groups: Sequence[Group[Observer]]) -> list[list[Group[Fit]]]:
    """The fits that some metrics need, the fits that these need, and so on."""
    found: list[list[Group[Fit]]] = []
    needing = groups
    while level := [fit for group in needing if (fit := fit_of(group)) is not None]:
        found.append(level)
        needing = level
    return found


def fit_of(group: Group[Observer]) -> Group[Fit] | None:
    """The fit that a metric, or a fit of it, needs before it can observe, or None.

    Of the sites of x, under each of its conditions.
    """
    fit = group.kind.fit()
    if fit is None:
        return None
    views = tuple(View(view.id, view.x, view.x, group.x.model) for view in group.views)
    data = group.kind.over() or group.data
    return Group(fit.name, f"{fit.name}/{group.path}@{data}", fit, group.x, group.x, views, False, data)


def fits_for(plan: Plan, data: str, groups: Sequence[Group[Observer]]) -> list[Group[Fit]]:
    """The fits that the conditions of some groups on a stream need, one group for each model and kind of fit."""
    found: dict[str, Group[Fit]] = {}
    used: dict[str, set[str]] = {}
    for group in groups:
        for name in group.models:
            used.setdefault(name, set()).update(lanes_of(group, name))
    for name, lanes in used.items():
        planned = plan.models[name]
        for condition in planned.conditions:
            if condition.id in lanes:
                for edit in (*planned.always, *condition.edits):
                    for site in edit.sites:
                        fit = _fit_group(planned, edit, site, data)
                        if fit is not None:
                            found[fit.path] = _joined(found.get(fit.path), fit)
    return list(found.values())


def fit_path(model: str, kind: Ablation, role: str, data: str) -> str:
    """Name of the fit that an ablation needs in a role of a model, for conditions that are measured on a stream."""
    fit = kind.fit()
    assert fit is not None
    return f"{fit.name}/{model}/{role}@{kind.over() or data}"


def _fit_group(planned: PlannedModel, edit: Edit, site: Site, data: str) -> Group[Fit] | None:
    fit = edit.kind.fit()
    if fit is None:
        return None
    whole = planned.sites.site(site.name, site.role)
    reading = Reading(planned.name, (whole,), (site.role,))
    baseline = planned.conditions[0].id
    view = View(baseline, baseline, baseline, planned.name)
    path = fit_path(planned.name, edit.kind, site.role, data)
    return Group(fit.name, path, fit, reading, reading, (view,), False, edit.kind.over() or data)


def _joined(one: Group[Fit] | None, other: Group[Fit]) -> Group[Fit]:
    """Two groups of one path as one: the sites of both, each once."""
    if one is None:
        return other
    sites = tuple(dict.fromkeys((*one.x.sites, *other.x.sites)))
    reading = Reading(other.x.model, sites, other.x.roles)
    return Group(
        other.metric, other.path, other.kind, reading, reading, other.views, other.paired, other.data
    )


def _by_stream(fits: Sequence[Group[Fit]], order: Sequence[str]) -> list[tuple[str, tuple[Group[Fit], ...]]]:
    """Fits by the stream that they are made on; those of one path are one."""
    found: dict[str, dict[str, Group[Fit]]] = {}
    for fit in fits:
        known = found.setdefault(fit.data, {})
        known[fit.path] = _joined(known.get(fit.path), fit)
    return [(data, tuple(found[data].values())) for data in order if data in found]
