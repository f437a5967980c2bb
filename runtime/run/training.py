"""How long the trainings of a plan will take here.

Owns which models are still to be trained, and the sum. Does not own what a training takes (`train.cost`), how fast this
machine is (`calibration`), or the rest of a run (`predict`).
"""

from collections import Counter

from vitdsl.dsl.hashing import canonical
from vitdsl.dsl.source import placing
from vitdsl.runtime.graph.work import Op
from vitdsl.runtime.plan.plan import Plan, PlannedModel
from vitdsl.runtime.run.calibration import Calibration, shortest
from vitdsl.runtime.train.cost import calls_of, size_of
from vitdsl.runtime.train.store import find, recipe_key
from vitdsl.runtime.train.without import training_form

UPDATE = ("optimizer", "learning_rate", "weight_decay", "clip_grad", "label_smoothing")
"""What of a recipe decides what an update does."""
CHANNELS_FIRST = 1.5
"""How much longer convolutions take on the CPU where channels do not lie last, as in training: measured on ResNets."""


class Trainings:
    """The trainings of a plan on a machine of known speed; models that are alike are looked at once."""

    def __init__(self, plan: Plan, calibration: Calibration) -> None:
        self.plan, self.calibration = plan, calibration
        self._known: dict[str, Counter[Op] | None] = {}
        self._told: dict[str, float | None] = {}

    def missing(self) -> list[str]:
        """Models that a run would train, by name: those without stored weights, one for each recipe."""
        by_key: dict[str, str] = {}
        for name, planned in self.plan.own_models.items():
            if planned.ready is None and planned.entry.train is not None:
                with placing(self.plan.loaded.source, ("models", planned.base)):
                    by_key.setdefault(self._key(planned), name)
        return [name for key, name in by_key.items() if find(key) is None]

    def seconds(self, name: str) -> float | None:
        """How long it takes to train a model, with any seed; None where that cannot be told."""
        planned = self.plan.models[name]
        alike = canonical(planned.entry.model_dump(mode="json", exclude={"seed": True, "train": {"seed"}}))
        if alike not in self._told:
            self._told[alike] = self._seconds(planned)
        return self._told[alike]

    def _seconds(self, planned: PlannedModel) -> float | None:
        loaded, config = self.plan.loaded, planned.config
        classes = planned.sites.site("", "output").shape[-1]
        size = size_of(planned.entry, config, classes, seed=loaded.study.seed, folder=loaded.folder)
        if size is None or (calls := self._calls(planned, size.batch)) is None:
            return None
        if size.images is None:
            reading = self.calibration.decode
        else:
            images = size.images
            reading = shortest(lambda row: images[0, row], len(images)) / max(1, images.workers)
        update = sum(self._update(op) * count for op, count in calls.items())
        return size.updates * update + size.read * reading

    def _update(self, op: Op) -> float:
        slower = op.sort == "convolution" and self.calibration.machine.get("device") == "cpu"
        return self.calibration.seconds(op) * (CHANNELS_FIRST if slower else 1)

    def _calls(self, planned: PlannedModel, batch: int) -> Counter[Op] | None:
        """The calls of one update; None where the model does not compute without data."""
        model, form = planned.entry, training_form(planned)
        assert model.train is not None
        update = model.train.model_dump(include=set(UPDATE))
        alike = canonical(
            [model.arch, model.options, planned.config.input_size, batch, update, form.get("without")]
        )
        if alike not in self._known:
            try:
                self._known[alike] = calls_of(model, planned.config, batch, form.get("wrap"))
            except Exception:
                self._known[alike] = None
        return self._known[alike]

    def _key(self, planned: PlannedModel) -> str:
        without = training_form(planned).get("without", ())
        loaded = self.plan.loaded
        return recipe_key(planned.entry, seed=loaded.study.seed, folder=loaded.folder, without=without)
