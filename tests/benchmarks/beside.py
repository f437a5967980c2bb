"""Our numbers and times beside those of other packages, on the same tensors, weights, layers and batches."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from commands import photographs
from passes import Ready, ready, timed
from peers import environment
from rows import Bench
from texts import CKA, LAST_FIELD, text

HERE = Path(__file__).resolve().parent
ALIKE = "{mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5], crop_pct: 0.9}"
"""Both models see what the ViT sees: the other packages take one loader for both, or say nothing of the images."""
INSTALLED = HERE.parents[1] / ".peers"


def beside(bench: Bench) -> dict[str, Any]:
    """Seconds of each package and ours, and how far their numbers lie from a float64 reference."""
    with tempfile.TemporaryDirectory() as place:
        return _beside(bench, f"source: folder, path: {photographs(Path(place), bench.images)}")


def _beside(bench: Bench, source: str) -> dict[str, Any]:
    alike = {**bench.pair, "res": f"{bench.pair['res']}, preprocess: {ALIKE}"}
    one = ready(text(CKA, source, bench.images, bench.batch, alike), bench.device, bench.dtype)
    one.ours()
    found: dict[str, Any] = {"ours": {"seconds": min(timed(one.ours) for _ in range(bench.runs))}}
    truth = reference(one)
    found["ours"] |= far(ours(one), truth)
    field = ready(text(LAST_FIELD, source, bench.images, 1, bench.pair), bench.device, bench.dtype)
    field.ours()
    found["ours"]["field_seconds"] = timed(field.ours)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        torch.save(torch.cat([batch.images["vit"] for batch in one.stream.read(())]), folder / "images.pt")
        for name, module in one.modules.items():
            torch.save(module.state_dict(), folder / f"{name}.pt")
        words = [
            str(folder),
            "--batch",
            str(bench.batch),
            "--vit",
            bench.pair["vit"],
            "--res",
            bench.pair["res"],
        ]
        done = subprocess.run(
            [sys.executable, str(HERE / "peers.py"), *words],
            env=environment(INSTALLED), capture_output=True, text=True, check=True,
        )  # fmt: skip
    for package, said in json.loads(done.stdout.splitlines()[-1]).items():
        values = np.array(said.pop("values", []))
        found[package] = said | (far(values, truth) if values.shape == truth.shape else {})
    return found


def ours(one: Ready) -> np.ndarray[Any, Any]:
    """CKA of all layers of the one with all of the other, as a run estimates it."""
    from typing import cast

    from vitdsl.runtime.plan.frames import frame
    from vitdsl.runtime.progress import Silent
    from vitdsl.runtime.run.statistics import Statistics, estimate
    from vitdsl.runtime.run.walk import run_pass

    walked = run_pass(one.runner, one.stream, first=lambda *_: None, progress=Silent())
    (group,) = one.plan.groups
    return np.asarray(
        estimate(cast("Statistics[Any]", walked.statistics[group.path]), frame(one.plan, group))["cka"].values
    ).squeeze()


def reference(one: Ready) -> np.ndarray[Any, Any]:
    """The same from the formula, features in float64: sums over batches of the unbiased HSIC, then the ratio."""
    (group,) = one.plan.groups
    sums = [0.0, 0.0, 0.0]
    for batch in one.stream.read(()):
        sides = []
        for reading in (group.x, group.y):
            names = [site.name for site in reading.sites]
            sides.append(grams(one.modules[reading.model], batch.images[reading.model], names))
        for i, (left, right) in enumerate(((sides[0], sides[1]), (sides[0], sides[0]), (sides[1], sides[1]))):
            pairs = [[hsic(k, m) for m in right] for k in left] if i == 0 else [hsic(k, k) for k in left]
            sums[i] = sums[i] + np.array(pairs)
    cross, xx, yy = sums
    return np.asarray(cross / np.sqrt(np.outer(xx, yy)))


def grams(module: torch.nn.Module, images: torch.Tensor, names: list[str]) -> list[torch.Tensor]:
    """Gram matrices of what some modules give, features in float64."""
    kept: dict[str, torch.Tensor] = {}

    def keep(name: str) -> Callable[..., None]:
        return lambda _, __, output: kept.update({name: output.double().flatten(1)})

    handles = [module.get_submodule(name).register_forward_hook(keep(name)) for name in names]
    with torch.inference_mode():
        module(images)
    for handle in handles:
        handle.remove()
    return [kept[name] @ kept[name].T for name in names]


def hsic(k: torch.Tensor, m: torch.Tensor) -> float:
    """Unbiased HSIC of two Gram matrices (Song et al. 2012)."""
    n = len(k)
    k, m = k - torch.diag(k.diagonal()), m - torch.diag(m.diagonal())
    whole = (
        (k * m).sum() + k.sum() * m.sum() / ((n - 1) * (n - 2)) - 2 * (k.sum(0) * m.sum(0)).sum() / (n - 2)
    )
    return float(whole / (n * (n - 3)))


def far(values: np.ndarray[Any, Any], truth: np.ndarray[Any, Any]) -> dict[str, float]:
    """The largest difference, and how many values are off by more than a hundredth."""
    off = np.abs(values - truth)
    return {"largest": float(off.max()), "off": int((off > 0.01).sum()), "of": int(truth.size)}
