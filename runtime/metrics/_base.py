"""What a metric is: three pure functions over sites, and the facts a report needs.

    reduce   (tensors of a site)      -> small tensors    inside the graph, shared by all that need the same
    observe  (what a batch reduced to) -> statistics       additive sums over images, float64
    estimate (statistics, summed)     -> labelled arrays  vectorised over leading axes

Because statistics add, batches, shards and image blocks merge exactly, and leaving one group of images out gives
every metric an interval. Does not own: where tensors come from (`graph`), who sums and labels (`run`).

Longer than 300 lines: the contract of a metric is read as one.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

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
        share: It is a mean over images of what lies between the ends of its range for each: `images`, where each counts
            or does not (or a difference of two such shares); `parts`, where it is a share of each image's tokens.
        correlation: It is like a correlation, so that intervals are made on Fisher's z scale.
        example: It shows single images, and is made of `examples` alone: it has no interval, and stands in no table.
        pictured_by: It names images by their position in the stream; the value that says how strongly. The report
            shows the strongest.
        interval: Whether leaving images out tells how sure it is. Not of what is read off single images.
    """

    dims: tuple[str, ...]
    long_name: str
    units: str = "1"
    direction: Direction = "none"
    range: tuple[float | None, float | None] = (None, None)
    relative: bool = False
    share: Literal["", "images", "parts"] = ""
    correlation: bool = False
    example: bool = False
    interval: bool = True
    pictured_by: str = ""

    def attributes(self) -> dict[str, Any]:
        """What results say of it, as attributes of its array."""
        found: dict[str, Any] = {
            "long_name": self.long_name,
            "units": self.units,
            "direction": self.direction,
        }
        ends = zip(("valid_min", "valid_max"), self.range, strict=True)
        found |= {name: end for name, end in ends if end is not None}
        found |= {"share": self.share} if self.share else {}
        found |= {} if self.interval else {"single": 1}
        found |= {"pictured_by": self.pictured_by} if self.pictured_by else {}
        return found | ({"scale": "z"} if self.correlation else {}) | ({"example": 1} if self.example else {})


