"""Bytes that a model takes in a pass, in float32, told from its graph before it runs.

Owns what is counted: weights, activations alive at a time, what is read of a batch, a batch that is decoded meanwhile,
the graph itself, rows and large sums. Does not own how much there is (`budget`), or what runs together (`turns`).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vitdsl.runtime.metrics._base import Fit, Metric, Observer
from vitdsl.runtime.metrics._gram import u_gram
from vitdsl.runtime.metrics._kernels import kernel_gram
from vitdsl.runtime.plan.lanes import taps_of
from vitdsl.runtime.plan.plan import Group, Pass, Plan
from vitdsl.runtime.results.split import Split
from vitdsl.runtime.run.compile import Compiled
from vitdsl.runtime.run.turns import Dealer, Read, Turn

FLOAT = 4
NODE = 8_000
"""Bytes of a node of a merged graph with its code; measured on graphs of 500 to 200,000 nodes."""


@dataclass(frozen=True)
class Needs:
    """What one model takes in one pass.

    Attributes:
        always: Bytes of weights, the graph, rows, large sums, and a decoded batch.
        alive: Bytes of activations alive at a time; or of a copy of what a group reads under one view, which it makes
            when it observes, if that is more.
        reads: Bytes of what is read of a batch, by position in the model's `slots`: Gram matrices, and what kinds say.
    """

    always: float
    alive: float
    reads: Mapping[int, float]

    @property
    def beside(self) -> float:
        """Bytes of all but what is read."""
        return self.always + self.alive


def needs_of(plan: Plan, one: Pass, compiled: Compiled, groups: Sequence[Group[Observer]]) -> Needs:
    """What a model takes in a pass; of a model whose conditions run in one graph.

    Args:
        plan: The plan.
        one: The pass.
        compiled: The model's graph.
        groups: What is measured.
    """
    entry, planned, batch = plan.data[one.data], compiled.planned, plan.data[one.data].batch
    weights = sum(parameter.numel() for parameter in planned.sites.model.parameters())
    decoded = batch * math.prod(planned.config.input_size)
    rows = _kept(groups, planned.name, plan.images.get(one.data, 0), entry.image_blocks)
    alive = compiled.merged.kept if one.gradients else compiled.merged.live
    reads = _held(groups, compiled, batch)
    grams = {at for (_, tap), at in compiled.slots.items() if tap.reducer.function in (u_gram, kernel_gram)}
    for position in grams:
        reads[position] = reads.get(position, 0) + batch**2
    working = max(batch * alive, _observed(groups, compiled, reads))
    return Needs(
        FLOAT * (weights + decoded) + NODE * compiled.nodes + rows,
        FLOAT * working,
        {position: FLOAT * numbers for position, numbers in reads.items()},
    )


def dealer(
    models: Mapping[str, Compiled],
    groups: Sequence[Group[Observer]],
    needs: Mapping[str, Needs],
    room: float,
) -> Dealer:
    """What deals the conditions of a pass so that it takes no more than there is room for.

    Args:
        models: The models' graphs, each of all conditions.
        groups: What is measured.
        needs: What each model takes.
        room: Bytes that the pass may take.
    """
    beside = sum(one.always for one in needs.values()) + max(one.alive for one in needs.values())
    sizes: dict[Read, float] = {
        (name, position): size for name, one in needs.items() for position, size in one.reads.items()
    }
    return Dealer(models, groups, sizes, beside, room)


def split_of(
    one: Pass,
    models: Mapping[str, Compiled],
    dealing: Dealer,
    turns: Sequence[Turn],
    halved: Sequence[int] = (),
) -> Split | None:
    """How the conditions of a pass were dealt; None where all run together.

    Args:
        one: The pass.
        models: The models' graphs, taken apart.
        dealing: What dealt them.
        turns: The turns.
        halved: How many conditions ran together at most after each time that memory was full.
    """
    if len(turns) == 1:
        return None
    least = sum(compiled.together for compiled in models.values())
    return Split(
        data=one.title,
        conditions=len(dealing.gives),
        turns=len(turns),
        together=dealing.together,
        taken=dealing.taken(turns),
        more=sum(compiled.work for compiled in models.values()) / least - 1 if least else 0.0,
        room=dealing.room if math.isfinite(dealing.room) else None,
        halved=tuple(halved),
    )


def _kept(groups: Sequence[Group[Observer]], model: str, images: int, blocks: int) -> float:
    """Bytes of the rows that groups of a model keep of all images, and of large sums of all blocks, float64."""
    kept = 0
    for group in (group for group in groups if group.x.model == model):
        one_sum = isinstance(group.kind, Fit)
        each = group.kind.sum_size(group.x.sites) * (1 if one_sum else blocks)
        if isinstance(group.kind, Metric):
            of_image = group.kind.rows_of_both(group.x.sites, group.y.sites, paired=group.paired)
            each += of_image * images
        kept += each * len(group.views)
    return 2.0 * FLOAT * kept


def _observed(groups: Sequence[Group[Observer]], compiled: Compiled, reads: Mapping[int, int]) -> int:
    """Numbers of a model that a group reads under one view, of the group that reads most."""
    name, most = compiled.planned.name, 0
    for group in groups:
        view = group.views[-1]
        sides = {(id(reading), lane): reading for reading, lane in ((group.x, view.x), (group.y, view.y))}
        places = [
            compiled.slots[lane, tap]
            for (_, lane), reading in sides.items()
            if reading.model == name
            for tap in taps_of(compiled.sites, reading, group)
        ]
        most = max(most, sum(reads.get(place, 0) for place in places))
    return most


def _held(groups: Sequence[Group[Observer]], compiled: Compiled, batch: int) -> dict[int, int]:
    """What kinds hold of a batch of one model, beside Gram matrices of layers; equal taps hold it once."""
    return {
        compiled.slots[lane, tap]: group.kind.held(tap.site, batch)
        for group in groups
        if group.x.model == compiled.planned.name
        for tap in taps_of(compiled.sites, group.x, group)
        for lane in dict.fromkeys(view.x for view in group.views)
    }
