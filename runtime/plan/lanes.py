"""A plan's conditions and readings as lanes and taps of one model's graph."""

from collections.abc import Iterable

from vitdsl.runtime.ablations._base import Ablation
from vitdsl.runtime.graph.edit import Lane, Operation, Place, Rewrite, Rewriter
from vitdsl.runtime.graph.sites import Sites
from vitdsl.runtime.graph.tap import Tap
from vitdsl.runtime.graph.tokens import only_tokens
from vitdsl.runtime.metrics._output import OUTPUT
from vitdsl.runtime.plan.plan import Condition, Group, PlannedModel, Reading


def lane_of(planned: PlannedModel, condition: Condition, sites: Sites) -> Lane:
    """A condition's lane: first what the model was trained without, then the condition's own edits, in order."""
    edits: list[tuple[Place, Rewrite]] = []
    for edit in (*planned.always, *condition.edits):
        for site in edit.sites:
            place = sites.place(site.name, site.role, tokens=site.tokens)
            edits.append((place, rewriting(edit.kind, place)))
    return Lane(condition.id, tuple(edits))


def unfused_for(sites: Sites, named: Iterable[tuple[str, str]]) -> frozenset[str]:
    """The attention modules of which some name and role are what only un-fused attention has.

    Args:
        sites: A model's sites, all attention un-fused.
        named: Names and roles that are read or changed.
    """
    return frozenset(
        module for name, role in named if name and (module := sites.attention_of(sites.nodes[role][name]))
    )


def rewriting(kind: Ablation, place: Place) -> Rewrite:
    """What an ablation does at a place; where tokens are selected, at those alone."""

    def rewrite(build: Rewriter) -> object:
        value = kind.rewrite(place, build)
        if place.site is None or place.site.tokens == "all":
            return value
        return build.call(Operation(only_tokens, (("site", place.site.nameless()),)), build.before, value)

    return rewrite


def taps_of(sites: Sites, reading: Reading, group: Group) -> list[Tap]:
    """The taps of a reading, one for each site."""
    reducer = group.kind.reducer()
    return [
        Tap(
            tuple(
                sites.nodes[role][site.name] if site.name else sites.traced.output for role in reading.roles
            ),
            reducer,
            site,
        )
        for site in reading.sites
    ]


def output_tap(sites: Sites) -> Tap:
    """The tap of the model's own output."""
    return Tap((sites.traced.output,), OUTPUT, sites.site("", "output"))
