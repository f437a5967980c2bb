"""Rows: what is kept of each image is in the order of images, bounded, priced, saved, left out by image block."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from median_norm import MedianNorm
from vitdsl.cli import run as command
from vitdsl.dsl.diagnostics import StudyError
from vitdsl.dsl.load import load_text
from vitdsl.runtime.data.stream import open_stream
from vitdsl.runtime.metrics._base import METRICS
from vitdsl.runtime.models import loading
from vitdsl.runtime.plan import bind_memory
from vitdsl.runtime.plan.bind import bind
from vitdsl.runtime.ranks import Ranks
from vitdsl.runtime.results.folder import open_run
from vitdsl.runtime.run.cost import cost
from vitdsl.runtime.run.engine import Engine
from vitdsl.runtime.run.run import run

STUDY = """
vitdsl: 1
study: rows
data: {probe: {source: digits, split: test, images: 60, batch: 8, image_blocks: 4}}
models:
  vit: {arch: vit_tiny_patch16_224, weights: random,
        options: {img_size: 32, patch_size: 8, embed_dim: 24, num_heads: 3, depth: 2, num_classes: 10}}
layers: {blocks: {of: vit, at: "blocks.*"}}
ablations: {no_skip: {kind: remove_skip, of: vit, at: "blocks.1.mlp"}}
metrics: {norms: {kind: median_norm, x: blocks}}
"""


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METRICS.kinds(), "median_norm", MedianNorm)


def norms_by_hand() -> tuple[Any, list[int]]:
    """Norms `[image, site]` of the intact model, through hooks on the plain model; and each image's block."""
    plan = bind(load_text(STUDY))
    planned, entry = plan.models["vit"], plan.data["probe"]
    stream = open_stream(entry, seed=0, folder=Path(), transforms={"vit": planned.config})
    module = loading.load(planned.entry, seed=0, folder=Path()).module
    kept: dict[int, list[np.ndarray[Any, Any]]] = {0: [], 1: []}
    for at in kept:
        module.blocks[at].register_forward_hook(
            lambda _, __, out, at=at: kept[at].append(out.flatten(1).double().norm(dim=1).numpy())
        )
    blocks: list[int] = []
    with torch.no_grad():
        for batch in stream:
            module(batch.images["vit"])
            blocks += [batch.block] * len(batch.rows)
    return np.stack([np.concatenate(kept[at]) for at in kept], 1), blocks


def test_a_median_and_its_interval_are_those_of_all_images_at_once(tmp_path: Path) -> None:
    outcome = run(bind(load_text(STUDY)), out=tmp_path)
    assert outcome.folder is not None
    found = open_run(outcome.folder).groups["norms/vit"].sel(condition="baseline")
    norms, blocks = norms_by_hand()
    assert found["median"].values == pytest.approx(np.median(norms, 0), rel=1e-6)
    assert found["mean"].values == pytest.approx(norms.mean(0), rel=1e-6)
    for block in range(4):
        kept = norms[np.asarray(blocks) != block]
        assert found["median_replicates"].values[block] == pytest.approx(np.median(kept, 0), rel=1e-6)
        assert found["mean_replicates"].values[block] == pytest.approx(kept.mean(0), rel=1e-6)


def test_rows_are_the_same_however_they_were_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def bits(**more: Any) -> bytes:
        outcome = run(bind(load_text(STUDY)), **more)
        assert outcome.folder is not None
        return (outcome.folder / "results.nc").read_bytes()

    alone = bits(out=tmp_path / "alone")
    for shard in (2, 0, 1):
        run(bind(load_text(STUDY)), out=tmp_path / "shards", ranks=Ranks(shard, 3, shard=True))
    with monkeypatch.context() as patch:
        patch.setattr(Engine, "_walk", lambda *_: pytest.fail("computed again"))
        assert bits(out=tmp_path / "shards") == alone


def test_rows_are_priced_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = bind(load_text(STUDY))
    monkeypatch.setattr(MedianNorm, "row_size", lambda self, sites: 0)
    without = cost(bind(load_text(STUDY))).models[0].memory
    monkeypatch.undo()
    monkeypatch.setitem(METRICS.kinds(), "median_norm", MedianNorm)
    assert cost(plan).models[0].memory - without == 8 * 60 * 2 * 2
    monkeypatch.setattr(bind_memory, "MOST_ROWS", 8 * 60 * 2 * 2 - 1)
    with pytest.raises(StudyError) as raised:
        bind(load_text(STUDY))
    (problem,) = raised.value.diagnostics
    assert problem.code == "VD303" and "60 images" in problem.message and problem.span is not None


def test_a_kind_that_does_not_say_how_much_it_keeps_is_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(MedianNorm, "row_size")
    with pytest.raises(NotImplementedError, match="median_norm"):
        bind(load_text(STUDY))


def test_the_command_line_prints_the_price(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "study.yaml").write_text(STUDY)
    assert command(["plan", str(tmp_path / "study.yaml"), "--json"]) == 0
    assert (
        json.loads(capsys.readouterr().out)["models"][0]["memory"]
        == cost(bind(load_text(STUDY))).models[0].memory
    )
