"""What a metric is: three pure functions over sites, and the facts a report needs.

    reduce   (tensors of a site)      -> small tensors    inside the graph, shared by all that need the same
    observe  (what a batch reduced to) -> statistics       additive sums over images, float64
    estimate (statistics, summed)     -> labelled arrays  vectorised over leading axes

Because statistics add, batches, shards and image blocks merge exactly, and leaving one group of images out gives
every metric an interval. Does not own: where tensors come from (`graph`), who sums and labels (`run`).
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt
from torch import Tensor

from vitdsl.dsl.study import Entry
from vitdsl.runtime.graph.site import Site
from vitdsl.runtime.graph.tap import Reducer
from vitdsl.runtime.kinds import Registry
from vitdsl.runtime.metrics._groups import by_group

Direction = Literal["higher", "lower", "none"]
Array = npt.NDArray[np.float64]

Reads = Sequence[tuple[Tensor, ...]]
"""What a reducer gave, one tuple of tensors for each site."""


@dataclass(frozen=True)
class Value:
    """One labelled number of a metric: dims (beside `condition`), meaning, unit, direction and range.

    Attributes:
        relative: It compares a condition with the intact model.
        share: It is a share of the images, or a difference of two such shares (its range tells): a count.
    """

    dims: tuple[str, ...]
    long_name: str
    units: str = "1"
    direction: Direction = "none"
    range: tuple[float | None, float | None] = (None, None)
    relative: bool = False
    share: bool = False


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
        rows: Positions of the images in their stream; those of a batch follow one another.
        paired: Compare site by site rather than every x with every y.
        fitted: The constants that the metric's `fit` gave for each site of x, under the condition of x.
    """

    x: Reads
    y: Reads | None = None
    intact: Reads | None = None
    labels: Tensor | None = None
    rows: range = range(0)
    paired: bool = False
    fitted: Reads = ()

    def by_group(self, values: Tensor) -> Tensor:
        """What belongs to each image, `[batch, ...]`, summed over each image group: `[GROUPS, ...]`."""
        return by_group(values, self.rows)


class Observer(ABC):
    """What looks at a stream: how tensors of sites reduce inside the graph, and what is kept of a batch.

    Attributes:
        name: The kind's name.
        version: Raised with every change of the numbers.
        Params: The kind's own fields in a study.
        inputs: What it looks at.
        labels: Whether it needs the images' labels.
        gradients: Whether its reduction differentiates; it then runs in a pass of its own.
        degrees: Names of the sums that it observes for each image group (`[GROUPS, ...]`, see `_groups`), all of them
            or none, with how many images a term joins: 1 for sums over images, 2 for sums over pairs of images. Without
            them, image blocks are what intervals leave out.
        rows: Names of what it observes that is kept for each image (`[batch, ...]`) and not summed. Sites differ in
            shape: `x` also stands for `x_0`, `x_1` and so on.
        smallest_batch: Fewer images in a batch carry nothing.
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1
    Params: ClassVar[type[Entry]] = Entry
    inputs: ClassVar[Inputs] = Inputs()
    labels: ClassVar[bool] = False
    gradients: ClassVar[bool] = False
    degrees: ClassVar[Mapping[str, int]] = {}
    rows: ClassVar[tuple[str, ...]] = ()
    smallest_batch: ClassVar[int] = 1

    def __init__(self, params: Entry) -> None:
        self.params = params

    @classmethod
    def keeps(cls, name: str) -> bool:
        """Whether what it observes under a name is kept for each image."""
        return name in cls.rows or name.rpartition("_")[0] in cls.rows

    @abstractmethod
    def reducer(self) -> Reducer:
        """What runs inside the graph, at each site."""

    @abstractmethod
    def observe(self, seen: Seen) -> dict[str, Tensor]:
        """Additive statistics of one batch, float64: sums over its images, by image group where the kind has `degrees`.

        Rows as `[batch, ...]`.
        """


class Fit(Observer):
    """What is known of some sites after a pass over images: constants of the passes that come.

    A kind says what it must know of the data before it can act or measure; the plan lays a pass over the images before
    the one that measures. Because a fit is made of sums, it is saved, resumed and dealt to processes as they are.
    """

    @abstractmethod
    def finish(self, statistics: Mapping[str, Array], sites: Sequence[Site]) -> list[tuple[Array, ...]]:
        """The constants of each site, from summed statistics without leading axes."""

    @abstractmethod
    def shapes(self, site: Site) -> tuple[tuple[int, ...], ...]:
        """Shapes of a site's constants, known before anything is computed."""


class Metric(Observer):
    """A kind of metric; one file in this folder. Its module's docstring is its page in `vitdsl explain`.

    Attributes:
        name: The kind's name, equal to the file's.
        VALUES: Its values by name.
        reference: Citation of its source.
        identity: For a metric of layers: what it gives for a layer and itself, checked in every run; by value where
            values differ, those that are named.
    """

    VALUES: ClassVar[Mapping[str, Value]]
    reference: ClassVar[str] = ""
    identity: ClassVar[float | Mapping[str, float] | None] = None

    def values(self, *, paired: bool) -> Mapping[str, Value]:
        """Its values by name; `paired` where conditions are compared with the intact model site by site."""
        return self.VALUES

    def fit(self) -> Fit | None:
        """What it must know before it can measure, of the sites of x under each condition; it is then in `Seen`."""
        return None

    def over(self) -> str | None:
        """The data entry that the fit is made on, such as training images; None for the images that are measured."""
        return None

    def refuse(self, site: Site) -> str | None:
        """Why this metric is not defined at a site, or None."""
        return None

    def row_size(self, sites: Sequence[Site]) -> int:
        """How many numbers it keeps of each image under one condition; a kind that keeps `rows` has to say."""
        if self.rows:
            raise NotImplementedError(f"`{self.name}` keeps rows and does not say how many numbers they are")
        return 0

    def rows_of_both(self, x: Sequence[Site], y: Sequence[Site], *, paired: bool) -> int:
        """The same for a metric of layers, of x and y, which are the same sites within one set of layers."""
        return self.row_size(x)

    def coordinates(self, sites: Sequence[Site]) -> dict[str, Sequence[str | int]]:
        """Labels of the dims of its own (those beside `condition` and the sites)."""
        return {}

    def line(self, value: str, sites: Sequence[Site]) -> tuple[float, str] | None:
        """A reference line for plots of a value, with its name, or None."""
        return None

    def line_of(self, value: str, images: int) -> tuple[float, str] | None:
        """A reference line that depends on the number of images, or None."""
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

    def estimate_each(
        self,
        sums: Mapping[str, Array],
        rows: Mapping[str, Array],
        kept: Sequence[npt.NDArray[np.intp]],
        sites: Sequence[Site],
    ) -> Iterator[dict[str, Array]]:
        """Values from some of the images at a time, for a kind that keeps rows; it may share what they have in common.

        Args:
            sums: `[condition, selection, ...]`.
            rows: Of all images, `[condition, image, ...]`.
            kept: For each selection, the images that it keeps, in order.
            sites: The sites of x.
        """
        for one, images in enumerate(kept):
            some = {name: array[:, one] for name, array in sums.items()}
            yield self.estimate(some | {name: array[:, images] for name, array in rows.items()}, sites)

    def undefined(self, statistics: Mapping[str, Array], x: Sequence[Site], y: Sequence[Site]) -> list[str]:
        """Why parts of the estimate are NaN, with the site's name (statistics without leading axes)."""
        return []


METRICS: Registry[Metric] = Registry("metrics", "vitdsl.runtime.metrics", Metric)
