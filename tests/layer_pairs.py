"""What the tests of metrics of two layers share: made-up layers, how a metric is asked, and hooks on a small model.

Does not own any reference: each test writes its own.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from studies import RESNET18, TINY_VIT, bound, loaded, study
from vitdsl import testing
from vitdsl.runtime.data.stream import open_stream
from vitdsl.runtime.metrics._base import Array, Metric
from vitdsl.runtime.results.folder import open_run
from vitdsl.runtime.run.run import run

Reference = Callable[[Array, Array], Mapping[str, float]]
"""Values of two layers from all their features, `[image, feature]`, float64."""


def related(n: int, widths: Sequence[int], seed: int = 0) -> list[Tensor]:
    """Layers that share some directions and differ in the rest."""
    generator = torch.Generator().manual_seed(seed)
    shared = torch.randn(n, 4, generator=generator)
    return [
        shared @ torch.randn(4, width, generator=generator) + torch.randn(n, width, generator=generator) + 0.5
        for width in widths
    ]


def group_of(
    kind: Metric, x: Sequence[Tensor], y: Sequence[Tensor] | None = None, *, paired: bool = False
) -> Any:
    """A metric of layers that give these features."""
    sites = [testing.vector_site(f"x{i}", one.shape[1]) for i, one in enumerate(x)]
    others = None if y is None else [testing.vector_site(f"y{i}", one.shape[1]) for i, one in enumerate(y)]
    return testing.group_of(kind, sites, others, paired=paired)


def stream_of(x: Sequence[Tensor], y: Sequence[Tensor] | None = None) -> testing.Stream:
    """The layers' features as a stream."""
    return testing.Stream({"baseline": ([(one,) for one in x], None if y is None else [(one,) for one in y])})


def measured(
    kind: Metric,
    x: Sequence[Tensor],
    y: Sequence[Tensor] | None = None,
    *,
    paired: bool = False,
    batch: int = 16,
) -> xr.Dataset:
    """What a metric gives under one condition."""
    return testing.run(group_of(kind, x, y, paired=paired), stream_of(x, y), batch).isel(condition=0)


def of_pair(kind: Metric, x: Tensor, y: Tensor) -> dict[str, float]:
    """Its values of two layers."""
    found = measured(kind, [x], [y])
    return {name: float(found[name].values[0, 0]) for name in kind.VALUES}


def matrices(reference: Reference, x: Sequence[Tensor], y: Sequence[Tensor]) -> dict[str, Array]:
    """A reference for every x with every y."""
    each = [[reference(a.double().numpy(), b.double().numpy()) for b in y] for a in x]
    return {name: np.array([[one[name] for one in line] for line in each]) for name in each[0][0]}


def check_laws(
    kind: Metric, reference: Reference, x: Sequence[Tensor], y: Sequence[Tensor], tolerance: float
) -> float:
    """Hold a metric to its reference and the laws within x, across, and paired; the largest error."""
    wanted = matrices(reference, x, y)
    within = {name: value[None] for name, value in matrices(reference, x, x).items()}
    across = {name: value[None] for name, value in wanted.items()}
    paired = {name: np.diagonal(value)[None] for name, value in wanted.items()}
    more: dict[str, Any] = {"batch": 7, "any_batches": True, "tolerance": tolerance}
    return max(
        testing.check_metric(group_of(kind, x), stream_of(x), within, **more),
        testing.check_metric(group_of(kind, x, y), stream_of(x, y), across, **more),
        testing.check_metric(group_of(kind, x, y, paired=True), stream_of(x, y), paired, **more),
    )


def check_replicates(
    kind: Metric, reference: Reference, x: Sequence[Tensor], y: Sequence[Tensor], tolerance: float
) -> None:
    """What is left out at a time is left out of everything."""
    found = measured(kind, x, y)
    for part in (0, 5, 31):
        kept = np.arange(len(x[0])) % 32 != part
        wanted = matrices(reference, [one[kept] for one in x], [one[kept] for one in y])
        for name, value in wanted.items():
            got = found[f"{name}_replicates"].values[part]
            np.testing.assert_allclose(got, value, rtol=0, atol=tolerance, err_msg=f"{name} without {part}")


STUDY = study(
    "pairs",
    data="{probe: {source: digits, split: test, images: 100, batch: 16}}",
    models={"vit": TINY_VIT, "resnet": RESNET18},
    layers={
        "blocks": '{of: vit, at: "blocks.*", tokens: mean}',
        "stages": '{of: resnet, at: ["layer1.1", "layer2.1"], tokens: mean}',
    },
    ablations={"no_branch": '{kind: remove_branch, of: vit, at: "blocks.1.attn"}'},
    metrics="""
  across: {kind: KIND, x: blocks, y: stages, under: baseline MORE}
  drift: {kind: KIND, x: blocks, against: baseline MORE}
""",
)


def check_end_to_end(
    kind: Metric, reference: Reference, folder: Path, tolerance: float, more: str = ""
) -> float:
    """A whole run against plain forward hooks on the plain models; the largest error of across."""
    plan = bound(STUDY.replace("KIND", kind.name).replace("MORE", f", {more}" if more else ""))
    configs = {name: planned.config for name, planned in plan.models.items()}
    stream = open_stream(plan.data["probe"], seed=0, folder=Path(), transforms=configs)
    heard: dict[str, list[Tensor]] = {}
    modules = {name: loaded(plan, name).module for name in plan.models}
    for model, at in (
        ("vit", "blocks.0"),
        ("vit", "blocks.1"),
        ("resnet", "layer1.1"),
        ("resnet", "layer2.1"),
    ):
        modules[model].get_submodule(at).register_forward_hook(
            lambda _, __, out, at=at: heard.setdefault(at, []).append(
                out[:, 1:].mean(1) if at.startswith("blocks") else out.mean((2, 3))
            )
        )
    with torch.no_grad():
        for batch in stream:
            for name, module in modules.items():
                module(batch.images[name])
    layers = {at: torch.cat(parts) for at, parts in heard.items()}
    wanted = matrices(
        reference, [layers["blocks.0"], layers["blocks.1"]], [layers["layer1.1"], layers["layer2.1"]]
    )
    outcome = run(plan, out=folder)
    assert outcome.folder is not None
    groups = open_run(outcome.folder).groups
    across, drift = groups["across/vit~resnet"], groups["drift/vit"]
    worst = 0.0
    for name, value in wanted.items():
        got = across[name].values[0]
        np.testing.assert_allclose(got, value, rtol=0, atol=tolerance, err_msg=name, equal_nan=True)
        worst = max(worst, float(np.nanmax(np.abs(got - value), initial=0.0)))
    identity = kind.identity
    assert isinstance(identity, Mapping)
    trust = json.loads((outcome.folder / "manifest.json").read_text())["trust"]
    checked = [check["text"] for check in trust if check["check"] == "identity" and check["ok"]]
    told = kind.name != "svcca"  # whose first batch has fewer images than features
    assert len(checked) == 2 * told and all(
        f"{name} of each of the 2" in text for text in checked for name in identity
    )
    for name, value in identity.items():
        got = drift[name].sel(condition="no_branch").values
        np.testing.assert_allclose(got[0], value, atol=1e-12, err_msg=f"{name} before the ablated place")
        assert abs(got[1] - value) > 1e-6, f"{name} behind it"
    return worst
