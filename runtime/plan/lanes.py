"""A plan's conditions and readings as lanes and taps of one model's graph."""

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, fx

from vitdsl.runtime.ablations._base import Ablation
from vitdsl.runtime.graph.edit import Lane, Operation, Place, Rewrite, Rewriter
from vitdsl.runtime.graph.site import Site
from vitdsl.runtime.graph.sites import Sites
from vitdsl.runtime.graph.tap import Tap
from vitdsl.runtime.graph.tokens import only_tokens
from vitdsl.runtime.metrics._base import Observer
from vitdsl.runtime.metrics._output import OUTPUT
from vitdsl.runtime.plan.plan import Condition, Edit, Group, PlannedModel, Reading

Fitted = Callable[[Ablation, Site], tuple[Tensor, ...]]
"""The constants that an ablation's fit gave for a site; empty where it needs none."""


def lane_of(planned: PlannedModel, condition: Condition, sites: Sites, fitted: Fitted | None = None) -> Lane:
    """A condition's lane: first what the model was trained without, then the condition's own edits, in order.

    Args:
        planned: The model's plan.
        condition: The condition.
        sites: Its graph's nodes.
        fitted: Gives the constants of ablations that are fitted; None gives empty ones, without numbers.
    """
    edits: list[tuple[Place, Rewrite]] = []
    for edit in (*planned.always, *condition.edits):
        for site in edit.sites:
            named = sites.place(site.name, site.role, tokens=site.tokens)
            constants = (fitted or shapes_only)(edit.kind, site)
            for place in edit.kind.places(named):
                edits.append((place, rewriting(edit.kind, place, constants)))
    return Lane(condition.id, tuple(edits))


def shapes_only(kind: Ablation, site: Site) -> tuple[Tensor, ...]:
    """Constants of the right shape on the meta device, for a graph that is priced and not run."""
    fit = kind.fit()
    return () if fit is None else tuple(torch.empty(shape, device="meta") for shape in fit.shapes(site))


def unfused_for(sites: Sites, named: Iterable[tuple[str, str]]) -> frozenset[str]:
    """The attention modules of which some name and role are what only un-fused attention has.

    Args:
        sites: A model's sites, all attention un-fused.
        named: Names and roles that are read or changed.
    """
    found = set()
    for name, role in named:
        if role == "position" and name in sites.nodes["attention"]:
            found.add(name)
        elif name and (module := sites.attention_of(sites.nodes[role][name])):
            found.add(module)
    return frozenset(found)


def changed_by(edits: Iterable[Edit]) -> list[tuple[str, str]]:
    """Names and roles of what edits change, and of what they read to do so."""
    found = []
    for edit in edits:
        found += [(site.name, site.role) for site in edit.sites]
        found += list(edit.kind.reads().values())
    return found


def rewriting(kind: Ablation, place: Place, constants: Sequence[Tensor] = ()) -> Rewrite:
    """What an ablation does at a place, with the constants of its fit; where tokens are selected, at those alone."""

    def rewrite(build: Rewriter) -> object:
        value = kind.rewrite(place, build, *(build.constant(tensor) for tensor in constants))
        if place.site is None or place.site.tokens == "all":
            return value
        return build.call(Operation(only_tokens, (("site", place.site.nameless()),)), build.before, value)

    return rewrite


def taps_of(sites: Sites, reading: Reading, group: Group[Observer]) -> list[Tap]:
    """The taps of a reading, one for each site; with the images behind them where the kind asks for them."""
    is_y = reading is group.y and group.y is not group.x
    reducer = group.kind.reducer_y() if is_y else group.kind.reducer()
    images = (sites.traced.images,) if group.kind.inputs.image else ()
    return [
        Tap((*(_node(sites, site.name, role) for role in reading.roles), *images), reducer, site)
        for site in reading.sites
    ]


def _node(sites: Sites, name: str, role: str) -> fx.Node:
    return sites.nodes[role][name] if name else sites.traced.output


def output_tap(sites: Sites) -> Tap:
    """The tap of the model's own output."""
    return Tap((sites.traced.output,), OUTPUT, sites.site("", "output"))
