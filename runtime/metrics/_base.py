"""What a metric is: three pure functions over sites, and the facts a report needs.

    reduce   (tensors of a site)      -> small tensors    inside the graph, shared by all that need the same
    observe  (reduced, per batch)     -> statistics       additive sums over images, float64
    estimate (statistics, summed)     -> labelled arrays  vectorised over leading axes

Because statistics add, batches, shards and image blocks merge exactly, and leaving one image block out gives
every metric an interval. Does not own: where tensors come from (`compile`), who sums (`statistics`), labels
(`estimates`).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt
from torch import Tensor

from vitdsl.dsl.study import Entry
from vitdsl.runtime.kinds import Registry

Layout = Literal["tokens", "map", "map_last", "vector", "attention", "windows", "other"]
Direction = Literal["higher", "lower", "none"]
Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Site:
    """A named place in a model's graph, as a reducer sees it; hashable, so that equal reductions are shared.

    Attributes:
        name: Its path, such as `blocks.3.attn`.
        role: Which tensor of it is read.
        shape: Shape of one image's tensor, without the batch.
        layout: What its axes are: tokens `[token, width]`, map `[width, row, col]`, map_last `[row, col,
            width]`, vector `[width]`, attention `[head, query, key]`; windows: the first axis is not the
            image.
        depth: Where it stands in the model, 0 (first) to 1 (last).
        prefix: Number of prefix tokens (class, registers) before the spatial ones; 0 where there are none.
        class_token: Whether token 0 is a class token.
        grid: Rows and columns of the spatial tokens, None where unknown.
        patch: Height and width of a patch in pixels of the model's input, None where unknown.
        tokens: Which tokens a layer selects.
    """

    name: str
    role: str
    shape: tuple[int, ...]
    layout: Layout
    depth: float
    prefix: int = 0
    class_token: bool = False
    grid: tuple[int, int] | None = None
    patch: tuple[int, int] | None = None
    tokens: str | tuple[int, ...] = "all"


@dataclass(frozen=True)
class Reducer:
    """`function(*tensors, site=site, **constants)`, pure, from a site's tensors to small ones.

    The function sees batch-first tensors in the model's dtype and must compute in float32 or better.
    """

    function: Callable[..., Tensor | tuple[Tensor, ...]]
    constants: tuple[tuple[str, Hashable], ...] = ()


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


class Metric(ABC):
    """A kind of metric; one file in this folder. Its module's docstring is its page in `vitdsl explain`.

    Attributes:
        name: The kind's name, equal to the file's.
        version: Raised with every change of the numbers.
        Params: The kind's own fields in a study.
        takes: `models` (fields `of`, `at`) or `layers` (fields `x`, `y`, `against`).
        places: For a metric of models: what `at` selects: the model's `output`, its `units`, or its
            `attention`.
        roles: For a metric of models: the tensors that reduce gets of each site, in order.
        labels: Whether it needs the images' labels.
        VALUES: Its values by name.
        reference: Citation of its source.
        identity: For a metric of layers: what it gives for a layer and itself, checked in every run.
        smallest_batch: Fewer images in a batch carry nothing.
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1
    Params: ClassVar[type[Entry]] = Entry
    takes: ClassVar[Literal["models", "layers"]] = "models"
    places: ClassVar[Literal["output", "units", "attention"]] = "output"
    roles: ClassVar[tuple[str, ...]] = ("output",)
    labels: ClassVar[bool] = False
    VALUES: ClassVar[Mapping[str, Value]]
    reference: ClassVar[str] = ""
    identity: ClassVar[float | None] = None
    smallest_batch: ClassVar[int] = 1

    def __init__(self, params: Entry) -> None:
        self.params = params

    def values(self, *, paired: bool) -> Mapping[str, Value]:
        """Its values by name; `paired` where conditions are compared with the intact model site by site."""
        return self.VALUES

    def refuse(self, site: Site) -> str | None:
        """Why this metric is not defined at a site, or None."""
        return None

    def coordinates(self, sites: Sequence[Site]) -> dict[str, Sequence[str | int]]:
        """Labels of the dims of its own (those beside `condition` and the sites)."""
        return {}

    def line(self, value: str, sites: Sequence[Site]) -> tuple[float, str] | None:
        """A reference line for plots of a value, with its name, or None."""
        return None

    @abstractmethod
    def reducer(self) -> Reducer:
        """What runs inside the graph, at each site."""

    @abstractmethod
    def observe(self, x: Reads, y: Reads | None, *, labels: Tensor | None, paired: bool) -> dict[str, Tensor]:
        """Additive statistics of one batch, float64, sums over its images.

        Args:
            x: Reduced tensors of the sites, under the condition.
            y: For a metric of models, the same sites of the intact model. For a metric of layers, those of
                `y`; the same object as `x` within one set of layers; the intact model's where `paired`.
            labels: `[batch]`, where the metric needs them.
            paired: Compare site by site rather than every x with every y.
        """

    @abstractmethod
    def estimate(self, statistics: Mapping[str, Array], sites: Sequence[Site]) -> dict[str, Array]:
        """Values from summed statistics.

        Args:
            statistics: As observe named them, each with the same leading axes before its own.
            sites: The sites of x.

        Returns:
            For each of `values`, an array with the leading axes, then its dims.
        """

    def undefined(self, statistics: Mapping[str, Array], x: Sequence[Site], y: Sequence[Site]) -> list[str]:
        """Why parts of the estimate are NaN, with the site's name (statistics without leading axes)."""
        return []


METRICS: Registry[Metric] = Registry("metrics", "vitdsl.runtime.metrics", Metric)
