"""A metric that learns from one stream and measures on another: passes in order, each condition fitted by itself."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ridge_probe import RidgeProbe
from vitdsl.dsl.diagnostics import StudyError
from vitdsl.dsl.load import load_text
from vitdsl.runtime.data.stream import Stream, open_stream
from vitdsl.runtime.metrics._base import METRICS
from vitdsl.runtime.models import loading
from vitdsl.runtime.plan.bind import bind
from vitdsl.runtime.ranks import Ranks
from vitdsl.runtime.results.folder import open_run
from vitdsl.runtime.run.engine import Engine
from vitdsl.runtime.run.keys import Keys
from vitdsl.runtime.run.run import run

STUDY = """
vitdsl: 1
study: probes
data:
  probe: {source: digits, split: test, images: 60, batch: 8, image_blocks: 4}
  train: {source: digits, split: train, images: 200, batch: 50}
models:
  vit: {arch: vit_tiny_patch16_224, weights: random,
        options: {img_size: 32, patch_size: 8, embed_dim: 24, num_heads: 3, depth: 3, num_classes: 10}}
layers: {blocks: {of: vit, at: "blocks.*"}}
ablations:
  no_branch: {kind: remove_branch, of: vit, at: "blocks.1.mlp"}
  mean: {kind: mean_ablate, of: vit, at: "blocks.1.attn"}
metrics:
  probes: {kind: ridge_probe, x: blocks, data: probe, train: train, ridge: 0.1}
