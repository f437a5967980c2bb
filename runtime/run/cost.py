"""What a plan will cost, before it runs: work, what shared prefixes save, memory, passes. On the meta device."""

import math
from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from vitdsl.dsl.diagnostics import VitdslError
from vitdsl.runtime.metrics._base import Fit, Metric, Observer
from vitdsl.runtime.metrics._gram import u_gram
from vitdsl.runtime.metrics._kernels import kernel_gram
from vitdsl.runtime.plan.lanes import taps_of
from vitdsl.runtime.plan.plan import Group, Pass, Plan, PlannedModel, lanes_of
from vitdsl.runtime.results.manifest import Predicted
from vitdsl.runtime.run.calibration import Calibration
from vitdsl.runtime.run.compile import Compiled, compile_model
from vitdsl.runtime.run.inputs import stream_of
from vitdsl.runtime.run.predict import Outlook, reading_seconds

FLOAT = 4
NODE = 8_000
"""Bytes of a node of a merged graph with its code; measured on graphs of 500 to 200,000 nodes."""


@dataclass(frozen=True)
class ModelCost:
    """One model in one pass.

    Attributes:
        name: The model.
        arch: Its architecture.
        data: The pass.
        conditions: How many conditions it runs under.
        units: Its residual units.
        merged: Floating point operations for one image, all conditions together.
        separate: The same, each condition run alone.
        saved: Share that merging saves.
        memory: Bytes of weights, of activations alive at a time, of Gram matrices, and of a batch that is decoded
            meanwhile, in float32; of the graph itself, which counts with hundreds of conditions; of rows and of large
            sums.
    """

    name: str
    arch: str
    data: str
    conditions: int
    units: int
    merged: float
    separate: float
    saved: float
    memory: float


@dataclass(frozen=True)
class PassCost:
    """One pass over one stream; numbers are None where the source cannot be opened here."""

    data: str
    source: str
    images: int | None
    batch: int
    batches: int | None
    blocks: int | None
    models: tuple[str, ...]


@dataclass(frozen=True)
class Cost:
    """All passes and models of a plan."""

    models: tuple[ModelCost, ...]
    passes: tuple[PassCost, ...]

    @property
    def memory(self) -> float:
        """Bytes of the pass that takes most, all its models together."""
        return max(
            (sum(m.memory for m in self.models if m.data == one.data) for one in self.passes), default=0.0
        )

    def as_dict(self, plan: Plan) -> dict[str, Any]:
        """Ready for JSON, with the conditions and sites that the plan matched."""
        return {
            "study": plan.loaded.study.study,
            "conditions": {name: [c.id for c in model.conditions] for name, model in plan.own_models.items()},
            "models": [asdict(model) for model in self.models],
            "passes": [asdict(one) for one in self.passes],
            "results": [
                {
                    "path": group.path,
                    "kind": group.kind.name,
                    "x": [site.name for site in group.x.sites],
                    "y": [site.name for site in group.y.sites] if group.y is not group.x else None,
                    "under": [view.id for view in group.views],
                }
                for group in plan.groups
            ],
            "notes": list(plan.notes),
        }


