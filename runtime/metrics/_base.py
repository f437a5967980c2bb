"""What a metric is: three pure functions over sites, and the facts a report needs.

    reduce   (tensors of a site)      -> small tensors    inside the graph, shared by all that need the same
    observe  (what a batch reduced to) -> statistics       additive sums over images, float64
    estimate (statistics, summed)     -> labelled arrays  vectorised over leading axes

Because statistics add, batches, shards and image blocks merge exactly, and leaving one image block out gives
every metric an interval. Does not own: where tensors come from (`graph`), who sums and labels (`run`).
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt
from torch import Tensor

from vitdsl.dsl.study import Entry
from vitdsl.runtime.graph.site import Site
from vitdsl.runtime.graph.tap import Reducer
from vitdsl.runtime.kinds import Registry

Direction = Literal["higher", "lower", "none"]
Array = npt.NDArray[np.float64]

Reads = Sequence[tuple[Tensor, ...]]
"""What a reducer gave, one tuple of tensors for each site."""


@dataclass(frozen=True)
class Value:
    """One labelled number of a metric: dims (beside `condition`), meaning, unit, direction and range.

    `relative` says that it compares a condition with the intact model.
    """

    dims: tuple[str, ...]
    long_name: str
    units: str = "1"
    direction: Direction = "none"
    range: tuple[float | None, float | None] = (None, None)
    relative: bool = False


@dataclass(frozen=True)
class Inputs:
    """What a kind of metric looks at.

    Attributes:
        of: `models` (fields `of`, and `at` where there is a choice) or `layers` (fields `x`, `y`, `against`).
        roles: For a metric of models: the tensors that reduce gets of each site, in order. `output` alone is the
            model's own output; any other role is read at every place that has it, or at those that `at` names.
        alone: For a metric of layers: it looks at each site by itself, and takes no `y` and no `against`.
        image: Whether reduce gets the images themselves behind a site's tensors.
    """

    of: Literal["models", "layers"] = "models"
    roles: tuple[str, ...] = ("output",)
    alone: bool = False
    image: bool = False

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields of a study that name the inputs, the needed one first."""
        if self.of == "layers":
            return ("x",) if self.alone else ("x", "y", "against")
        return ("of",) if self.roles == ("output",) else ("of", "at")


@dataclass(frozen=True)
class Seen:
    """What one batch reduced to, under one condition.

    Attributes:
        x: Of the sites of x, under the condition.
        y: For a metric of layers, of the sites of `y`; the same object as `x` within one set of layers; the intact
            model's where `paired`. None for a metric of models.
        intact: For a metric of models, the same sites of the intact model.
        labels: `[batch]`, where the metric needs them.
        rows: Positions of the images in their stream.
        paired: Compare site by site rather than every x with every y.
    """

    x: Reads
    y: Reads | None = None
    intact: Reads | None = None
    labels: Tensor | None = None
    rows: range = range(0)
    paired: bool = False


class Observer(ABC):
    """What looks at a stream: how tensors of sites reduce inside the graph, and what is kept of a batch.

    Attributes:
        name: The kind's name.
        version: Raised with every change of the numbers.
        Params: The kind's own fields in a study.
        inputs: What it looks at.
        labels: Whether it needs the images' labels.
        gradients: Whether its reduction differentiates; it then runs in a pass of its own.
        rows: Names of what it observes that is kept for each image (`[batch, ...]`) and not summed.
        smallest_batch: Fewer images in a batch carry nothing.
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1
    Params: ClassVar[type[Entry]] = Entry
    inputs: ClassVar[Inputs] = Inputs()
    labels: ClassVar[bool] = False
    gradients: ClassVar[bool] = False
    rows: ClassVar[tuple[str, ...]] = ()
    smallest_batch: ClassVar[int] = 1

    def __init__(self, params: Entry) -> None:
        self.params = params

    @abstractmethod
    def reducer(self) -> Reducer:
        """What runs inside the graph, at each site."""

    @abstractmethod
    def observe(self, seen: Seen) -> dict[str, Tensor]:
        """Additive statistics of one batch, float64, sums over its images; rows as `[batch, ...]`."""


class Metric(Observer):
    """A kind of metric; one file in this folder. Its module's docstring is its page in `vitdsl explain`.

    Attributes:
        name: The kind's name, equal to the file's.
        VALUES: Its values by name.
        reference: Citation of its source.
        identity: For a metric of layers: what it gives for a layer and itself, checked in every run.
    """

    VALUES: ClassVar[Mapping[str, Value]]
    reference: ClassVar[str] = ""
    identity: ClassVar[float | None] = None

    def values(self, *, paired: bool) -> Mapping[str, Value]:
        """Its values by name; `paired` where conditions are compared with the intact model site by site."""
        return self.VALUES

    def refuse(self, site: Site) -> str | None:
        """Why this metric is not defined at a site, or None."""
        return None

    def row_size(self, sites: Sequence[Site]) -> int:
        """How many numbers it keeps of each image under one condition; a kind that keeps `rows` has to say."""
        if self.rows:
            raise NotImplementedError(f"`{self.name}` keeps rows and does not say how many numbers they are")
        return 0

    def coordinates(self, sites: Sequence[Site]) -> dict[str, Sequence[str | int]]:
        """Labels of the dims of its own (those beside `condition` and the sites)."""
        return {}

    def line(self, value: str, sites: Sequence[Site]) -> tuple[float, str] | None:
        """A reference line for plots of a value, with its name, or None."""
        return None

    @abstractmethod
    def estimate(self, statistics: Mapping[str, Array], sites: Sequence[Site]) -> dict[str, Array]:
        """Values from summed statistics.

        Args:
            statistics: As observe named them, each with the same leading axes before its own; rows of all images
                one behind the other, `[condition, image, ...]`.
            sites: The sites of x.

        Returns:
            For each of `values`, an array with the leading axes, then its dims.
        """

    def undefined(self, statistics: Mapping[str, Array], x: Sequence[Site], y: Sequence[Site]) -> list[str]:
        """Why parts of the estimate are NaN, with the site's name (statistics without leading axes)."""
        return []


METRICS: Registry[Metric] = Registry("metrics", "vitdsl.runtime.metrics", Metric)
