"""One pass over a stream: the same sums however images are split, float32 taps under autocast, errors of memory."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from studies import TINY_VIT, bound, loaded, study
from vitdsl.dsl.diagnostics import EnvironmentProblem
from vitdsl.runtime.data.stream import open_stream
from vitdsl.runtime.graph.tap import Reduce
from vitdsl.runtime.plan.frames import frame
from vitdsl.runtime.plan.plan import Plan
from vitdsl.runtime.progress import Silent
from vitdsl.runtime.run.compile import compile_model
from vitdsl.runtime.run.execute import Runner
from vitdsl.runtime.run.full import memory_errors
from vitdsl.runtime.run.statistics import estimate
from vitdsl.runtime.run.walk import run_pass

STUDY = study(
    "sums",
    data="{probe: {source: digits, split: test, images: 22, batch: BATCH, image_blocks: 2}}",
    models={"vit": TINY_VIT},
    layers={"blocks": '{of: vit, at: "blocks.*"}'},
    ablations={"no_skip": '{kind: remove_skip, of: vit, at: "blocks.*.attn", each: true}'},
    metrics={
        "accuracy": "{kind: accuracy, of: vit}",
        "ratio": "{kind: skip_ratio, of: vit}",
        "distance": "{kind: attention_distance, of: vit}",
        "within": "{kind: cka, x: blocks, under: baseline}",
        "drift": "{kind: cka, x: blocks, against: baseline}",
    },
)


def outputs_of(module: nn.Module, paths: tuple[str, ...], images: Tensor) -> dict[str, Tensor]:
    """What some modules return, read by hooks that clone."""
    seen: dict[str, Tensor] = {}
    handles = [
        module.get_submodule(path).register_forward_hook(
            lambda _, __, output, path=path: seen.__setitem__(path, output.clone())
        )
        for path in paths
    ]
    module(images)
    for handle in handles:
        handle.remove()
    return seen


def prepared(batch: int, dtype: str = "float32") -> tuple[Plan, Runner, Any]:
    plan = bound(STUDY.replace("BATCH", str(batch)))
    planned = plan.models["vit"]
    module = loaded(plan, "vit").module
    stream = open_stream(
        plan.data["probe"], seed=0, folder=plan.loaded.folder, transforms={"vit": planned.config}, workers=0
    )
    compiled = {"vit": compile_model(planned, module, plan.groups)}
    return plan, Runner(plan, compiled, plan.groups, torch.device("cpu"), dtype), stream


def results(batch: int, dtype: str = "float32") -> dict[str, Any]:
    plan, runner, stream = prepared(batch, dtype)
    done = run_pass(runner, stream, first=lambda *_: None, progress=Silent())
    return {group.path: estimate(done.statistics[group.path], frame(plan, group)) for group in plan.groups}


def test_three_batches_with_a_short_tail_give_what_one_batch_gives() -> None:
    """Statistics of single images do not depend on the batch; 22 images in batches of 9 leave a tail of 4."""
    split, one = results(9), results(22)
    for path in ("accuracy/vit", "ratio/vit", "distance/vit"):
        for name in (
            "top1",
            "drop",
            "loss",
            "kl",
            "agreement",
            "ratio",
            "cos_skip_stream",
            "distance",
            "prefix_mass",
        ):
            if name in one[path]:
                # the forward passes of different batch sizes differ by float32 rounding
                np.testing.assert_allclose(split[path][name], one[path][name], rtol=2e-5, atol=2e-6)
    np.testing.assert_array_equal(split["accuracy/vit"]["top1"], one["accuracy/vit"]["top1"])


def test_minibatch_cka_is_a_ratio_of_sums_over_batches_the_short_one_with_its_own_weight() -> None:
    plan, runner, stream = prepared(9)
    done = run_pass(runner, stream, first=lambda *_: None, progress=Silent())
    ours = estimate(done.statistics["within/vit"], frame(plan, plan.groups[3]))["cka"].values[0]
    module = runner.models["vit"].module
    sums = np.zeros((2, 2))
    for batch in stream:
        with torch.inference_mode():
            outputs = outputs_of(module, ("blocks.0", "blocks.1"), batch.images["vit"])
        grams = []
        for path in ("blocks.0", "blocks.1"):
            x = outputs[path].flatten(1).double().numpy()
            gram, n = x @ x.T, len(x)
            np.fill_diagonal(gram, 0)
            row = gram.sum(1) / (n - 2)
            gram = gram - row[:, None] - row[None, :] + gram.sum() / ((n - 1) * (n - 2))
            np.fill_diagonal(gram, 0)
            grams.append(gram)
        sums += [[(a * b).sum() for b in grams] for a in grams]
    expected = sums / np.sqrt(np.outer(np.diag(sums), np.diag(sums)))
    np.testing.assert_allclose(ours, expected, atol=1e-5)


def test_gram_matrices_stay_float32_under_autocast() -> None:
    _, runner, stream = prepared(22, "bf16")
    batch = next(iter(stream))
    found = runner.forward("vit", batch.images["vit"])
    assert not {tensor.dtype for one in found.values() for tensor in one} & {torch.bfloat16, torch.float16}
    exact, low = results(22)["within/vit"]["cka"], results(22, "bf16")["within/vit"]["cka"]
    assert 0 < float(abs(exact - low).max()) < 0.02


def test_taps_compute_what_they_compute_without_autocast() -> None:
    _, runner, stream = prepared(22, "bf16")
    seen: list[tuple[Any, Any, Any]] = []
    for part in runner.models["vit"].merged.module.modules():
        if isinstance(part, Reduce):
            part.register_forward_hook(lambda tap, given, found: seen.append((tap, given, found)))
    runner.forward("vit", next(iter(stream)).images["vit"])
    assert len(seen) > 4
    for tap, given, found in seen:
        again = tap.reducer.function(*given, site=tap.site, **dict(tap.reducer.constants))
        for ours, theirs in zip(found, again if isinstance(again, tuple) else (again,), strict=True):
            assert torch.equal(ours, theirs), tap.site


def test_autocast_reaches_the_model() -> None:
    _, runner, stream = prepared(22, "bf16")
    seen: list[torch.dtype] = []
    first = runner.models["vit"].merged.module.get_submodule("blocks.0.mlp.fc1")
    first.register_forward_hook(lambda _, __, out: seen.append(out.dtype))
    runner.forward("vit", next(iter(stream)).images["vit"])
    assert set(seen) == {torch.bfloat16}


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        MemoryError(),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:119] err == 0. DefaultCPUAllocator: can't allocate memory"
        ),
        RuntimeError("could not create a primitive"),
        RuntimeError("could not create a memory object"),
        RuntimeError("could not execute a primitive"),
        RuntimeError("std::bad_alloc"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
)
def test_out_of_memory_says_what_to_do(error: Exception) -> None:
    _, runner, _ = prepared(9)
    with (
        pytest.raises(EnvironmentProblem) as raised,
        memory_errors(runner.plan, runner.groups, runner.device),
    ):
        raise error
    (problem,) = raised.value.diagnostics
    assert problem.code == "VD409"
    assert "--set data.probe.batch=4" in problem.help[0]


@pytest.mark.parametrize(
    "text",
    [
        "shape mismatch",
        "could not create a primitive descriptor for the matmul primitive. Run workload with environment variable",
    ],
)
def test_other_errors_pass(text: str) -> None:
    _, runner, _ = prepared(9)
    with pytest.raises(RuntimeError, match=text), memory_errors(runner.plan, runner.groups, runner.device):
        raise RuntimeError(text)
