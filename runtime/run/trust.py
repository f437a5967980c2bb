"""Trust checks: what every run shows about its own numbers before it reports them.

The compiled intact model gives the plain model's output; a layer's CKA with itself is 1; every ablation changed
something. A check that must hold and does not stops the run (VD501): its numbers would be wrong.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from vitdsl.dsl.diagnostics import Diagnostic, EnvironmentProblem
from vitdsl.dsl.study import BASELINE
from vitdsl.runtime.data.stream import Batch
from vitdsl.runtime.graph.merge import merge
from vitdsl.runtime.metrics._base import Metric, Seen
from vitdsl.runtime.plan.lanes import lane_of
from vitdsl.runtime.results.manifest import Check
from vitdsl.runtime.run.compile import Compiled
from vitdsl.runtime.run.execute import Runner, computing
from vitdsl.runtime.run.overflow import check_finite

EQUAL = {"float32": 1e-4, "tf32": 1e-2, "bf16": 5e-2, "fp16": 1e-2}
"""Largest difference of outputs, relative to their largest value, by dtype."""
IDENTITY = 1e-6
PLAIN_IMAGES = 4
"""So many images of the first batch go through the plain model: enough to see a wrong graph, and that an image's
output does not hang on the others of its batch."""
ALONE_IMAGES = 16
"""So many go through one by one where the program could not be followed, and may decide by a whole batch."""
EFFECT_IMAGES = 4
Found = Mapping[str, tuple[tuple[Tensor, ...], ...]]


def check_first_batch(
    runner: Runner, batch: Batch, images: Mapping[str, Tensor], found: Found
) -> list[Check]:
    """All checks on the first batch of a stream.

    Raises:
        EnvironmentProblem: One that must hold does not (VD501); a model gives no numbers (VD506).
    """
    checks: list[Check] = []
    for name, compiled in runner.models.items():
        checks.append(_same_output(runner, compiled, images[name], found[name]))
        effect = _effects(runner, compiled, images[name], found[name])
        if effect is not None:
            checks.append(effect)
    checks += _identity(runner, batch.rows, found)
    failed = [check for check in checks if check.required and not check.ok]
    if failed:
        raise EnvironmentProblem(
            Diagnostic(
                "VD501",
                f"trust check failed: {check.text}",
                help=("the run was stopped, since its numbers would be wrong; please report it",),
            )
            for check in failed
        )
    return checks


def _same_output(
    runner: Runner, compiled: Compiled, images: Tensor, found: Sequence[tuple[Tensor, ...]]
) -> Check:
    """The compiled intact model against the plain one; skipped edits of training are part of both."""
    (ours,) = found[compiled.merged.slots[BASELINE, compiled.output]]
    name = compiled.planned.name
    if not torch.isfinite(ours).all():
        with computing(runner.device, runner.dtype):
            plain = ours if compiled.planned.always else compiled.module(images)
            check_finite(name, compiled.module, images, plain, runner.dtype)
    if compiled.planned.always:
        return Check(
            check="output",
            model=name,
            ok=True,
            value=0.0,
            tolerance=0.0,
            text=f"`{name}` was trained without parts and has no plain form",
            required=False,
        )
    unfollowed = compiled.sites.unfollowed is not None
    few = min(ALONE_IMAGES if unfollowed else PLAIN_IMAGES, len(images))
    difference, bound, scale = _beside_plain(runner, compiled, images[:few], ours[:few], alone=unfollowed)
    if not difference <= bound and (unfollowed or few < len(images)):
        few = len(images)
        whole, bound, scale = _beside_plain(runner, compiled, images, ours)
        if whole <= bound:
            return Check(
                check="output",
                model=name,
                ok=False,
                value=difference,
                tolerance=bound,
                text=f"`{name}` gives an image another output beside other images, by up to {difference:.3g} (largest "
                f"output {scale:.3g}): its numbers hang on the batches",
                required=unfollowed,
            )
        difference = whole
    unfused = " with attention weights read un-fused" if compiled.planned.unfuse else ""
    text = (
        f"compiled `{name}`{unfused} equals the plain model on {few} images "
        + ("bit for bit" if difference == 0 else f"to {difference:.2g} (largest output {scale:.3g})")
        if difference <= bound
        else f"compiled `{name}` differs from the plain model by {difference:.3g} (largest output {scale:.3g})"
    )
    return Check(
        check="output", model=name, ok=difference <= bound, value=difference, tolerance=bound, text=text
    )


def _beside_plain(
    runner: Runner, compiled: Compiled, images: Tensor, ours: Tensor, *, alone: bool = False
) -> tuple[float, float, float]:
    """Largest difference of outputs from the plain model's, what it may be, and the largest output."""
    with computing(runner.device, runner.dtype):
        parts = torch.split(images, 1) if alone else (images,)
        plain = torch.cat([compiled.module(part).float() for part in parts]).to(ours.device)
    scale = float(plain.abs().max())
    return float((ours - plain).abs().max()), EQUAL[runner.dtype] * max(scale, 1e-30), scale


