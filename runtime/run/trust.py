"""Trust checks: what every run shows about its own numbers before it reports them.

The compiled intact model gives the plain model's output; a layer's CKA with itself is 1; every ablation changed
something. A check that must hold and does not stops the run (VD501): its numbers would be wrong.
"""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from vitdsl.dsl.diagnostics import Diagnostic, EnvironmentProblem
from vitdsl.dsl.study import BASELINE
from vitdsl.runtime.data.stream import Batch
from vitdsl.runtime.graph.merge import merge
from vitdsl.runtime.metrics._base import Metric, Seen
from vitdsl.runtime.results.manifest import Check
from vitdsl.runtime.run.compile import Compiled
from vitdsl.runtime.run.execute import Gave, Runner, computing
from vitdsl.runtime.run.overflow import check_finite
from vitdsl.runtime.run.turns import Turn

EQUAL = {"float32": 1e-4, "tf32": 1e-2, "bf16": 5e-2, "fp16": 1e-2}
"""Largest difference of outputs, relative to their largest value, by dtype."""
IDENTITY = 1e-6
PLAIN_IMAGES = 4
"""So many images of the first batch go through the plain model: enough to see a wrong graph, and that an image's
output does not hang on the others of its batch."""
ALONE_IMAGES = 16
"""So many go through one by one where the program could not be followed, and may decide by a whole batch."""
EFFECT_IMAGES = 4
EFFECT = "effect"
Found = Mapping[str, Gave]


class FirstBatch:
    """All checks on the first batch of a stream, as the turns of its conditions give what they look at.

    Args:
        runner: The compiled models and the groups.
    """

    def __init__(self, runner: Runner) -> None:
        self.runner = runner

    def __call__(self, batch: Batch, images: Mapping[str, Tensor], found: Found, turn: Turn) -> None:
        """Check what a turn gave; the first turn begins anew.

        Raises:
            EnvironmentProblem: One that must hold does not (VD501); a model gives no numbers (VD506).
        """
        runner = self.runner
        if turn is runner.turns[0]:
            self.outputs: dict[str, Check] = {}
            self.intact: dict[str, Tensor] = {}
            self.changes: dict[str, dict[str, float]] = {name: {} for name in runner.models}
            self.identities: dict[str, Check] = {}
        checks: list[Check] = []
        for name, compiled in runner.models.items():
            lanes = turn.of(name)
            if BASELINE in lanes:
                self.intact[name] = found[name][compiled.slots[BASELINE, compiled.output]][0]
                self.outputs[name] = _same_output(runner, compiled, images[name], self.intact[name])
                checks.append(self.outputs[name])
            ablated = [c.id for c in compiled.ablated if c.id in lanes]
            if ablated:
                self.changes[name] |= _changes(
                    runner, compiled, ablated, images[name], found[name], self.intact[name]
                )
        begun = {name for name in runner.models if BASELINE in turn.of(name)}
        identities = _identities(runner, batch.rows, found, begun)
        self.identities |= identities
        _stop_unless(ok=[*checks, *identities.values()])
        self.images = len(batch.rows)

    @property
    def checks(self) -> list[Check]:
        """All checks after the last turn, in the order of models and groups, whatever the turns were."""
        found = []
        for name, compiled in self.runner.models.items():
            found.append(self.outputs[name])
            if self.changes[name]:
                count = self.images if _outputs_are_read(compiled) else min(EFFECT_IMAGES, self.images)
                changes = {c.id: self.changes[name][c.id] for c in compiled.ablated}
                found.append(effect(name, changes, [count] * len(changes)))
        groups = (group.path for group in self.runner.groups)
        return [*found, *(self.identities[path] for path in groups if path in self.identities)]


def _stop_unless(ok: Sequence[Check]) -> None:
    failed = [check for check in ok if check.required and not check.ok]
    if failed:
        raise EnvironmentProblem(
            Diagnostic(
                "VD501",
                f"trust check failed: {check.text}",
                help=("the run was stopped, since its numbers would be wrong; please report it",),
            )
            for check in failed
        )


def _same_output(runner: Runner, compiled: Compiled, images: Tensor, ours: Tensor) -> Check:
    """The compiled intact model against the plain one; skipped edits of training are part of both."""
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


def _outputs_are_read(compiled: Compiled) -> bool:
    """Whether the model's output is read under every condition, and need not be computed for its check."""
    return all((c.id, compiled.output) in compiled.slots for c in compiled.ablated)


def _changes(
    runner: Runner, compiled: Compiled, ids: Sequence[str], images: Tensor, found: Gave, intact: Tensor
) -> dict[str, float]:
    """The largest change of the model's output under each of some conditions."""
    if _outputs_are_read(compiled):
        outputs = {id: found[compiled.slots[id, compiled.output]][0] for id in ids}
    else:
        outputs = _outputs(runner, compiled, ids, images[:EFFECT_IMAGES])
        intact = outputs.pop(BASELINE)
    return {id: float((output - intact).abs().max()) for id, output in outputs.items()}


def effect(name: str, changes: Mapping[str, float], counts: Sequence[float]) -> Check:
    """The smallest change of a model's output over its ablations.

    Args:
        name: The model.
        changes: For each condition the largest change of an output.
        counts: For each, on how many images it was looked at.
    """
    least = min(changes, key=lambda id: changes[id])
    idle = [id for id, change in changes.items() if change == 0]
    few, many = round(min(counts)), round(max(counts))
    text = (
        f"each of the {len(changes)} ablations of `{name}` changes its output on "
        f"{few}{f' to {many}' if many > few else ''} images; least, by {changes[least]:.2g}: `{least}`"
        if not idle
        else f"{len(idle)} of {len(changes)} ablations of `{name}` change nothing: "
        + ", ".join(f"`{id}`" for id in idle[:3])
    )
    return Check(
        check=EFFECT,
        model=name,
        ok=not idle,
        value=changes[least],
        tolerance=0.0,
        text=text,
        required=False,
        about=f"{len(changes)} conditions",
        conditions=tuple(changes),
        parts=tuple(("", change, count) for change, count in zip(changes.values(), counts, strict=True)),
    )


def _outputs(runner: Runner, compiled: Compiled, ids: Sequence[str], images: Tensor) -> dict[str, Tensor]:
    """The model's output under some conditions and without."""
    sites, tap = compiled.sites, compiled.output
    lanes = [compiled.lanes[id] for id in (BASELINE, *ids)]
    merged = merge(sites.model, sites.traced.graph, lanes, {lane.name: [tap] for lane in lanes})
    with computing(runner.device, runner.dtype):
        found = merged.module(images)
    return {lane.name: found[merged.slots[lane.name, tap]][0] for lane in lanes}


def _identities(runner: Runner, rows: range, found: Found, models: Collection[str]) -> dict[str, Check]:
    """Metrics of layers of some models for each layer and itself, computed the way two different layers are."""
    checks = {}
    for group in runner.groups:
        kind = group.kind
        wanted = kind.identity if isinstance(kind, Metric) and kind.fit() is None else None
        if (
            wanted is None
            or not isinstance(kind, Metric)
            or group.x.model not in models
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
        checks[group.path] = Check(
            check="identity",
            model=group.x.model,
            ok=worst <= IDENTITY,
            value=worst,
            tolerance=IDENTITY,
            text="; ".join(said),
            about=group.path,
            conditions=(next(view.id for view in group.views if view.x == BASELINE),),
        )
    return checks