@dataclass(frozen=True)
class Inputs:
    """What a kind of metric looks at.

    Attributes:
        of: `models` (fields `of`, and `at` where there is a choice) or `layers` (fields `x`, `y`, `against`).
        roles: For a metric of models: the tensors that reduce gets of each site, in order. `output` alone is the
            model's own output; any other role is read at every place that has it, or at those that `at` names. For a
            metric of layers, where it is not `output` alone: the role that the layers `x` must have, and what reduce
            gets of their sites after it.
        alone: For a metric of layers: it looks at each site by itself, and takes no `y` and no `against`.
        unlike: For a metric of layers: `x` and `y` are two things, each with a reducer of its own. It needs `y`, and
            takes no `against`.
        image: Whether reduce gets the images themselves behind a site's tensors.
    """

    of: Literal["models", "layers"] = "models"
    roles: tuple[str, ...] = ("output",)
    alone: bool = False
    unlike: bool = False
    image: bool = False

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields of a study that name the inputs, those that are needed first."""
        if self.of == "layers":
            return ("x",) if self.alone else ("x", "y") if self.unlike else ("x", "y", "against")
        return ("of", "against") if self.roles == ("output",) else ("of", "at")

    @property
    def needed(self) -> tuple[str, ...]:
        """Those of the fields that a study must have."""
        return self.fields if self.unlike else self.fields[:1]


@dataclass(frozen=True)
class Seen:
    """What one batch reduced to, under one condition.

    Attributes:
        x: Of the sites of x, under the condition.
        y: For a metric of layers, of the sites of `y`; the same object as `x` within one set of layers; the intact
            model's where `paired`. None for a metric of models.
        intact: For a metric of models, the same sites of the intact model.
        labels: `[batch]`, where the metric needs them.
        nth: `[batch]`, how many images of its own class stand before each in the stream; where there are labels.
        classes: How many classes the labels are of; 0 without labels.
        rows: Positions of the images in their stream; those of a batch follow one another.
        paired: Compare site by site rather than every x with every y.
        fitted: The constants that its `fit` gave for each site of x, under the condition of x, float64; behind those of
            the fit's own fit, where it has one.
    """

    x: Reads
    y: Reads | None = None
    intact: Reads | None = None
    labels: Tensor | None = None
    nth: Tensor | None = None
    classes: int = 0
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
        examples: Names of what it observes of a few images, each at a place of its own in the sum: they have no image
            groups, and are never left out.
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
    examples: ClassVar[tuple[str, ...]] = ()
    rows: ClassVar[tuple[str, ...]] = ()
    smallest_batch: ClassVar[int] = 1

    def __init__(self, params: Entry) -> None:
        self.params = params

    @classmethod
    def keeps(cls, name: str) -> bool:
        """Whether what it observes under a name is kept for each image."""
        return name in cls.rows or name.rpartition("_")[0] in cls.rows

    def fit(self) -> "Fit | None":
        """What it must know before it can observe, of the sites of x under each condition; it is then in `Seen`."""
        return None

    def over(self) -> str | None:
        """The data entry that its fit is made on, such as training images; None for the images that it looks at."""
        return None

    @abstractmethod
    def reducer(self) -> Reducer:
        """What runs inside the graph, at each site."""

    def reducer_y(self) -> Reducer:
        """What runs at the sites of `y`, where they are unlike those of `x`."""
        return self.reducer()

    def sum_size(self, sites: Sequence[Site]) -> int:
        """How many numbers its sums are under one condition and image block, where memory has to know; otherwise 0.

        Of a fit, whose image blocks are summed at once, under one condition.
        """
        return 0

    def held(self, site: Site, batch: int) -> int:
        """How many numbers it holds of a batch at a site of `x` until the batch is summed; a kind says if many."""
        return 0

    @abstractmethod
    def observe(self, seen: Seen) -> dict[str, Tensor]:
        """Additive statistics of one batch, float64: sums over its images, by image group where the kind has `degrees`.

        Rows as `[batch, ...]`.
        """


class Fit(Observer):
    """What is known of some sites after a pass over images: constants of the passes that come.

    A kind says what it must know of the data before it can act or measure; the plan lays a pass over the images before
    the one that measures. Because a fit is made of sums, it is saved, resumed and dealt to processes as they are. A fit
    of a metric may need a fit itself: each is a pass of its own, on the same images unless it says which.
    """

    @abstractmethod
    def finish(self, statistics: Mapping[str, Array], sites: Sequence[Site]) -> list[tuple[Array, ...]]:
        """The constants of each site, from summed statistics without leading axes."""

    def shapes(self, site: Site) -> tuple[tuple[int, ...], ...]:
        """Shapes of a site's constants, known before anything is computed; an ablation's fit has to say."""
        raise NotImplementedError(f"`{self.name}` does not say the shapes of its constants")


class Metric(Observer):
    """A kind of metric; one file in this folder. Its module's docstring is its page in `vitdsl explain`.

    Attributes:
        name: The kind's name, equal to the file's.
        VALUES: Its values by name.
        reference: Citation of its source.
        cites: Keys of the works that it takes its definition from, in `runtime/results/references.bib`.
        together: For a metric of models that joins their sites into one: where it refuses one site of a model and `at`
            names none, it refuses the model, and does not go on without the site.
        identity: For a metric of layers: what it gives for a layer and itself, checked in every run; by value where
            values differ, those that are named.
    """

    VALUES: ClassVar[Mapping[str, Value]]
    reference: ClassVar[str] = ""
    cites: ClassVar[tuple[str, ...]] = ()
    together: ClassVar[bool] = False
    identity: ClassVar[float | Mapping[str, float] | None] = None

    def values(self, *, paired: bool) -> Mapping[str, Value]:
        """Its values by name; `paired` where conditions are compared with the intact model site by site."""
        return self.VALUES

    def refuse(self, site: Site) -> str | None:
        """Why this metric is not defined at a site, or None; asked for every role that it reads of it."""
        return None

    def refuse_y(self, site: Site) -> str | None:
        """Why this metric is not defined at a site of `y`, or None."""
        return self.refuse(site)

    def refuse_together(self, sites: Sequence[Site]) -> str | None:
        """Why it is not defined for the sites of `x` as a set, each of which it could read alone, or None."""
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

    def line_seen(
        self, value: str, statistics: Mapping[str, Array], sites: Sequence[Site]
    ) -> tuple[float, str] | None:
        """A reference line that only images tell, such as chance; statistics as in `estimate`, of all conditions."""
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
