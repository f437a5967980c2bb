"""Ratios against bare forwards, measured in one process, alternating, medians. Run by hand: `make bench`.

Prints a row for each: what, ratio, spread, and the two medians in seconds. Never part of the test suite: machines are
noisy, and a ratio is read by a person.
"""

import argparse
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import torch

from vitdsl.dsl.load import load_text
from vitdsl.runtime.data.stream import open_stream
from vitdsl.runtime.models import loading as models
from vitdsl.runtime.plan.bind import bind
from vitdsl.runtime.plan.plan import Plan
from vitdsl.runtime.progress import Silent
from vitdsl.runtime.run.compile import compile_model
from vitdsl.runtime.run.execute import Runner, run_pass

HEAD = """\
vitdsl: 1
study: bench
data: {{noise: {{source: noise, total: {images}, size: {size}, classes: 1000, batch: {batch}}}}}
models:
  vit: {{arch: {vit}, options: {{img_size: {size}}}, weights: random}}
  res: {{arch: {res}, input_size: {size}, weights: random}}
layers:
  x: {{of: vit, at: "blocks.*"}}
  y: {{of: res, at: "layer*.*"}}
"""
CKA = HEAD + "metrics: {{across: {{kind: cka, x: x, y: y}}}}\n"
PANEL = HEAD + (
    "metrics:\n"
    "  within_x: {{kind: cka, x: x}}\n  within_y: {{kind: cka, x: y}}\n  across: {{kind: cka, x: x, y: y}}\n"
    "  distance: {{kind: attention_distance, of: vit}}\n  ratio: {{kind: skip_ratio, of: [vit, res]}}\n"
    "  accuracy: {{kind: accuracy, of: [vit, res]}}\n"
)
SWEEP = HEAD + (
    'ablations: {{cut: {{kind: remove_skip, of: vit, at: "blocks.*.attn", each: true}}}}\n'
    "metrics:\n  accuracy: {{kind: accuracy, of: vit}}\n  drift: {{kind: cka, x: x, against: baseline}}\n"
)


def timed(work: Callable[[], object]) -> float:
    """Seconds of one call."""
    begun = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - begun


def prepared(text: str, device: torch.device, dtype: str) -> tuple[Plan, Any, Any, Any]:
    """Plan, runner, stream and loaded models of a study."""
    loaded = load_text(text, "bench")
    plan = bind(loaded)
    modules = {
        name: models.load(planned.entry, seed=0, folder=loaded.folder).module.to(device)
        for name, planned in plan.models.items()
        if any(name in group.models for group in plan.groups)
    }
    compiled = {
        name: compile_model(plan.models[name], module, plan.groups, over=True)
        for name, module in modules.items()
    }
    runner = Runner(plan, compiled, plan.groups, device, dtype)
    stream = open_stream(
        plan.data["noise"],
        seed=0,
        folder=loaded.folder,
        transforms={name: plan.models[name].config for name in modules},
        workers=0,
    )
    batches = list(stream)
    stream.read = lambda _: iter(batches)  # type: ignore[method-assign]
    return plan, runner, stream, modules


def ratio(
    name: str, text: str, times: int, runs: int, device: torch.device, dtype: str, target: float
) -> None:
    """A whole pass over `times` bare forwards of each model (decoding left out of both)."""
    _, runner, stream, modules = prepared(text, device, dtype)
    batches = list(stream)

    def ours() -> None:
        run_pass(runner, stream, first=lambda *_: None, progress=Silent())

    def bare() -> None:
        from vitdsl.runtime.run.execute import computing

        with computing(device, dtype):
            for batch in batches:
                for model, module in modules.items():
                    images = batch.images[model].to(device)
                    for _ in range(times):
                        module(images)

    timed(ours), timed(bare)
    pairs = [(timed(ours), timed(bare)) for _ in range(runs)]
    ratios = sorted(a / b for a, b in pairs)
    a, b = (statistics.median(column) for column in zip(*pairs, strict=True))
    print(
        f"{name:34s} {statistics.median(ratios):5.2f}  [{ratios[0]:.2f}, {ratios[-1]:.2f}]  target {target:.2f}"
        f"  {a:6.2f} s over {b:6.2f} s",
        flush=True,
    )


def memory(images: int, size: int) -> int:
    """Peak memory (KiB) of a pass in a process of its own."""
    code = (
        "import sys; sys.argv=['x']; import tests.benchmarks.run as b, torch, resource\n"
        f"t = b.CKA.format(images={images}, size={size}, batch=32, vit='vit_tiny_patch16_224', res='resnet18')\n"
        "from vitdsl.dsl.load import load_text\nfrom vitdsl.runtime.plan.bind import bind\n"
        "from vitdsl.runtime.run.run import run\nimport tempfile\n"
        "run(bind(load_text(t, 'b')), out=tempfile.mkdtemp())\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return int(done.stdout.split()[-1])


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("what", nargs="*", default=["cka", "panel", "sweep", "memory"])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--vit", default="vit_small_patch16_224")
    parser.add_argument("--res", default="resnet50")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", default="float32")
    options = parser.parse_args()
    device = torch.device(options.device)
    fields = {k: getattr(options, k) for k in ("images", "batch", "size", "vit", "res")}
    print(
        f"torch {torch.__version__}, {device}, {torch.get_num_threads()} threads, {fields}, {options.dtype}"
    )
    common = (options.runs, device, options.dtype)
    if "cka" in options.what:
        ratio("CKA blocks x blocks / bare forwards", CKA.format(**fields), 1, *common, 1.10)
    if "panel" in options.what:
        ratio("the panel in one pass / bare", PANEL.format(**fields), 1, *common, 1.35)
    if "sweep" in options.what:
        text = SWEEP.format(**fields)
        count = bind(load_text(text, "bench")).conditions - 1
        ratio(f"sweep / {count} bare forwards", text, count, *common, 0.60)
    if "memory" in options.what:
        small, large = memory(256, 96), memory(4096, 96)
        print(
            f"peak memory, 4,096 / 256 images     {large / small:5.2f}  target 1.05  {large >> 10} / {small >> 10} MiB"
        )
    print(f"peak memory of this process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10} MiB")


if __name__ == "__main__":
    main()
