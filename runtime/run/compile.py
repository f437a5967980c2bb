"""One model, ready to run on one stream: its conditions merged into one graph, with the taps of some groups.

Where one graph of all conditions takes too much memory, it is taken apart into several, each with some of them. Does
not own what a condition or a reading is in a graph (`plan.lanes`), how lanes share (`graph.merge`), or which conditions
run together (`turns`).
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from vitdsl.dsl.study import BASELINE
from vitdsl.runtime.graph.edit import Lane
from vitdsl.runtime.graph.fold import Folded
from vitdsl.runtime.graph.merge import Merged, merge
from vitdsl.runtime.graph.sites import Sites, same_sites, sites_of
from vitdsl.runtime.graph.tap import Tap
from vitdsl.runtime.graph.trace import fusable
from vitdsl.runtime.metrics._base import Observer
from vitdsl.runtime.plan.lanes import Fitted, lane_of, output_tap, taps_of
from vitdsl.runtime.plan.plan import Condition, Group, PlannedModel, lanes_of


@dataclass(frozen=True)
class Part:
    """One graph of a model.

    Attributes:
        merged: The graph of some of its conditions.
        at: For each of the tensors that it gives, their position in the model's `slots`.
    """

    merged: Merged
    at: tuple[int, ...]


@dataclass
class Compiled:
    """One model, ready to run on one stream.

    Attributes:
        planned: What the plan says of it.
        module: The model with its weights, on the device.
        sites: Its graph's nodes.
        lanes: Its conditions in the graph, by id.
        slots: For each condition and tap, the position of what it gives.
        separate: Floating point operations for one image, each condition run alone.
        together: The same, all conditions in one graph.
        parts: Its graphs, by the turn in which they run.
        output: The tap of the intact model's output.
        over: Whether values are written over others that nobody reads again.
        folds: The batch norms that its graphs have folded; None where none may be.
        channels_last: Whether its maps lie channels last in memory.
    """

    planned: PlannedModel
    module: nn.Module
    sites: Sites
    lanes: Mapping[str, Lane]
    slots: Mapping[tuple[str, Tap], int]
    separate: float
    together: float
    parts: dict[int, Part]
    output: Tap
    over: bool = False
    folds: Folded | None = None
    channels_last: bool = False

    @property
    def ablated(self) -> list[Condition]:
        """The conditions with an ablation that are in its graphs."""
        return [c for c in self.planned.conditions if c.ablation and c.id in self.lanes]

    @property
    def merged(self) -> Merged:
        """The one graph of all its conditions, before they are taken apart."""
        (part,) = self.parts.values()
        return part.merged

    @property
    def work(self) -> float:
        """Floating point operations for one image, all graphs together."""
        return sum(part.merged.work["merged"] for part in self.parts.values())

    @property
    def saved(self) -> float:
        """Share of the work that merging saves, 0 to 1."""
        return 1 - self.work / self.separate if self.separate else 0.0

    @property
    def nodes(self) -> int:
        """Nodes of all its graphs."""
        return sum(len(part.merged.module.graph.nodes) for part in self.parts.values())

    def take_apart(self, turns: Sequence[tuple[Collection[str], Collection[int]]]) -> None:
        """Let the conditions run in several graphs.

        Args:
            turns: For each turn, the conditions that run in it, and the positions that earlier ones leave.
        """
        busy = [number for number, (lanes, _) in enumerate(turns) if lanes]
        if len(busy) == len(self.parts) == 1:
            self.parts = dict(zip(busy, self.parts.values(), strict=True))
            return
        parts = {}
        for number, (lanes, there) in enumerate(turns):
            taps: dict[str, list[Tap]] = {}
            for (lane, tap), position in self.slots.items():
                if lane in lanes and position not in there:
                    taps.setdefault(lane, []).append(tap)
            if taps:
                laid = [self.lanes[lane] for lane in self.lanes if lane in taps]
                merged = merge(
                    self.sites.model, self.sites.traced.graph, laid, taps, over=self.over, folds=self.folds
                )
                at = {mine: self.slots[named] for named, mine in merged.slots.items()}
                parts[number] = Part(merged, tuple(at[mine] for mine in range(len(at))))
        self.parts = parts


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
    folded: Folded | None = {} if folds else None
    merged = merge(sites.model, sites.traced.graph, lanes, wanted, over=over, folds=folded)
    whole = Part(merged, tuple(range(len(set(merged.slots.values())))))
    return Compiled(
        planned,
        module,
        sites,
        {lane.name: lane for lane in lanes},
        merged.slots,
        merged.work["separate"],
        merged.work["merged"],
        {0: whole},
        output,
        over,
        folded,
    )
