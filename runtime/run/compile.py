"""One model, ready to run on one stream: its conditions merged into one graph, with the taps of some groups.

Does not own what a condition or a reading is in a graph (`plan.lanes`), or how lanes share (`graph.merge`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from vitdsl.dsl.study import BASELINE
from vitdsl.runtime.graph.merge import Merged, merge
from vitdsl.runtime.graph.sites import Sites, same_sites, sites_of
from vitdsl.runtime.graph.tap import Tap
from vitdsl.runtime.graph.trace import fusable
from vitdsl.runtime.metrics._base import Observer
from vitdsl.runtime.plan.lanes import Fitted, lane_of, output_tap, taps_of
from vitdsl.runtime.plan.plan import Condition, Group, PlannedModel, lanes_of


@dataclass
class Compiled:
    """One model, ready to run on one stream.

    Attributes:
        planned: What the plan says of it.
        module: The model with its weights, on the device.
        sites: Its graph's nodes.
        merged: All its conditions in one graph.
        output: The tap of the intact model's output.
        fitted: The constants of its ablations' fits.
        channels_last: Whether its maps lie channels last in memory.
    """

    planned: PlannedModel
    module: nn.Module
    sites: Sites
    merged: Merged
    output: Tap
    fitted: Fitted | None = None
    channels_last: bool = False

    @property
    def ablated(self) -> list[Condition]:
        """The conditions with an ablation that are in the graph."""
        lanes = {lane for lane, _ in self.merged.slots}
        return [c for c in self.planned.conditions if c.ablation and c.id in lanes]


def compile_model(
    planned: PlannedModel,
    module: nn.Module,
    groups: Sequence[Group[Observer]],
    fitted: Fitted | None = None,
    *,
    over: bool = False,
    folds: bool = False,
) -> Compiled:
    """Merge a model's conditions into one graph with the taps of some groups.

    Args:
        planned: The model's plan.
        module: The model with its weights; stays as it is.
        groups: The groups of one stream.
        fitted: Gives the constants of ablations that are fitted; None gives empty ones, for a graph that is priced
            and not run.
        over: Let values be written over others that nobody reads again (`merge`).
        folds: Fold batch norms into the convolutions before them (`merge`).
    """
    skeleton = planned.sites
    if skeleton.unfollowed is None and not planned.unfuse.issuperset(fusable(skeleton.model)):
        skeleton = sites_of(skeleton.model, skeleton.input_size, unfuse=planned.unfuse)
    sites = skeleton if module is skeleton.model else same_sites(module, skeleton)
    taps: dict[str, list[Tap]] = {}
    for group in groups:
        for reading in (group.x, group.y):
            if reading.model == planned.name:
                for lane in lanes_of(group, planned.name):
                    taps.setdefault(lane, []).extend(taps_of(sites, reading, group))
    output = output_tap(sites)
    taps.setdefault(BASELINE, []).append(output)
    lanes = [lane_of(planned, c, sites, fitted) for c in planned.conditions if c.id in taps]
    wanted = {lane: list(dict.fromkeys(some)) for lane, some in taps.items()}
    merged = merge(sites.model, sites.traced.graph, lanes, wanted, over=over, folds=folds)
    return Compiled(planned, module, sites, merged, output, fitted)
