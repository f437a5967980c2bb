"""What `vitdsl plan` says of memory is within 1.5 times of what a run takes, in a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

RESNET = """
vitdsl: 1
study: memory
data: {probe: {source: noise, total: 128, size: 128, classes: 10, batch: 64}}
models: {net: {arch: resnet18, weights: random, input_size: 128, options: {num_classes: 10}}}
layers: {x: {of: net, at: "layer*.*"}}
ablations: {no: {kind: remove_branch, of: net, at: "layer*.*", each: true}}
metrics: {within: {kind: cka, x: x}, accuracy: {kind: accuracy, of: net}}
"""
MANY = """
vitdsl: 1
study: memory
data: {probe: {source: noise, total: 16, size: 32, classes: 10, batch: 16}}
models:
  net: {arch: vit_tiny_patch16_224, weights: random,
        options: {img_size: 32, patch_size: 4, embed_dim: 24, num_heads: 3, depth: 12, num_classes: 10}}
layers: {x: {of: net, at: "blocks.*"}}
ablations:
  mean: {kind: mean_ablate, of: net, at: "blocks.*.attn", each: true, vary: {tokens: [TOKENS]}}
metrics: {drift: {kind: cka, x: x, against: baseline}}
""".replace("TOKENS", ", ".join(f"[{token}]" for token in range(1, 13)))

CODE = """
import json, resource, sys
import torch
from vitdsl.dsl.load import load_text
from vitdsl.runtime.plan.bind import bind
from vitdsl.runtime.run.cost import cost
from vitdsl.runtime.run.run import run

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()

torch.set_num_threads(1)
tiny = "vitdsl: 1\\nstudy: t\\ndata: {d: {source: noise, total: 4, size: 32, classes: 10, batch: 4}}\\n"
tiny += "models: {m: {arch: resnet10t, weights: random, input_size: 32, options: {num_classes: 10}}}\\n"
tiny += "metrics: {a: {kind: accuracy, of: m}}\\n"
run(bind(load_text(tiny)), out="runs")  # what is imported late is there
plan = bind(load_text(sys.stdin.read()))
before = resident()
run(plan, out="runs")
(line,) = [line for line in open("/proc/self/status") if line.startswith("VmHWM")]
peak = int(line.split()[1]) * 1024  # not ru_maxrss, which a process inherits from whoever started it
print(json.dumps([peak - before, max(one.memory for one in cost(plan).models)]))
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads Linux' own numbers")
@pytest.mark.parametrize("study", [RESNET, MANY], ids=["activations", "conditions"])
def test_the_estimate_is_within_a_factor(tmp_path: Path, study: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        input=study,
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    taken, said = json.loads(done.stdout.splitlines()[-1])
    assert 1 / 1.5 <= taken / said <= 1.5, f"{taken / 2**20:.0f} MiB taken, {said / 2**20:.0f} MiB said"
