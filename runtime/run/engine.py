"""The engine: all passes of a plan in order, each computed as far as the store lacks it.

Owns what a pass computes on this process, and how fits become constants of later passes. Does not own one walk
(`execute`), the store (`saved`, `blocks`), the run's folder and its manifest (`run`).
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import cast

import torch

from vitdsl.dsl.study import BASELINE
from vitdsl.dsl.text import counted
from vitdsl.runtime.ablations._base import Ablation
from vitdsl.runtime.data.stream import Batch, Stream
from vitdsl.runtime.graph.site import Site
from vitdsl.runtime.metrics._base import Fit, Observer
from vitdsl.runtime.models.loading import LoadedModel
from vitdsl.runtime.plan.lanes import Fitted
from vitdsl.runtime.plan.passes import fit_of, fit_path
from vitdsl.runtime.plan.plan import Group, Pass, Plan
from vitdsl.runtime.progress import Progress
from vitdsl.runtime.ranks import Ranks
from vitdsl.runtime.results import times
from vitdsl.runtime.results.manifest import FLOAT32, Check, Reused, Work, inexact
from vitdsl.runtime.results.split import Split
from vitdsl.runtime.run import manifest
from vitdsl.runtime.run.blocks import BlockStore
from vitdsl.runtime.run.budget import room
from vitdsl.runtime.run.compile import Compiled, compile_model
from vitdsl.runtime.run.execute import Runner, at_home
from vitdsl.runtime.run.fits import constants_of
from vitdsl.runtime.run.full import memory_errors
from vitdsl.runtime.run.keys import Keys
from vitdsl.runtime.run.needs import dealer, needs_of, split_of
from vitdsl.runtime.run.precision import check_precision
from vitdsl.runtime.run.predict import Outlook, reading_seconds
from vitdsl.runtime.run.replay import recorder
from vitdsl.runtime.run.saved import Saved
from vitdsl.runtime.run.statistics import Statistics
from vitdsl.runtime.run.trust import FirstBatch
from vitdsl.runtime.run.united import united
from vitdsl.runtime.run.vouching import once
from vitdsl.runtime.run.walk import walk


@dataclass
class Facts:
    """What the manifest will say of the passes: work, how it was dealt, trust checks, what was found, seconds."""

    work: list[Work] = field(default_factory=list)
    split: list[Split] = field(default_factory=list)
    trust: list[Check] = field(default_factory=list)
    reused: dict[str, Reused] = field(default_factory=dict)
    timings: dict[str, float] = field(default_factory=dict)

    def took(self, what: str, begun: float) -> None:
        """Note the seconds since a stage began."""
        self.timings[what] = round(time.perf_counter() - begun, 3)


class Engine:
    """The passes of one plan on one process.

    Args:
        plan: The plan.
        loaded: The models with their weights.
        streams: The image streams by name.
        store: Where image blocks are saved.
        device: Where it computes.
        dtype: In what.
        fast: Whether batch norms are folded.
        ranks: Which of several processes this is.
        force: Compute what is in the store as well.
        progress: Told of every stage.
        memory: Bytes that a pass may take; None takes a share of what is free.
        outlook: Told of every pass of which something is computed.
    """

    def __init__(
        self,
        plan: Plan,
        loaded: Mapping[str, LoadedModel],
        streams: Mapping[str, Stream],
        store: BlockStore,
        *,
        device: torch.device,
        dtype: str,
        fast: bool,
        ranks: Ranks,
        force: bool,
        progress: Progress,
        memory: float | None = None,
        outlook: Outlook | None = None,
    ) -> None:
        self.memory, self.outlook = memory, outlook
        self.plan, self.loaded, self.streams, self.store = plan, loaded, streams, store
        self.device, self.dtype, self.ranks, self.force, self.progress = device, dtype, ranks, force, progress
        self.fast = fast
        self.keys = Keys(plan, loaded, device, dtype, fast)
        self.facts = Facts()
        self.constants: dict[tuple[str, str, str], tuple[torch.Tensor, ...]] = {}
        begun = time.perf_counter()
        self.blocks = {
            name: [self.keys.block(stream, block) for block in range(stream.image_blocks)]
            for name, stream in streams.items()
        }
        self.facts.took(times.KEYS, begun)

    def passes(self) -> Iterator[tuple[Pass, dict[str, Statistics[Observer]]]]:
        """Each pass that gives results, with the sums of its groups, over all image blocks.

        Fits are made on the way. A process that does not lead computes its share and gives nothing.

        Raises:
            EnvironmentProblem: An image is unreadable, memory or disk are full, a trust check fails.
        """
        for one in self.plan.passes:
            saved = self._computed(one)
            if one.fits:
                self._finish_fits(one, saved.collect())
            elif self.ranks.leads:
                yield one, saved.collect()
            self.facts.trust = united([*self.facts.trust, *saved.trust], inexact(self.dtype, self.fast))

    def _computed(self, one: Pass) -> Saved:
        """A pass of which all that this process computes is in the store."""
        begun = time.perf_counter()
        stream, blocks = self.streams[one.data], self.blocks[one.data]
        units = {
            (group.path, view.id): self.keys.unit(
                group, view.id, stream, partial(self._fitted, one.data), self._known(group, view.id)
            )
            for group in one.groups
            for view in group.views
        }
        saved = Saved(self.store, one, stream, units, blocks, force=self.force)
        self._say_what_is_there(one, saved)
        everything = range(len(blocks))
        mine = list(everything) if self.ranks.shard and one.fits else self.ranks.mine(everything)
        lacking, groups = saved.missing(mine)
        if lacking:
            self._walk(one, saved, lacking, groups)
        self.facts.took(f"{times.PASS}{one.title}", begun)
        self.ranks.wait()
        return saved

    def _say_what_is_there(self, one: Pass, saved: Saved) -> None:
        if not saved.found:
            return
        count = len(saved.blocks)
        if saved.found == count:
            self.progress.say(f"{one.title}: answered from what is there")
        else:
            self.progress.say(
                f"{one.title}: {saved.found} of {count} image blocks are there; the rest is computed"
            )
        self.facts.reused[one.title] = Reused(found=saved.found, of=count)

    def _walk(
        self, one: Pass, saved: Saved, blocks: Sequence[int], groups: Sequence[Group[Observer]]
    ) -> None:
        """Compute what some image blocks lack, and save each as soon as it is done."""
        stream = self.streams[one.data]
        may_take = room(self.device, self.memory)
        compiled = self._compiled(one, groups, self.dtype, self.fast)
        needs = {name: needs_of(self.plan, one, each, groups) for name, each in compiled.items()}
        dealing = dealer(compiled, groups, needs, may_take)
        record = recorder(self.device) if self.fast else None
        runner = Runner(self.plan, compiled, groups, self.device, self.dtype, self._known, dealing, record)
        images = sum(len(stream.rows_of_block(block)) for block in blocks)
        if self.outlook is not None:
            self.outlook.passing(groups, compiled, stream.data.batch, images, reading_seconds(stream))
            held = max(dealing.held(turn) for turn in runner.turns)
            self.outlook.holds(held + sum(each.beside for each in needs.values()))
        if dealt := split_of(one, compiled, dealing, runner.turns):
            self.progress.say(dealt.words)
        first, checks = FirstBatch(runner), list[Check]()

        def then(batch: Batch, sums: Mapping[str, Statistics[Observer]]) -> None:
            checks.extend(first.checks)
            if how := inexact(self.dtype, self.fast):
                graphs = self._compiled(one, groups, FLOAT32, fast=False)
                again = dealer(graphs, groups, needs, may_take)
                exact = Runner(self.plan, graphs, groups, self.device, FLOAT32, self._known, again)
                checks.extend(check_precision(runner, exact, how, batch, sums, self.progress))
            self.facts.trust = once([*self.facts.trust, *checks])

        self.progress.begin(f"images of {one.title}", images)
        try:
            for done in walk(runner, stream, blocks, first=first, then=then, progress=self.progress):
                saved.write(done, checks)
                checks.clear()
                del done  # or it stays while the next image block is walked
        finally:
            self.facts.work += [manifest.work(one.title, each) for each in compiled.values()]
            dealt = split_of(one, compiled, dealing, runner.turns, runner.halved)
            self.facts.split += [dealt] if dealt else []
        self.progress.end()

    def _compiled(
        self, one: Pass, groups: Sequence[Group[Observer]], dtype: str, fast: bool
    ) -> dict[str, Compiled]:
        """The models of some groups, each with all its conditions in one graph."""
        compiled: dict[str, Compiled] = {}
        begun = time.perf_counter()
        models = list(dict.fromkeys(model for group in groups for model in group.models))
        over = dtype == FLOAT32 and not any(group.kind.gradients for group in groups)
        self.progress.begin(f"compile for {one.title}", len(models), "models")
        for model in models:
            with memory_errors(self.plan, groups, self.device):
                module = self.loaded[model].module.to(self.device)
                fitted = self._fitted(one.data, model)
                planned = self.plan.models[model]
                compiled[model] = compile_model(planned, module, groups, fitted, over=over, folds=fast)
            self.progress.step(1, f"{model}, {counted(len(compiled[model].ablated) + 1, 'condition')}")
        self.progress.end()
        self.facts.took(f"{times.COMPILE}{one.title}", begun)
        return compiled

    def _finish_fits(self, one: Pass, statistics: Mapping[str, Statistics[Observer]]) -> None:
        """Fold the statistics of fits into constants of the passes that come."""
        for group in one.groups:
            found = constants_of(cast("Statistics[Fit]", statistics[group.path]), at_home(self.device))
            for view, constants in found.items():
                known = self._known(group, view) or [()] * len(constants)
                for site, before, own in zip(group.x.sites, known, constants, strict=True):
                    self.constants[group.path, view, site.name] = (*before, *own)

    def _known(self, group: Group[Observer], view: str) -> list[tuple[torch.Tensor, ...]]:
        """The constants that a group's own fit gave for each site, under one of its views; none without a fit."""
        fit = fit_of(group)
        return [self.constants[fit.path, view, site.name] for site in group.x.sites] if fit else []

    def _fitted(self, data: str, model: str) -> Fitted:
        """The constants of a model's ablations in float32, for conditions that are measured on a stream."""

        def fitted(kind: Ablation, site: Site) -> tuple[torch.Tensor, ...]:
            if kind.fit() is None:
                return ()
            found = self.constants[fit_path(model, kind, site.role, data), BASELINE, site.name]
            return tuple(tensor.float().to(self.device) for tensor in found)

        return fitted
