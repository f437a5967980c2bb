"""What one pass has in the block store: what is there, what is missing, and the sums of all of it.

A unit is one group under one view; the store knows it by its key. Does not own keys (`keys`), files (`blocks`), or
who computes what is missing (`run`).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from vitdsl.dsl.diagnostics import Diagnostic, EnvironmentProblem
from vitdsl.runtime.data.decoding import Record
from vitdsl.runtime.data.stream import Stream
from vitdsl.runtime.metrics._base import Observer
from vitdsl.runtime.plan.plan import Group, Pass
from vitdsl.runtime.results.manifest import Check
from vitdsl.runtime.run.blocks import Block, BlockStore
from vitdsl.runtime.run.statistics import Statistics
from vitdsl.runtime.run.vouching import Unit, once, saved_form, taken_over
from vitdsl.runtime.run.walk import Computed


class Saved:
    """One pass and the store.

    Attributes:
        blocks: The key of each image block.
        found: How many image blocks were whole in the store at the start.
        trust: Trust checks of what was computed and of what was found, each once.
    """

    def __init__(
        self,
        store: BlockStore,
        one: Pass,
        stream: Stream,
        units: Mapping[Unit, str],
        blocks: Sequence[str],
        *,
        force: bool,
    ) -> None:
        self.store, self.one, self.stream = store, one, stream
        self.units, self.blocks = dict(units), list(blocks)
        self._missing = {b: set(units) if force else self._not_there(b) for b in range(len(blocks))}
        self.found = sum(not missing for missing in self._missing.values())
        self.trust: list[Check] = []

    def _not_there(self, block: int) -> set[Unit]:
        there = self.store.units(self.blocks[block])
        return {unit for unit, key in self.units.items() if key not in there}

    def missing(self, blocks: Iterable[int]) -> tuple[list[int], list[Group[Observer]]]:
        """Of some blocks, those that lack something; and the groups with the views that any of them lacks."""
        lacking = [block for block in blocks if self._missing[block]]
        wanted = {unit for block in lacking for unit in self._missing[block]}
        groups = []
        for group in self.one.groups:
            views = tuple(view for view in group.views if (group.path, view.id) in wanted)
            if views:
                groups.append(replace(group, views=views))
        return lacking, groups

    def write(self, done: Computed, checks: Sequence[Check]) -> None:
        """Save what an image block gave, with the trust checks that were made before it."""
        self.stream.check_unchanged(done.block)
        sums = {self.units[unit]: arrays for unit, arrays in done.sums.items()}
        records = self.stream.records_of(done.block)
        computed = {unit: self.units[unit] for unit in done.sums}
        trust = saved_form(checks, self.one.groups, computed)
        self.store.write(
            self.blocks[done.block], Block(sums, tuple(record.sha256 for record in records), trust)
        )
        self._missing[done.block] = set()

    def collect(self) -> dict[str, Statistics[Observer]]:
        """The sums of every group, over all image blocks; the stream then knows its images.

        Raises:
            EnvironmentProblem: Something is missing that should be there by now (VD504).
        """
        found = {group.path: Statistics(group, len(self.blocks)) for group in self.one.groups}
        for block, key in enumerate(self.blocks):
            content = self.store.read(key, list(self.units.values()))
            if set(self.units.values()) - set(content.sums):
                raise EnvironmentProblem(_gone(self.store))
            rows = self.stream.rows_of_block(block)
            for statistics in found.values():
                statistics.saw(block, rows)
            for (path, view), unit in self.units.items():
                found[path].put(view, block, content.sums[unit])
            self._remember(rows, content)
        return found

    def _remember(self, rows: Sequence[int], content: Block) -> None:
        stream = self.stream
        records = {
            row: Record(stream.id(row), stream.label(row), sha256)
            for row, sha256 in zip(rows, content.sha256, strict=True)
        }
        stream.remember(records)
        self.trust = once([*self.trust, *taken_over(content.trust, self.one.groups, self.units)])


def _gone(store: BlockStore) -> Diagnostic:
    return Diagnostic(
        "VD504",
        f"image blocks of this run are not in the store: `{store.root.parent}`",
        help=(
            "run the same command again: what is there is found, and the rest computed",
            "give every process and shard the same `--out`, on a disk that all of them see",
        ),
    )
