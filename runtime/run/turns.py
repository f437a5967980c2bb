"""Which conditions run in one graph, and which in another after it, so that what is read of a batch fits in memory.

The conditions of all models of a pass stand in a row, and a turn takes as many from its head as there is room for. In
a turn each model runs one graph; then every view is observed of which all reads are there, and what no later view reads
is forgotten. What is common to all, the intact model up to the last edit of a turn, is computed again in each turn.
Numbers do not depend on the turns. Owns how conditions are dealt. Does not own their graphs (`compile`), what a read
takes (`needs`), or how much there is (`budget`).
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from vitdsl.dsl.study import BASELINE
from vitdsl.runtime.metrics._base import Observer
from vitdsl.runtime.plan.lanes import taps_of
from vitdsl.runtime.plan.plan import Group, View
from vitdsl.runtime.run.compile import Compiled

LEAST = 0.1
"""Where what does not depend on the turns leaves no room, what is read may take this share of it: less would save
nothing worth the work."""
LaneOf = tuple[str, str]
"""A model, and one of its conditions."""
Read = tuple[str, int]
"""A model, and a position in its `slots`."""
Groups = tuple[Group[Observer], ...]


@dataclass(frozen=True)
class Turn:
    """Conditions that run together.

    Attributes:
        lanes: The conditions, each with its model.
        groups: What is observed then, with the views of which all is there.
        before: What earlier turns left.
        after: What is left for later turns.
    """

    lanes: tuple[LaneOf, ...]
    groups: Groups
    before: frozenset[Read]
    after: frozenset[Read]

    def of(self, model: str) -> list[str]:
        """Its conditions of a model."""
        return [lane for name, lane in self.lanes if name == model]


@dataclass(frozen=True)
class _Wanted:
    """One group under one view: the conditions that it waits for, and what it reads."""

    group: Group[Observer]
    view: View
    lanes: frozenset[LaneOf]
    reads: frozenset[Read]


class Dealer:
    """Deals the conditions of a pass.

    Args:
        models: The models' graphs.
        groups: What is measured.
        sizes: Bytes of what is read of a batch; what is not in it takes nothing.
        beside: Bytes of all else, whatever runs together.
        room: Bytes that the pass may take.
    """

    def __init__(
        self,
        models: Mapping[str, Compiled],
        groups: Sequence[Group[Observer]],
        sizes: Mapping[Read, float] | None = None,
        beside: float = 0.0,
        room: float = math.inf,
    ) -> None:
        self.groups, self.sizes, self.beside, self.room = tuple(groups), sizes or {}, beside, room
        self.taps = {
            (group.path, side): taps_of(models[reading.model].sites, reading, group)
            for group in groups
            for side, reading in (("x", group.x), ("y", group.y))
        }
        self.gives: dict[LaneOf, frozenset[Read]] = {}
        for name, compiled in models.items():
            given: dict[str, set[Read]] = {BASELINE: set()}
            for (lane, _), position in compiled.slots.items():
                given.setdefault(lane, set()).add((name, position))
            self.gives |= {(name, lane): frozenset(reads) for lane, reads in given.items()}
        self.wanted = [self._wanted(group, view, models) for group in groups for view in group.views]

    def _wanted(self, group: Group[Observer], view: View, models: Mapping[str, Compiled]) -> _Wanted:
        sides = [("x", group.x.model, view.x), ("y", group.y.model, view.y)]
        lanes = frozenset((model, lane) for _, model, lane in sides)
        reads = {
            (model, models[model].slots[lane, tap])
            for side, model, lane in sides
            for tap in self.taps[group.path, side]
        }
        return _Wanted(group, view, lanes, frozenset(reads))

    @property
    def together(self) -> float:
        """Bytes that the pass takes where all conditions run together."""
        return self.beside + self._size(frozenset().union(*self.gives.values()))

    def taken(self, turns: Sequence[Turn]) -> float:
        """Bytes that the pass takes with some turns."""
        return self.beside + max(self.held(turn) for turn in turns)

    def held(self, turn: Turn, model: str | None = None) -> float:
        """Bytes of all that is read by the end of a turn, of one model or of all."""
        reads = turn.before.union(*(self.gives[lane] for lane in turn.lanes))
        return self._size(frozenset(read for read in reads if model in (None, read[0])))

    def _size(self, reads: Iterable[Read]) -> float:
        return sum(self.sizes.get(read, 0.0) for read in reads)

    def deal(self, most: int | None = None) -> list[Turn]:
        """The turns, each with one condition at least.

        Args:
            most: So many conditions at most run together.
        """
        room = max(self.room - self.beside, LEAST * self.beside)
        turns: list[Turn] = []
        done: set[LaneOf] = set()
        mine: list[LaneOf] = []
        waiting = self.wanted
        before: frozenset[Read] = frozenset()
        held, size = set(before), 0.0
        for lane, reads in self.gives.items():
            more = self._size(reads - held)
            if mine and (len(mine) == most or size + more > room):
                turns.append(self._turn(mine, done, waiting, before, held))
                waiting = [one for one in waiting if not one.lanes <= done]
                before, mine = turns[-1].after, []
                held, size = set(before), self._size(before)
                more = self._size(reads - held)
            mine.append(lane)
            done.add(lane)
            held |= reads
            size += more
        return [*turns, self._turn(mine, done, waiting, before, held)]

    def _turn(
        self,
        mine: Sequence[LaneOf],
        done: set[LaneOf],
        waiting: Sequence[_Wanted],
        before: frozenset[Read],
        held: set[Read],
    ) -> Turn:
        ready = {(one.group.path, one.view.id) for one in waiting if one.lanes <= done}
        groups = []
        for group in self.groups:
            views = tuple(view for view in group.views if (group.path, view.id) in ready)
            if views:
                groups.append(group if views == group.views else replace(group, views=views))
        later: frozenset[Read] = frozenset().union(*(one.reads for one in waiting if not one.lanes <= done))
        return Turn(tuple(mine), tuple(groups), before, later & held)
