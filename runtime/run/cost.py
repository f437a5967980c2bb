"""What a plan will cost, before it runs: work, what shared prefixes save, memory, passes. On the meta device."""

import math
from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from vitdsl.dsl.diagnostics import VitdslError
from vitdsl.runtime.plan.plan import Pass, Plan, PlannedModel, lanes_of
from vitdsl.runtime.results.manifest import Predicted
from vitdsl.runtime.results.split import Split
from vitdsl.runtime.run.calibration import Calibration
from vitdsl.runtime.run.compile import Compiled, compile_model
from vitdsl.runtime.run.inputs import stream_of
from vitdsl.runtime.run.needs import Needs, dealer, needs_of, split_of
from vitdsl.runtime.run.predict import Outlook, reading_seconds
from vitdsl.runtime.run.turns import Turn


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
        graphs: In how many graphs its conditions run, one after the other.
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
    graphs: int = 1


@dataclass(frozen=True)
class PassCost:
    """One pass over one stream; numbers are None where the source cannot be opened here.

    Attributes:
        split: How its conditions are dealt to several graphs; None where all run together.
    """

    data: str
    source: str
    images: int | None
    batch: int
    batches: int | None
    blocks: int | None
    models: tuple[str, ...]
    split: Split | None = None


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
            "passes": [asdict(one) | {"split": one.split and one.split.model_dump()} for one in self.passes],
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


def cost(plan: Plan, outlook: Outlook | None = None, room: float = math.inf) -> Cost:
    """Price a plan; compiles every model on the meta device.

    Args:
        plan: The plan.
        outlook: Told of every pass whose images are known in number.
        room: Bytes that a pass may take.
    """
    models, passes = [], []
    priced: dict[Hashable, tuple[Compiled, Needs]] = {}
    for one in plan.passes:
        data, entry, groups, used = one.data, plan.data[one.data], one.groups, one.models
        graphs: dict[str, Compiled] = {}
        needs: dict[str, Needs] = {}
        for name in used:
            planned = plan.models[name]
            alike = _alike(planned, one)
            if alike not in priced:
                compiled = compile_model(planned, planned.sites.model, groups)
                priced[alike] = compiled, needs_of(plan, one, compiled, groups)
            graphs[name], needs[name] = priced[alike]
        dealing = dealer(graphs, groups, needs, room)
        turns = dealing.deal()
        _take_apart(graphs, turns)
        for name, compiled in graphs.items():
            held = max(dealing.held(turn, name) for turn in turns)
            models.append(_priced(plan.models[name], one, compiled, needs[name].beside + held))
        images = plan.images.get(data)
        if outlook is not None and images is not None:
            outlook.passing(groups, graphs, entry.batch, images, _reading(plan, data, outlook))
        batches = -(-images // entry.batch) if images is not None else None
        blocks = min(entry.image_blocks, batches) if batches is not None else None
        size = images, entry.batch, batches, blocks
        passes.append(PassCost(one.title, entry.source, *size, used, split_of(one, graphs, dealing, turns)))
    return Cost(tuple(models), tuple(passes))


def _take_apart(graphs: dict[str, Compiled], turns: Sequence[Turn]) -> None:
    """Take models apart whose conditions run in several turns; those that are alike share what becomes of them."""
    if len(turns) == 1:
        return
    known: dict[Hashable, Compiled] = {}
    for name, compiled in graphs.items():
        dealt = tuple(
            (tuple(turn.of(name)), frozenset(at for model, at in turn.before if model == name))
            for turn in turns
        )
        key = id(compiled), dealt
        if key not in known:
            known[key] = replace(compiled)
            known[key].take_apart(dealt)
        graphs[name] = known[key]


def _priced(planned: PlannedModel, one: Pass, compiled: Compiled, memory: float) -> ModelCost:
    return ModelCost(
        planned.name,
        planned.title,
        one.title,
        len(compiled.ablated) + 1,
        len(planned.sites.units),
        compiled.work,
        compiled.separate,
        compiled.saved,
        memory,
        len(compiled.parts),
    )


def predicted(plan: Plan, calibration: Calibration, room: float = math.inf) -> tuple[Cost, Predicted]:
    """The cost of a plan, and what a run of it will take here, from nothing, where a pass may take so many bytes."""
    outlook = Outlook(calibration)
    price = cost(plan, outlook, room)
    outlook.models(plan)
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
