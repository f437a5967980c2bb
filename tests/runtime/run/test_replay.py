"""Graphs that are recorded once and replayed: the numbers of the graph, or the graph itself and why.

CUDA records; here a recorder of the same habits does, which writes over what it gave and reads one place for images.
"""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from studies import TINY_VIT, bound, loaded, study
from vitdsl.runtime.data.stream import open_stream
from vitdsl.runtime.plan.plan import Plan
from vitdsl.runtime.progress import Silent
from vitdsl.runtime.run.compile import compile_model
from vitdsl.runtime.run.execute import Runner
from vitdsl.runtime.run.replay import Found, Play, Record, Replayed, recorder
from vitdsl.runtime.run.walk import run_pass

STUDY = study(
    "replayed",
    data="{probe: {source: digits, split: test, images: 44, batch: 8}}",
    models={"vit": TINY_VIT},
    layers={"blocks": '{of: vit, at: "blocks.*"}'},
    ablations={
        "no_skip": '{kind: remove_skip, of: vit, at: "blocks.*.attn", each: true}',
        "dropped": "{kind: drop_tokens, of: vit, share: 0.5, which: random}",
    },
    metrics={
        "accuracy": "{kind: accuracy, of: vit}",
        "ratio": "{kind: skip_ratio, of: vit}",
        "norms": "{kind: token_norms, x: blocks, under: baseline}",
        "drift": "{kind: cka, x: blocks, against: baseline}",
    },
)


class Graph(nn.Module):
    """Gives two things of a batch, and counts its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, images: Tensor) -> Found:
        self.calls += 1
        return (images.sum((1, 2, 3)), images.amax((1, 2, 3)).long()), (images.flatten(1) * 2,)


def recorded(log: list[tuple[int, ...]]) -> Record:
    """Records as CUDA does: one place that is read, and one that is written, again and again."""

    def record(graph: Callable[[Tensor], Found], images: Tensor) -> Play:
        given = graph(images)
        log.append(tuple(images.shape))

        def play() -> Found:
            for ours, theirs in zip(given, graph(images), strict=True):
                for a, b in zip(ours, theirs, strict=True):
                    a.copy_(b)
            return given

        return play

    return record


def batches(count: int, size: int = 8) -> list[Tensor]:
    made = torch.Generator().manual_seed(count)
    return [torch.randn(size, 3, 4, 4, generator=made) for _ in range(count)]


def flat(found: Found) -> list[Tensor]:
    return [tensor for one in found for tensor in one]


def test_every_batch_gives_what_the_graph_gives_and_keeps_it() -> None:
    log: list[tuple[int, ...]] = []
    one, plain = Replayed(Graph(), recorded(log)), Graph()
    images = [*batches(5), *batches(1, size=3), *batches(2)]
    found = [one(image) for image in images]
    for image, given in zip(images, found, strict=True):
        for ours, theirs in zip(flat(given), flat(plain(image)), strict=True):
            assert torch.equal(ours, theirs)
    assert log == [(8, 3, 4, 4)] and not one.refused


def test_batches_that_differ_by_an_image_have_a_record_each() -> None:
    log: list[tuple[int, ...]] = []
    one, plain = Replayed(Graph(), recorded(log)), Graph()
    for image in [*batches(1), *batches(2, size=9), *batches(3), *batches(2, size=9)]:
        for ours, theirs in zip(flat(one(image)), flat(plain(image)), strict=True):
            assert torch.equal(ours, theirs)
    assert log == [(9, 3, 4, 4), (8, 3, 4, 4)]


def test_a_single_batch_is_not_recorded() -> None:
    log: list[tuple[int, ...]] = []
    one = Replayed(Graph(), recorded(log))
    one(batches(1)[0]), one(batches(1, size=3)[0])
    assert not log


def fails(graph: Callable[[Tensor], Found], images: Tensor) -> Play:
    raise RuntimeError("operation not permitted when stream is capturing\nmore of it")


def other_images(graph: Callable[[Tensor], Found], images: Tensor) -> Play:
    """A record that does not read the images."""
    found = graph(images + 1)
    return lambda: found


def undefined(graph: Callable[[Tensor], Found], images: Tensor) -> Play:
    (one, *rest), *others = graph(images)
    return lambda: ((one * torch.nan, *rest), *others)


@pytest.mark.parametrize(
    ("record", "why"),
    [
        (fails, "operation not permitted when stream is capturing"),
        (other_images, "its numbers are not those of the graph"),
        (undefined, "its numbers are not those of the graph"),
    ],
)
def test_what_cannot_be_recorded_runs_as_ever_and_says_why(record: Record, why: str) -> None:
    one, plain = Replayed(Graph(), record), Graph()
    for image in batches(4):
        for ours, theirs in zip(flat(one(image)), flat(plain(image)), strict=True):
            assert torch.equal(ours, theirs)
    assert one.refused == why


def runner(plan: Plan, record: Record | None) -> tuple[Runner, object]:
    compiled = {"vit": compile_model(plan.models["vit"], loaded(plan, "vit").module, plan.groups)}
    configs = {"vit": plan.models["vit"].config}
    stream = open_stream(plan.data["probe"], seed=0, folder=None, transforms=configs, workers=0)
    return Runner(plan, compiled, plan.groups, torch.device("cpu"), "float32", record=record), stream


def totals(plan: Plan, record: Record | None, said: list[str]) -> dict[tuple[str, str], Tensor]:
    class Told(Silent):
        def say(self, text: str) -> None:
            said.append(text)

    one, stream = runner(plan, record)
    done = run_pass(one, stream, first=lambda *_: None, progress=Told())
    return {
        (path, name): torch.as_tensor(array)
        for path, statistics in done.statistics.items()
        for name, array in statistics.totals().items()
    }


def test_a_pass_has_the_same_bits_with_and_without_and_says_what_is_refused() -> None:
    plan, log, said = bound(STUDY), list[tuple[int, ...]](), list[str]()
    ours, plain = totals(plan, recorded(log), said), totals(plan, None, said)
    assert log and not said
    assert ours.keys() == plain.keys() and len(ours) > 6
    for key, wanted in plain.items():
        assert torch.equal(ours[key].nan_to_num(7), wanted.nan_to_num(7)), key
    totals(plan, fails, said)
    assert said == ["model vit is not replayed: operation not permitted when stream is capturing"]


def test_turns_are_recorded_each_and_forgotten_where_they_are_dealt_anew() -> None:
    plan, log = bound(STUDY), list[tuple[int, ...]]()
    one, stream = runner(plan, recorded(log))
    one.halve()
    run_pass(one, stream, first=lambda *_: None, progress=Silent())
    assert len(set(log)) * len(one.turns) == len(log) > 1
    one.halve()
    run_pass(one, stream, first=lambda *_: None, progress=Silent())
    assert len(log) > len(one.turns)


def test_only_cuda_records() -> None:
    assert recorder(torch.device("cpu")) is None and recorder(torch.device("mps")) is None
