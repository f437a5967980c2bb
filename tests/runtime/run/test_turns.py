"""Conditions that run in several graphs, one after the other: the same bits, whatever runs together."""

from collections import Counter
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from studies import RESNET18, TINY_VIT, bound, changed, loaded, study
from vitdsl.dsl.diagnostics import EnvironmentProblem
from vitdsl.runtime.data.stream import Batch, Stream, open_stream
from vitdsl.runtime.plan.plan import Plan
from vitdsl.runtime.progress import Silent
from vitdsl.runtime.results.manifest import Check
from vitdsl.runtime.run.compile import Compiled, compile_model
from vitdsl.runtime.run.execute import Runner
from vitdsl.runtime.run.statistics import Statistics
from vitdsl.runtime.run.trust import FirstBatch
from vitdsl.runtime.run.turns import LEAST, Dealer
from vitdsl.runtime.run.walk import run_pass

STUDY = study(
    "turns",
    data="{probe: {source: digits, split: test, images: 22, batch: 8, image_blocks: 2}}",
    models={"vit": TINY_VIT, "resnet": changed(RESNET18, {"zero_init_last": False})},
    layers={"blocks": '{of: vit, at: "blocks.*"}', "stages": '{of: resnet, at: "layer*.1"}'},
    ablations={
        "no_skip": '{kind: remove_skip, of: vit, at: "blocks.*.attn", each: true}',
        "uniform": '{kind: uniform_attention, of: vit, at: "blocks.1.attn"}',
        "noisy": '{kind: scale_branch, of: vit, at: "blocks.1.mlp", by: 0.5}',
        "no_res": '{kind: remove_skip, of: resnet, at: "layer*.1", each: true}',
    },
    metrics={
        "accuracy": "{kind: accuracy, of: [vit, resnet]}",
        "flips": "{kind: prediction_flips, of: vit}",
        "ratio": "{kind: skip_ratio, of: vit}",
        "distance": "{kind: attention_distance, of: vit}",
        "within": "{kind: cka, x: blocks}",
        "drift": "{kind: cka, x: blocks, against: baseline}",
        "across": "{kind: cka, x: blocks, y: stages}",
        "rows": "{kind: mutual_knn, x: stages, k: 3, against: baseline}",
    },
)


@cache
def prepared() -> tuple[Plan, dict[str, Any], Stream]:
    plan = bound(STUDY)
    modules = {name: loaded(plan, name).module for name in plan.models}
    configs = {name: planned.config for name, planned in plan.models.items()}
    stream = open_stream(plan.data["probe"], seed=0, folder=plan.loaded.folder, transforms=configs, workers=0)
    return plan, modules, stream


def compiled() -> dict[str, Compiled]:
    plan, modules, _ = prepared()
    return {name: compile_model(plan.models[name], module, plan.groups) for name, module in modules.items()}


def runner(room: float | None = None, most: int | None = None) -> Runner:
    """What runs the study with room for so many reads, or so many conditions at a time."""
    plan, _, _ = prepared()
    models = compiled()
    sizes = {(name, at): 1.0 for name, one in models.items() for at in one.slots.values()}
    dealing = Dealer(models, plan.groups, sizes, room=float("inf") if room is None else room)
    if most is not None:
        real = dealing.deal
        dealing.deal = lambda fewer=None: real(min(most, fewer or most))  # type: ignore[method-assign]
    return Runner(plan, models, plan.groups, torch.device("cpu"), "float32", dealer=dealing)


def sums(one: Runner) -> tuple[dict[tuple[str, str, str], np.ndarray], list[Check]]:
    """All that a walk keeps, and its trust checks."""
    _, _, stream = prepared()
    first = FirstBatch(one)
    done = run_pass(one, stream, first=first, progress=Silent())
    found = {}
    for path, statistics in done.statistics.items():
        assert sorted(row for block in statistics.positions for row in block) == list(range(22))
        for kind, arrays in (
            ("sum", statistics.arrays()),
            ("rows", statistics.all_rows()),
            ("example", statistics.examples()),
        ):
            found |= {(path, kind, name): array for name, array in arrays.items()}
    return found, first.checks


@cache
def together() -> tuple[dict[tuple[str, str, str], np.ndarray], list[Check]]:
    one = runner()
    assert len(one.turns) == 1 and one.turns[0].groups == tuple(prepared()[0].groups)
    return sums(one)


def assert_same(one: Runner) -> None:
    found, checks = sums(one)
    whole, wanted = together()
    assert found.keys() == whole.keys() and len(found) > 20
    for key, array in found.items():
        np.testing.assert_array_equal(array, whole[key], err_msg=str(key))
    assert checks == wanted


@pytest.mark.parametrize(("room", "most"), [(None, 1), (None, 2), (None, 5), (40, None), (70, 4), (0, None)])
def test_the_same_bits_and_checks_whatever_runs_together(room: float | None, most: int | None) -> None:
    one = runner(room, most)
    assert len(one.turns) > 1
    if most is not None:
        assert one.together <= most
    assert_same(one)


@settings(max_examples=60, deadline=None)
@given(room=st.floats(0, 300), most=st.none() | st.integers(1, 12))
def test_every_condition_runs_once_and_every_view_is_observed_once_when_its_reads_are_there(
    room: float, most: int | None
) -> None:
    plan, _, _ = prepared()
    dealing = dealer_of(room)
    turns = dealing.deal(most)
    lanes = Counter(lane for turn in turns for lane in turn.lanes)
    assert lanes == Counter(
        {(name, c.id): 1 for name, model in plan.models.items() for c in model.conditions}
    )
    seen = Counter((group.path, view.id) for turn in turns for group in turn.groups for view in group.views)
    assert seen == Counter({(group.path, view.id): 1 for group in plan.groups for view in group.views})
    there: frozenset[Any] = frozenset()
    for turn in turns:
        assert turn.before == there
        there = there.union(*(dealing.gives[lane] for lane in turn.lanes))
        views = {(group.path, view.id) for group in turn.groups for view in group.views}
        mine = [one for one in dealing.wanted if (one.group.path, one.view.id) in views]
        assert all(one.reads <= there for one in mine)
        assert len(turn.lanes) == 1 or len(there) <= room
        there = turn.after
    assert not there


