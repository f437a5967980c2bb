"""Linear probes through whole runs, against hooks on plain models; what a study is told before it runs."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from probe_reference import Labels, reference
from vitdsl.cli import run
from vitdsl.dsl.diagnostics import StudyError
from vitdsl.dsl.load import load_text
from vitdsl.runtime.data.stream import open_stream
from vitdsl.runtime.metrics._base import Array
from vitdsl.runtime.models import loading
from vitdsl.runtime.plan.bind import bind
from vitdsl.runtime.results.folder import open_run

STUDY = """
vitdsl: 1
study: probes
data:
  probe: {source: digits, split: test, images: 48, batch: 16}
  train: {source: digits, split: train, images: 160, batch: 40, image_blocks: 2}
models:
  vit: {arch: vit_tiny_patch16_224, weights: random,
        options: {img_size: 32, patch_size: 8, embed_dim: 24, num_heads: 3, depth: 2, num_classes: 7}}
  net: {arch: resnet10t, weights: random, input_size: 32}
layers:
  tokens: {of: vit, at: "blocks.*", tokens: spatial}
  stages: {of: net, at: "layer[1-2].0"}
ablations:
  no_mlp: {kind: remove_branch, of: vit, at: "blocks.0.mlp"}
metrics:
  each: {kind: linear_probe, x: tokens, data: probe, train: train, each: token, ridge: [1, 64], shots: 6, held_out: 2}
  stages: {kind: linear_probe, x: stages, data: probe, train: train, grid: [2, 2], space_to_depth: 300}
"""


def by_hand(data: str, model: str, condition: str = "baseline") -> tuple[list[Array], Labels]:
    """Outputs of the plain model's blocks, `[image, ...]`, and labels, by hooks."""
    plan = bind(load_text(STUDY))
    planned = plan.models[model]
    stream = open_stream(plan.data[data], seed=0, folder=Path(), transforms={model: planned.config})
    module: Any = loading.load(planned.entry, seed=0, folder=Path()).module
    blocks: list[nn.Module] = list(module.blocks) if model == "vit" else [module.layer1[0], module.layer2[0]]
    outs: list[list[Tensor]] = [[] for _ in blocks]
    for at, block in enumerate(blocks):
        block.register_forward_hook(lambda _, __, out, at=at: outs[at].append(out.double()))
    if condition == "no_mlp":
        module.blocks[0].mlp.register_forward_hook(lambda _, __, out: torch.zeros_like(out))
    labels = []
    with torch.no_grad():
        for batch in stream:
            module(batch.images[model])
            assert batch.labels is not None
            labels.append(batch.labels.numpy())
    return [torch.cat(out).numpy() for out in outs], np.concatenate(labels)


@pytest.mark.filterwarnings("error::UserWarning")
def test_a_vit_and_a_resnet_through_the_command_line(tmp_path: Path) -> None:
    """Neither has the ten classes of the digits: probes do not look at what a model predicts."""
    (tmp_path / "study.yaml").write_text(STUDY)
    assert run(["run", str(tmp_path / "study.yaml"), "--out", str(tmp_path / "runs")]) == 0
    groups = open_run(next((tmp_path / "runs" / "probes").glob("*Z-*"))).groups
    few = {"shots": 6, "held_out": 2, "classes": 10}
    for condition in ("baseline", "no_mlp"):
        found = groups["each/vit"].sel(condition=condition)
        (train, labels), (test, wanted) = (by_hand(data, "vit", condition) for data in ("train", "probe"))
        for i, token in np.ndindex(2, 16):
            x, t = train[i][:, 1 + token], test[i][:, 1 + token]
            for name, value in reference(x, labels, t, wanted, [1.0, 64.0], **few).items():  # type: ignore[arg-type]
                assert float(found[name].sel(token=1 + token)[i]) == pytest.approx(value, abs=1e-4), name
    assert groups["each/vit"]["mean_accuracy"].values.min() > 0.12
    found = groups["stages/net"].sel(condition="baseline")
    (train, labels), (test, wanted) = (by_hand(data, "net") for data in ("train", "probe"))
    for i in range(2):
        x, t = (stage(one[i]) for one in (train, test))
        ridges = [4.0**power for power in range(9)]
        for name, value in reference(x, labels, t, wanted, ridges, classes=10).items():
            assert float(found[name][i]) == pytest.approx(value, abs=1e-4), name
    assert found["accuracy"].values.min() > 0.3


def stage(maps: Array) -> Array:
    """Patches of 2 x 2 joined where they fit in 300 channels and the grid is fine enough, then 2 x 2 positions."""
    x = torch.from_numpy(maps)
    side = 2 if x.shape[1] * 4 <= 300 and x.shape[2] >= 4 else 1
    return F.adaptive_avg_pool2d(F.pixel_unshuffle(x, side), 2).permute(0, 2, 3, 1).flatten(1).numpy()


@pytest.mark.parametrize(
    ("old", "new", "code", "words"),
    [
        ("split: train, images: 160", "split: train", None, ""),
        (
            "train: {source: digits, split: train, images: 160,",
            "train: {source: noise, total: 64, classes: 10,",
            "VD246",
            "class 0 is `class 0` in `train`, and `0` in `probe`",
        ),
        (
            "train: {source: digits, split: train, images: 160,",
            "train: {source: noise, total: 64,",
            "VD241",
            "`train`",
        ),
        (", train: train, each: token", ", each: token", "VD221", "train"),
        ("ridge: [1, 64]", "ridge: [1, 0]", "VD221", "more than 0"),
        ('at: "layer[1-2].0"', 'at: "layer[1-2].0", tokens: cls', "VD242", "class token"),
        ("grid: [2, 2]", "grid: [3, 2]", "VD242", "3 x 2 equal parts"),
    ],
)
def test_a_study_is_told_before_it_runs(old: str, new: str, code: str | None, words: str) -> None:
    text = STUDY.replace(old, new)
    assert text != STUDY
    if code is None:
        bind(load_text(text))
        return
    with pytest.raises(StudyError) as raised:
        bind(load_text(text))
    assert {one.code for one in raised.value.diagnostics} == {code}
    assert words in raised.value.diagnostics[0].message


def test_sums_that_memory_does_not_hold_are_refused() -> None:
    text = STUDY.replace("embed_dim: 24, num_heads: 3, depth: 2", "embed_dim: 768, depth: 12")
    text = text.replace("patch_size: 8", "patch_size: 2")
    with pytest.raises(StudyError) as raised:
        bind(load_text(text))
    (problem,) = raised.value.diagnostics
    assert problem.code == "VD303" and "27 GiB" in problem.message