def _effects(
    runner: Runner, compiled: Compiled, images: Tensor, found: Sequence[tuple[Tensor, ...]]
) -> Check | None:
    """The smallest change of the model's output over its ablations; None without ablations."""
    ablated = compiled.ablated
    if not ablated:
        return None
    name, slots, tap = compiled.planned.name, compiled.merged.slots, compiled.output
    if all((c.id, tap) in slots for c in ablated):
        outputs = {c.id: found[slots[c.id, tap]][0] for c in ablated}
        intact = found[slots[BASELINE, tap]][0]
        count = len(images)
    else:
        outputs = _outputs(runner, compiled, images[:EFFECT_IMAGES])
        intact = outputs.pop(BASELINE)
        count = min(EFFECT_IMAGES, len(images))
    changes = {id: float((output - intact).abs().max()) for id, output in outputs.items()}
    least = min(changes, key=lambda id: changes[id])
    idle = [id for id, change in changes.items() if change == 0]
    text = (
        f"each of the {len(changes)} ablations of `{name}` changes its output on {count} images; "
        f"least, by {changes[least]:.2g}: `{least}`"
        if not idle
        else f"{len(idle)} of {len(changes)} ablations of `{name}` change nothing: {', '.join(idle[:3])}"
    )
    return Check(
        check="effect",
        model=name,
        ok=not idle,
        value=changes[least],
        tolerance=0.0,
        text=text,
        required=False,
        about=f"{len(changes)} conditions",
    )


def _outputs(runner: Runner, compiled: Compiled, images: Tensor) -> dict[str, Tensor]:
    """The model's output under every condition."""
    planned, sites, tap = compiled.planned, compiled.sites, compiled.output
    laid = [planned.conditions[0], *compiled.ablated]
    lanes = [lane_of(planned, c, sites, compiled.fitted) for c in laid]
    merged = merge(sites.model, sites.traced.graph, lanes, {lane.name: [tap] for lane in lanes})
    with computing(runner.device, runner.dtype):
        found = merged.module(images)
    return {lane.name: found[merged.slots[lane.name, tap]][0] for lane in lanes}


def _identity(runner: Runner, rows: range, found: Found) -> list[Check]:
    """Metrics of layers for each layer and itself, computed the way two different layers are."""
    checks = []
    for group in runner.groups:
        kind = group.kind
        wanted = kind.identity if isinstance(kind, Metric) and kind.fit() is None else None
        if (
            wanted is None
            or not isinstance(kind, Metric)
            or not any(view.x == BASELINE for view in group.views)
        ):
            continue
        x = runner.reads(group, "x", BASELINE, found)
        observed = kind.observe(Seen(x, list(x), rows=rows, paired=True))
        sums = {k: (v.sum(0) if k in kind.degrees else v).cpu().numpy() for k, v in observed.items()}
        values = kind.estimate(sums, group.x.sites)
        named = wanted if isinstance(wanted, Mapping) else dict.fromkeys(values, wanted)
        off = {
            name: float(np.nanmax(np.abs(values[name] - right)))
            for name, right in named.items()
            if name in values and not np.isnan(values[name]).all()
        }
        if not off:
            continue
        said = [
            f"{name} of each of the {values[name].size} layers of `{group.path}` with itself is {named[name]:g}"
            + (f" to {worst:.1g}" if worst else " exactly")
            for name, worst in off.items()
        ]
        worst = max(off.values())
        checks.append(
            Check(
                check="identity",
                model=group.x.model,
                ok=worst <= IDENTITY,
                value=worst,
                tolerance=IDENTITY,
                text="; ".join(said),
                about=group.path,
            )
        )
    return checks
