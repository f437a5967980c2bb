"""One study over eight families with random weights, from its text to its numbers."""

from pathlib import Path

import numpy as np
import pytest
import timm
import torch

from vitdsl.dsl.diagnostics import StudyError
from vitdsl.dsl.load import load_text
from vitdsl.runtime.graph.trace import trace
from vitdsl.runtime.plan.bind import bind
from vitdsl.runtime.results.folder import open_run
from vitdsl.runtime.run.run import run

STUDY = """\
vitdsl: 1
study: families
data: {probe: {source: noise, total: 24, size: 96, classes: 10, batch: 8}}
models:
  vit: {arch: vit_tiny_patch16_224, options: {img_size: 64, depth: 3, num_classes: 10}, weights: random}
  deit: {arch: deit_tiny_distilled_patch16_224, options: {img_size: 64, depth: 2, num_classes: 10}, weights: random}
  dino: {arch: vit_small_patch14_dinov2, options: {img_size: 70, depth: 2, num_classes: 10}, weights: random}
  resnet: {arch: resnet50, options: {num_classes: 10, zero_init_last: false}, input_size: 64, weights: random}
  efficient: {arch: efficientnet_b0, options: {num_classes: 10}, input_size: 64, weights: random}
  convnext: {arch: convnext_atto, options: {num_classes: 10}, input_size: 64, weights: random}
  swin:
    arch: swin_tiny_patch4_window7_224
    weights: random
    options: {img_size: 64, window_size: 4, depths: [2, 2], num_heads: [2, 4], embed_dim: 32, num_classes: 10}
  mixer: {arch: mixer_s32_224, options: {img_size: 64, num_classes: 10}, weights: random}
layers:
  vit_b: {of: vit, at: "blocks.*"}
  swin_b: {of: swin, at: "layers.*.blocks.*"}
  res_b: {of: resnet, at: "layer*.*"}
  conv_b: {of: convnext, at: "stages.*.blocks.*"}
ablations:
  s1: {kind: remove_skip, of: vit, at: "blocks.*", each: true}
  s2: {kind: remove_branch, of: deit, at: "blocks.*", each: true}
  s3: {kind: remove_skip, of: dino, at: "blocks.*", each: true}
  s4: {kind: remove_skip, of: resnet, at: "layer[1-2].*", each: true}
  s5: {kind: remove_branch, of: efficient, at: "blocks.**", each: true}
  s6: {kind: remove_skip, of: convnext, at: "stages.**", each: true}
  s7: {kind: remove_skip, of: swin, at: "layers.**", each: true}
  s8: {kind: remove_branch, of: mixer, at: "blocks.*", each: true}
metrics:
  accuracy: {kind: accuracy, of: [vit, deit, dino, resnet, efficient, convnext, swin, mixer]}
  ratio: {kind: skip_ratio, of: [vit, deit, dino, resnet, efficient, convnext, swin, mixer], under: baseline}
  distance: {kind: attention_distance, of: [vit, deit, dino], under: baseline}
  across: {kind: cka, x: vit_b, y: res_b, under: baseline}
  swinconv: {kind: cka, x: swin_b, y: conv_b, under: baseline}
  drift: {kind: cka, x: swin_b, against: baseline}
"""


def test_every_family_runs_through(tmp_path: Path) -> None:
    found = open_run(run(bind(load_text(STUDY, "families")), out=tmp_path).folder)
    idle = [check.model for check in found.manifest.trust if not check.ok]
    assert idle == ["mixer"], "the head of an untrained Mixer is zero, so nothing reaches its output"
    for name in found.manifest.models:
        group = found.groups[f"ratio/{name}"]
        assert np.isfinite(group["ratio"].sel(token="spatial")).all(), name
        assert group.sizes["site"] == found.manifest.models[name].units
    for path in ("across/vit~resnet", "swinconv/swin~convnext", "drift/swin"):
        assert np.isfinite(found.groups[path]["cka"]).all(), path
    assert found.groups["distance/dino"]["distance"].sizes["head"] == 6


def test_windowed_attention_is_refused_with_the_reason() -> None:
    text = STUDY.replace("of: [vit, deit, dino], under", "of: [vit, swin], under")
    with pytest.raises(StudyError, match="stays inside windows"):
        bind(load_text(text, "families"))


def test_tracing_leaves_nothing_on_the_model_and_names_are_the_same_each_time() -> None:
    with torch.device("meta"):
        model = timm.create_model(
            "swin_tiny_patch4_window7_224", img_size=64, window_size=4, depths=(2,), num_heads=(2,)
        )
    before = set(vars(model))
    graphs = [trace(model.eval(), (3, 64, 64)).graph for _ in range(2)]
    assert set(vars(model)) == before
    first, second = ([str(node.target) for node in graph.nodes] for graph in graphs)
    assert first == second
