"""How long a run will take and how much memory, from the work of its passes and the speed of this machine.

Owns the sum: what is read, what the graphs and metrics compute, the first batch's checks, and what is in proportion to
Python's speed (graphs, estimates, figures). What starting Python and PyTorch takes is not in it, as it is not in the
time that a run says. Does not own the work (`dry`, `differentiated`), the speed (`calibration`), the memory of one
model (`cost`), or what training takes (`training`).
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from vitdsl.runtime.data.decoding import Decoder
from vitdsl.runtime.data.stream import Stream
from vitdsl.runtime.metrics._base import Observer
from vitdsl.runtime.models.preprocessing import ByImage, transform
from vitdsl.runtime.plan.plan import Group, Plan
from vitdsl.runtime.results.manifest import Predicted
from vitdsl.runtime.run.calibration import Calibration, shortest
from vitdsl.runtime.run.compile import Compiled
from vitdsl.runtime.run.differentiated import Calls
from vitdsl.runtime.run.dry import Dry
from vitdsl.runtime.run.memory import peak_memory
from vitdsl.runtime.run.training import Trainings
from vitdsl.runtime.run.trust import EFFECT_IMAGES, PLAIN_IMAGES

PYTHON = 1.6e-3
"""`Calibration.python` of the machine on which the next three were measured."""
NODE, PARAMETER = 1.2e-4, 1.5e-8
"""Seconds to make a node of a graph, and to make, draw or read, and hash a parameter."""
GROUP, VIEW, CLAIM, FIGURE = 0.005, 0.001, 0.3, 0.32
"""Seconds to estimate a group, for each of its views more, to judge a claim, and to draw what is shown of a group."""
MOST_FIGURES = 4
"""Groups of a metric whose figures are counted; of more, figures show several at once."""


@dataclass
class Outlook:
    """What is known of a run by now; told of each pass once its graphs are there."""

    calibration: Calibration
    parts: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    unknown: set[str] = field(default_factory=set)
    dry: Dry = field(default_factory=Dry)
    before: float = field(default_factory=lambda: peak_memory() or 0.0)
    memory: float = 0.0

    @property
    def python(self) -> float:
        """How much slower than on the machine of `PYTHON` what is in proportion to Python's speed is."""
        return self.calibration.python / PYTHON

    def passing(
        self,
        groups: Sequence[Group[Observer]],
        compiled: Mapping[str, Compiled],
        batch: int,
        images: int,
        reading: float,
    ) -> None:
        """A pass over so many images.

        Args:
            groups: What is measured.
            compiled: The models' graphs.
            batch: Images of a batch.
            images: Images that are still to be computed.
            reading: Seconds to read one image for all models.
        """
        work = self.dry.work(groups, compiled, batch)
        self.unknown |= work.unknown
        seconds = images * reading + images / batch * self._seconds(work.metrics)
        distinct = {id(one): one for one in compiled.values()}
        for name, one in compiled.items():
            each = self._seconds(work.models[name])
            alone = one.separate / len(one.lanes) / one.work if one.work else 1.0
            checked = alone * PLAIN_IMAGES + (EFFECT_IMAGES if len(one.lanes) > 1 else 0)
            seconds += each * (images + checked) / batch
        nodes = sum(one.nodes for one in distinct.values())
        self.parts["images"] += seconds + NODE * nodes * self.python
        self.parts["estimates"] += sum(GROUP + VIEW * len(group.views) for group in groups) * self.python

    def models(self, plan: Plan) -> None:
        """Models are made, and those trained that have no weights yet."""
        for model in plan.own_models.values():
            parameters = sum(parameter.numel() for parameter in model.sites.model.parameters())
            self.parts["models"] += PARAMETER * parameters * self.python
        trainings = Trainings(plan, self.calibration)
        for name in trainings.missing():
            if (seconds := trainings.seconds(name)) is None:
                self.unknown.add(f"training {name}")
            else:
                self.parts["training"] += seconds

    def report(self, plan: Plan) -> None:
        """Claims are judged, and a report is drawn."""
        metrics = Counter(group.metric for group in plan.groups)
        shown = sum(min(count, MOST_FIGURES) for count in metrics.values())
        self.parts["estimates"] += CLAIM * len(plan.loaded.study.claims) * self.python
        self.parts["drawing"] += FIGURE * shown * self.python

    def holds(self, memory: float) -> None:
        """A pass takes so many bytes beside what Python and PyTorch take."""
        self.memory = max(self.memory, memory)

    def predicted(self) -> Predicted:
        """The prediction."""
        return Predicted(
            seconds=sum(self.parts.values()),
            memory=self.before + self.memory,
            calibrated_at=self.calibration.made_at,
            parts=dict(self.parts),
            unknown=tuple(sorted(self.unknown)),
        )

    def _seconds(self, calls: Calls) -> float:
        return sum(self.calibration.seconds(op) * count for op, count in calls.items())


def reading_seconds(stream: Stream) -> float:
    """How long it takes to read an image of a stream and make it ready for all models: the shortest of a few."""
    configs = dict.fromkeys(
        config for config in stream.transforms.values() if not isinstance(config, ByImage)
    )
    decoder = Decoder(stream.source, stream.order, [transform(config) for config in configs])

    def read(row: int) -> None:
        stream.source.content(stream.order[row])
        decoder[row]

    return shortest(read, stream.n) / max(1, stream.workers)
