"""The same study on CUDA and on the CPU; skipped where there is no CUDA device."""

from pathlib import Path

import numpy as np
import pytest

from vitdsl.dsl.load import load_text
from vitdsl.runtime.plan.bind import bind
from vitdsl.runtime.progress import Silent
from vitdsl.runtime.results.folder import Run, open_run
from vitdsl.runtime.run.run import run

FIELD = "  field: {kind: receptive_field, x: x, channels: 8}\n"
STUDY = (
    """\
vitdsl: 1
study: devices
data: {probe: {source: noise, total: 64, size: 48, classes: 10, batch: 16}}
models:
  vit: {arch: vit_tiny_patch16_224, options: {img_size: 48, depth: 3, num_classes: 10}, weights: random}
  net: {arch: resnet18, options: {num_classes: 10}, input_size: 48, weights: random}
layers:
  x: {of: vit, at: "blocks.*"}
  y: {of: net, at: "layer*.*"}
ablations:
  cut: {kind: remove_skip, of: vit, at: "blocks.*", each: true}
  mean: {kind: mean_ablate, of: vit, at: "blocks.1.attn"}
metrics:
  accuracy: {kind: accuracy, of: [vit, net]}
  across: {kind: cka, x: x, y: y}
  drift: {kind: cka, x: x, against: baseline}
  ratio: {kind: skip_ratio, of: [vit, net]}
  distance: {kind: attention_distance, of: vit}
"""
    + FIELD
)


class Told(Silent):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


def results(out: Path, device: str, dtype: str = "float32", text: str = STUDY) -> Run:
    return open_run(run(bind(load_text(text, "devices")), out=out, device=device, dtype=dtype).folder)


def close(one: Run, other: Run, *, metrics: tuple[str, ...], tolerance: float) -> None:
    for path, group in one.groups.items():
        if path.partition("/")[0] in metrics:
            for name in group.data_vars:
                if not str(name).endswith(("_low", "_high")):
                    np.testing.assert_allclose(
                        group[name], other.groups[path][name], rtol=tolerance, atol=tolerance
                    )


@pytest.mark.gpu
def test_cuda_gives_the_numbers_of_the_cpu(tmp_path: Path) -> None:
    metrics = ("across", "drift", "ratio", "distance", "field")
    close(results(tmp_path, "cuda"), results(tmp_path, "cpu"), metrics=metrics, tolerance=1e-3)


@pytest.mark.gpu
def test_what_is_recorded_on_cuda_is_replayed_and_gives_the_numbers_of_the_cpu(tmp_path: Path) -> None:
    text, told = STUDY.replace(FIELD, ""), Told()
    plan = bind(load_text(text, "devices"))
    found = open_run(run(plan, out=tmp_path, device="cuda", fast=True, progress=told).folder)
    assert not [words for words in told.said if "not replayed" in words]
    assert all(check.ok for check in found.manifest.trust)
    metrics = ("across", "drift", "ratio", "distance")
    close(found, results(tmp_path, "cpu"), metrics=metrics, tolerance=1e-3)


@pytest.mark.gpu
def test_what_was_saved_on_the_cpu_is_not_an_answer_on_cuda(tmp_path: Path) -> None:
    results(tmp_path, "cpu")
    assert not results(tmp_path, "cuda").manifest.reused
    assert results(tmp_path, "cuda").manifest.reused


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", ["tf32", "bf16", "fp16"])
def test_lower_precision_on_cuda_keeps_its_trust_checks(tmp_path: Path, dtype: str) -> None:
    found = results(tmp_path, "cuda", dtype)
    assert all(check.ok for check in found.manifest.trust)
    close(found, results(tmp_path, "cuda"), metrics=("distance",), tolerance=0.05)


def test_bf16_on_the_cpu_keeps_its_trust_checks(tmp_path: Path) -> None:
    """Few images and no gradients: without instructions for it, a processor takes many times as long."""
    text = STUDY.replace(FIELD, "").replace("total: 64", "total: 32")
    found = results(tmp_path, "cpu", "bf16", text)
    assert found.manifest.dtype == "bf16"
    assert all(check.ok for check in found.manifest.trust)
    close(found, results(tmp_path, "cpu", text=text), metrics=("distance",), tolerance=0.05)
    cka = found.groups["across/vit~net"]["cka"].values
    assert np.isfinite(cka).all() and (cka <= 1).all()