def cost(plan: Plan, outlook: Outlook | None = None) -> Cost:
    """Price a plan; compiles every model on the meta device.

    Args:
        plan: The plan.
        outlook: Told of every pass whose images are known in number.
    """
    models, passes = [], []
    priced: dict[Hashable, tuple[ModelCost, Compiled]] = {}
    for one in plan.passes:
        data, entry, groups, used = one.data, plan.data[one.data], one.groups, one.models
        graphs: dict[str, Compiled] = {}
        for name in used:
            planned = plan.models[name]
            alike = _alike(planned, one)
            if alike in priced:
                known, graphs[name] = priced[alike]
                models.append(replace(known, name=name))
                continue
            compiled = graphs[name] = compile_model(planned, planned.sites.model, groups)
            memory = memory_of(plan, one, compiled, groups)
            found = ModelCost(
                name,
                planned.title,
                one.title,
                len(compiled.ablated) + 1,
                len(planned.sites.units),
                compiled.merged.work["merged"],
                compiled.merged.work["separate"],
                compiled.merged.saved,
                memory,
            )
            priced[alike] = found, compiled
            models.append(found)
        images = plan.images.get(data)
        if outlook is not None and images is not None:
            outlook.passing(groups, graphs, entry.batch, images, _reading(plan, data, outlook))
        batches = -(-images // entry.batch) if images is not None else None
        blocks = min(entry.image_blocks, batches) if batches is not None else None
        passes.append(PassCost(one.title, entry.source, images, entry.batch, batches, blocks, tuple(used)))
    return Cost(tuple(models), tuple(passes))


def memory_of(plan: Plan, one: Pass, compiled: Compiled, groups: Sequence[Group[Observer]]) -> float:
    """Bytes that a model takes in a pass, in float32: see `ModelCost`."""
    entry, planned = plan.data[one.data], compiled.planned
    grams = sum(tap.reducer.function in (u_gram, kernel_gram) for tap in _taps(compiled.merged.slots))
    weights = sum(parameter.numel() for parameter in planned.sites.model.parameters())
    alive = compiled.merged.kept if one.gradients else compiled.merged.live
    decoded = math.prod(planned.config.input_size)
    held = _held(groups, compiled, entry.batch)
    numbers = weights + entry.batch * (alive + decoded) + entry.batch**2 * grams + held
    graph = NODE * len(compiled.merged.module.graph.nodes)
    rows = _kept(groups, planned.name, plan.images.get(one.data, 0), entry.image_blocks)
    return FLOAT * numbers + graph + rows


def predicted(plan: Plan, calibration: Calibration) -> tuple[Cost, Predicted]:
    """The cost of a plan, and what a run of it will take here, from nothing."""
    outlook = Outlook(calibration)
    price = cost(plan, outlook)
    for model in plan.own_models.values():
        outlook.models(sum(parameter.numel() for parameter in model.sites.model.parameters()))
    outlook.report(plan)
    outlook.holds(price.memory)
    return price, outlook.predicted()


def _reading(plan: Plan, data: str, outlook: Outlook) -> float:
    """Seconds to read an image: measured where the images are here, and as of a photograph where they are not."""
    try:
        return reading_seconds(stream_of(plan, data))
    except VitdslError:
        configs = {plan.models[name].config for name in plan.models_on(data)}
        return outlook.calibration.decode * len(configs)


def _alike(planned: PlannedModel, one: Pass) -> Hashable:
    """What the cost of a model in a pass hangs on; models that differ in weights, seed or training alone share it."""
    read = tuple(
        (id(group.kind), reading.sites, reading.roles, tuple(lanes_of(group, planned.name)))
        for group in one.groups
        for reading in (group.x, group.y)
        if reading.model == planned.name
    )
    always = tuple((edit.kind.name, repr(edit.kind.params), edit.sites) for edit in planned.always)
    conditions = tuple(condition.id for condition in planned.conditions)
    return one.title, planned.base, id(planned.sites), planned.unfuse, always, conditions, read


def _kept(groups: Sequence[Group[Observer]], model: str, images: int, blocks: int) -> float:
    """Bytes of the rows that groups of a model keep of all images, and of large sums of all blocks, float64."""
    kept = 0
    for group in (group for group in groups if group.x.model == model):
        one_sum = isinstance(group.kind, Fit)
        each = group.kind.sum_size(group.x.sites) * (1 if one_sum else blocks)
        if isinstance(group.kind, Metric):
            of_image = group.kind.rows_of_both(group.x.sites, group.y.sites, paired=group.paired)
            each += of_image * images
        kept += each * len(group.views)
    return 2.0 * FLOAT * kept


def _held(groups: Sequence[Group[Observer]], compiled: Compiled, batch: int) -> int:
    """What kinds hold of a batch of one model, beside Gram matrices of layers; equal taps hold it once."""
    name, slots = compiled.planned.name, compiled.merged.slots
    found = {
        slots[lane, tap]: group.kind.held(tap.site, batch)
        for group in groups
        if group.x.model == name
        for tap in taps_of(compiled.sites, group.x, group)
        for lane in dict.fromkeys(view.x for view in group.views)
    }
    return sum(found.values())


def _taps(slots: Any) -> list[Any]:
    return list({position: tap for (_, tap), position in slots.items()}.values())