"""


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METRICS.kinds(), "ridge_probe", RidgeProbe)


def seen_by_hand(name: str, condition: str) -> tuple[list[Any], Any]:
    """Features `[image, width + 1]` of each block of the plain model, and labels; a condition by hooks."""
    plan = bind(load_text(STUDY))
    planned = plan.models["vit"]
    stream = open_stream(plan.data[name], seed=0, folder=Path(), transforms={"vit": planned.config})
    module = loading.load(planned.entry, seed=0, folder=Path()).module
    batches = list(stream)
    if condition == "no_branch":
        module.blocks[1].mlp.register_forward_hook(lambda _, __, out: torch.zeros_like(out))
    if condition == "mean":
        kept: list[Any] = []
        hook = module.blocks[1].attn.register_forward_hook(lambda _, __, out: kept.append(out.double()))
        with torch.no_grad():
            for batch in batches:
                module(batch.images["vit"])
        hook.remove()
        mean = torch.cat(kept).mean(0).float()
        module.blocks[1].attn.register_forward_hook(lambda _, __, out: mean.expand_as(out))
    outs: list[list[Any]] = [[] for _ in module.blocks]
    for at, block in enumerate(module.blocks):
        block.register_forward_hook(lambda _, __, out, at=at: outs[at].append(out.double().mean(1)))
    with torch.no_grad():
        for batch in batches:
            module(batch.images["vit"])
    labels = np.concatenate([batch.labels.numpy() for batch in batches if batch.labels is not None])
    found = [torch.cat(out).numpy() for out in outs]
    return [np.concatenate([x, np.ones((len(x), 1))], 1) for x in found], labels


@pytest.mark.parametrize("condition", ["baseline", "no_branch", "mean"])
def test_each_condition_learns_from_the_other_stream_under_that_condition(
    tmp_path: Path, condition: str
) -> None:
    outcome = run(bind(load_text(STUDY)), out=tmp_path)
    assert outcome.folder is not None
    found = open_run(outcome.folder).groups["probes/vit"].sel(condition=condition)["accuracy"].values
    train, labels = seen_by_hand("train", condition)
    test, wanted = seen_by_hand("probe", condition)
    for at, (x, t) in enumerate(zip(train, test, strict=True)):
        weights = np.linalg.solve(x.T @ x + 0.1 * np.eye(x.shape[1]), x.T @ np.eye(10)[labels])
        assert found[at] == pytest.approx(((t @ weights).argmax(1) == wanted).mean(), abs=1e-12)
    assert 0.2 < found.min() and found.max() < 1, "a probe that says nothing would pass"


def test_the_passes_stand_in_the_order_in_which_they_need_one_another() -> None:
    titles = [(one.title, [group.path for group in one.groups]) for one in bind(load_text(STUDY)).passes]
    assert titles == [
        ("probe, fits", ["mean_of_images/vit/branch@probe"]),
        ("train, fits", ["mean_of_images/vit/branch@train"]),
        ("train, fits 2", ["ridge/probes/vit@train"]),
        ("probe", ["probes/vit"]),
    ]


def test_fits_of_metrics_are_saved_shared_and_keyed_by_what_they_were_fitted_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def bits(text: str = STUDY, **more: Any) -> bytes:
        outcome = run(bind(load_text(text)), **more)
        assert outcome.folder is not None
        return (outcome.folder / "results.nc").read_bytes()

    alone = bits(out=tmp_path / "alone")
    for shard in (1, 0):
        run(bind(load_text(STUDY)), out=tmp_path / "shards", ranks=Ranks(shard, 2, shard=True))
    with monkeypatch.context() as patch:
        patch.setattr(Engine, "_walk", lambda *_: pytest.fail("computed again"))
        assert bits(out=tmp_path / "shards") == alone
    fewer = STUDY.replace("images: 200", "images: 100")
    assert bits(fewer, out=tmp_path / "alone") == bits(fewer, out=tmp_path / "fresh") != alone


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        (STUDY.replace("train: train,", "train: trian,"), "VD201", "trian"),
        (STUDY.replace("batch: 50}", "batch: 50, vary: {images: [100, 200]}}"), "VD203", "several streams"),
        (STUDY.replace("images: 200", "images: 20000"), "VD243", "20000"),
    ],
)
def test_a_wrong_stream_to_learn_from_is_told(text: str, code: str, words: str) -> None:
    with pytest.raises(StudyError) as raised:
        bind(load_text(text))
    assert [one.code for one in raised.value.diagnostics] == [code]
    assert words in raised.value.diagnostics[0].message


CHAIN = STUDY.replace("kind: ridge_probe", "kind: linear_probe").replace(
    "ridge: 0.1", "shots: 8, ridge: [1, 32]"
)


def test_a_fit_of_a_fit_comes_first_and_both_merge_from_shards_to_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = bind(load_text(CHAIN))
    assert [(one.title, [group.path for group in one.groups]) for one in plan.passes] == [
        ("probe, fits", ["mean_of_images/vit/branch@probe"]),
        ("train, fits", ["mean_of_images/vit/branch@train"]),
        ("train, fits 2", ["probe_moments/probe_choice/probes/vit@train@train"]),
        ("train, fits 3", ["probe_choice/probes/vit@train"]),
        ("probe", ["probes/vit"]),
    ]

    def bits(out: Path) -> bytes:
        outcome = run(bind(load_text(CHAIN)), out=out)
        assert outcome.folder is not None
        return (outcome.folder / "results.nc").read_bytes()

    alone = bits(tmp_path / "alone")
    for shard in (1, 0):
        run(bind(load_text(CHAIN)), out=tmp_path / "shards", ranks=Ranks(shard, 2, shard=True))
    with monkeypatch.context() as patch:
        patch.setattr(Engine, "_walk", lambda *_: pytest.fail("computed again"))
        assert bits(tmp_path / "shards") == alone


def test_what_is_known_stays_float64_where_it_is_observed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds = set()
    observe = RidgeProbe.observe

    def noting(self: RidgeProbe, seen: Any) -> dict[str, torch.Tensor]:
        kinds.update(tensor.dtype for known in seen.fitted for tensor in known)
        return observe(self, seen)

    monkeypatch.setattr(RidgeProbe, "observe", noting)
    run(bind(load_text(STUDY)), out=tmp_path)
    assert kinds == {torch.float64}


def test_the_same_images_at_another_place_of_a_stream_are_another_block() -> None:
    plan = bind(load_text(STUDY))
    keys = Keys(plan, {}, torch.device("cpu"), "float32", False)
    entry = plan.data["probe"].model_copy(update={"batch": 4, "image_blocks": 4})
    source = open_stream(entry, seed=0, folder=Path(), transforms={}).source

    def blocks(*order: int) -> list[str]:
        stream = Stream(entry, source, list(order), 0, {}, 0)
        return [keys.block(stream, block) for block in range(stream.image_blocks)]

    label = [source.label(index) for index in range(len(source))]
    first, *others = range(8)
    other = next(index for index in range(8, len(label)) if label[index] not in label[:8])
    alike = next(index for index in range(8, len(label)) if label[index] == label[7])
    assert blocks(first, *others)[1] == blocks(first, *others, *range(20, 24))[1]
    assert blocks(*others[3:], first, *others[:3])[0] != blocks(first, *others)[1]
    assert blocks(other, *others)[1] != blocks(alike, *others)[1]