@cache
def models_once() -> dict[str, Compiled]:
    return compiled()


def dealer_of(room: float) -> Dealer:
    models = models_once()
    sizes = {(name, at): 1.0 for name, one in models.items() for at in one.slots.values()}
    return Dealer(models, prepared()[0].groups, sizes, room=room)


def test_what_does_not_depend_on_turns_is_taken_from_the_room() -> None:
    """Of 100 bytes, 60 that are always taken leave 40; where they leave nothing, a tenth of them is taken."""
    plain = dealer_of(40).deal()
    dealing = dealer_of(100)
    dealing.beside = 60.0
    assert dealing.deal() == plain and dealing.taken(plain) <= 100 < dealing.together
    dealing.beside, dealing.room = 400.0, 100.0
    assert dealing.deal() == dealer_of(LEAST * 400).deal()


def test_a_later_turn_computes_the_common_prefix_again_and_no_read_twice() -> None:
    one = runner(most=3)
    for model in one.models.values():
        given = [at for part in model.parts.values() for at in part.at]
        assert len(given) == len(set(given)) and set(given) == set(model.slots.values())
        assert model.work > model.together or len(model.parts) == 1
        assert model.work < model.separate


Fails = Callable[[Runner, Compiled, Any], bool]


def breaking(monkeypatch: pytest.MonkeyPatch, fails: Fails, error: Exception) -> None:
    """Let a graph run out of memory."""
    real = Runner._forward

    def forward(self: Runner, model: Compiled, graph: Any, images: Any) -> Any:
        if fails(self, model, graph):
            raise error
        return real(self, model, graph, images)

    monkeypatch.setattr(Runner, "_forward", forward)


def lanes_in(model: Compiled, graph: Any) -> int:
    (part,) = [part for part in model.parts.values() if part.merged.module is graph]
    return len({lane for lane, _ in part.merged.slots})


FULL = [
    torch.OutOfMemoryError("CUDA out of memory"),
    RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes"),
    RuntimeError("could not create a primitive"),
]


@pytest.mark.parametrize("error", FULL)
@pytest.mark.parametrize("most", [1, 2, 3])
def test_half_as_many_conditions_run_together_once_memory_is_full(
    monkeypatch: pytest.MonkeyPatch, most: int, error: Exception
) -> None:
    together()
    breaking(monkeypatch, lambda _, model, graph: lanes_in(model, graph) > most, error)
    one = runner()
    conditions = one.together
    assert_same(one)
    assert one.halved[0] == (conditions + 1) // 2 and len(one.halved) >= 2
    assert max(lanes_in(m, p.merged.module) for m in one.models.values() for p in m.parts.values()) <= most


def test_a_batch_in_the_middle_is_tried_again_and_no_view_counts_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Memory is full in the second batch, once in a graph, and once when some views are observed already."""
    together()
    plan, _, _ = prepared()
    calls = Counter[str]()
    real_add, real_observe = Statistics.add, Runner.observe

    def observe(self: Runner, turn: Any, batch: Batch, *more: Any) -> None:
        calls["batch"] = batch.index
        real_observe(self, turn, batch, *more)

    def add(self: Statistics, view: str, block: int, observed: Any) -> None:
        calls["add"] += 1
        if calls["batch"] == 1 and self.group is plan.groups[4] and not calls["raised"]:
            calls["raised"] += 1
            raise torch.OutOfMemoryError("CUDA out of memory")
        real_add(self, view, block, observed)

    monkeypatch.setattr(Runner, "observe", observe)
    monkeypatch.setattr(Statistics, "add", add)
    one = runner()
    assert_same(one)
    assert calls["raised"] == 1 and len(one.halved) == 1


def test_adding_is_all_or_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where memory is full for the second of two sums, the first is not added either."""
    plan, _, _ = prepared()
    group = next(group for group in plan.groups if group.path == "within/vit")
    statistics: Statistics[Any] = Statistics(group, 1)
    parts = {name: torch.ones(32, 2, dtype=torch.float64) for name in group.kind.degrees}
    assert len(parts) > 1
    statistics.add("baseline", 0, parts)
    last = list(parts)[-1]

    class Full(torch.Tensor):
        def double(self) -> Any:
            raise torch.OutOfMemoryError("full")

    with pytest.raises(torch.OutOfMemoryError):
        statistics.add("baseline", 0, parts | {last: parts[last].as_subclass(Full)})
    for name in parts:
        assert torch.equal(statistics.sums["baseline"][name], parts[name])


def test_one_condition_that_does_not_fit_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    breaking(monkeypatch, lambda *_: True, FULL[0])
    with pytest.raises(EnvironmentProblem) as raised:
        sums(runner())
    (problem,) = raised.value.diagnostics
    assert problem.code == "VD409" and "--set data.probe.batch=4" in problem.help[0]


def test_memory_is_no_layout_that_a_program_cannot_take(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model whose maps lie channels last keeps them so when memory is full."""
    together()
    breaking(monkeypatch, lambda _, model, graph: lanes_in(model, graph) > 4, FULL[0])
    one = runner()
    assert one.models["resnet"].channels_last
    sums(one)
    assert one.models["resnet"].channels_last
