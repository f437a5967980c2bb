"""Metrics of two layers that see all images at once: what they keep of each image, and how layers meet.

A kind says what it makes of all images' features of a site once (`known`), what of that belongs to some of the images
(`form`), and what two such forms say of their layers (`compare`). What is left out at a time is chosen from what is
known, so that products over features are made once. Does not own any comparison (the kinds), nor how rows are kept,
bounded and left out (`run.statistics`, `plan.bind_memory`).
"""

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from torch import Tensor

from vitdsl.runtime.graph.site import Site
from vitdsl.runtime.graph.tap import Reducer
from vitdsl.runtime.graph.tokens import prefix_of, refuse_tokens, select, token_count
from vitdsl.runtime.metrics._base import Array, Inputs, Metric, Seen, Value
from vitdsl.runtime.metrics._gram import CONSTANT

Chosen = npt.NDArray[np.intp] | slice
EVERY = slice(None)


class Pairs(Metric):
    """A metric of pairs of layers that keeps the selected tokens' features of every image.

    Attributes:
        symmetric: Whether two layers compare the same in either order.
    """

    inputs = Inputs("layers")
    symmetric: ClassVar[bool] = True
    rows: ClassVar[tuple[str, ...]] = ("x", "y", "intact")

    @abstractmethod
    def known(self, features: Array, removed: int) -> Any:
        """What is made once of all images' features `[image, feature]`.

        Args:
            features: Of one site; all of them finite.
            removed: So many images are left out at a time, at most.
        """

    @abstractmethod
    def form(self, known: Any, images: Chosen) -> Any:
        """What a site's comparisons need of some images."""

    @abstractmethod
    def compare(self, x: Any, y: Any) -> dict[str, float]:
        """The values of two sites, from their forms; NaN where undefined."""

    def why_undefined(self, features: Array) -> str | None:
        """Why a site with finite features `[image, feature]` has no values, such as `is constant`, or None."""
        return None

    def values(self, *, paired: bool) -> Mapping[str, Value]:
        """Matrices over sites, or one number for each site where `paired`."""
        return (
            {name: replace(v, dims=("site",)) for name, v in self.VALUES.items()} if paired else self.VALUES
        )

    def refuse(self, site: Site) -> str | None:
        """Any site whose first axis is the image, with the tokens that the layer selects."""
        return refuse_tokens(site)

    def row_size(self, sites: Sequence[Site]) -> int:
        """The selected features of every site."""
        return sum(map(feature_count, sites))

    def rows_of_both(self, x: Sequence[Site], y: Sequence[Site], *, paired: bool) -> int:
        """Those of y as well, unless it is x under the same condition."""
        return self.row_size(x) if y is x and not paired else self.row_size(x) + self.row_size(y)

    def reducer(self) -> Reducer:
        """The selected tokens' features."""
        return Reducer(features_of)

    def observe(self, seen: Seen) -> dict[str, Tensor]:
        """The features of every image; sites differ in width, so each has a name of its own."""
        assert seen.y is not None
        found = {f"x_{i}": one for i, (one,) in enumerate(seen.x)}
        if seen.y is not seen.x:
            side = "intact" if seen.paired else "y"
            found |= {f"{side}_{i}": one for i, (one,) in enumerate(seen.y)}
        return {name: features.double() for name, features in found.items()}

    def estimate(self, statistics: Mapping[str, Array], sites: Sequence[Site]) -> dict[str, Array]:
        """Every x with every y, or site by site; the leading axes one by one."""
        lead = statistics["x_0"].shape[:-2]
        each = [
            next(self._of_one({name: array[at] for name, array in statistics.items()}, [EVERY], 0))
            for at in np.ndindex(lead)
        ]
        return {
            name: np.stack([one[name] for one in each]).reshape(*lead, *each[0][name].shape)
            for name in each[0]
        }

    def estimate_each(
        self,
        sums: Mapping[str, Array],
        rows: Mapping[str, Array],
        kept: Sequence[npt.NDArray[np.intp]],
        sites: Sequence[Site],
    ) -> Iterator[dict[str, Array]]:
        """The same from some images at a time; what is known of all of them is made once."""
        conditions, images = rows["x_0"].shape[:2]
        removed = images - min(len(one) for one in kept)
        each = [
            list(self._of_one({name: array[at] for name, array in rows.items()}, kept, removed))
            for at in range(conditions)
        ]
        for found in zip(*each, strict=True):
            yield {name: np.stack([one[name] for one in found]) for name in found[0]}

    def _of_one(
        self, rows: Mapping[str, Array], kept: Sequence[Chosen], removed: int
    ) -> Iterator[dict[str, Array]]:
        """The values under one condition, from some of the images at a time."""
        made = {name: self._made(features, removed) for name, features in rows.items()}
        sides = {
            side: [made[f"{side}_{i}"] for i in range(sum(name.rpartition("_")[0] == side for name in made))]
            for side in self.rows
        }
        for images in kept:
            x, y, intact = (
                [None if known is None else self.form(known, images) for known in sides[side]]
                for side in self.rows
            )
            yield self._paired(x, intact) if intact else self._crossed(x, y or x)

    def _made(self, features: Array, removed: int) -> Any:
        """What is known of a site; None where nothing can be."""
        return None if not features.size or not np.isfinite(features).all() else self.known(features, removed)

    def _paired(self, x: Sequence[Any], y: Sequence[Any]) -> dict[str, Array]:
        each = [self._pair(one, other) for one, other in zip(x, y, strict=True)]
        return {name: np.array([found[name] for found in each]) for name in self.VALUES}

    def _crossed(self, x: Sequence[Any], y: Sequence[Any]) -> dict[str, Array]:
        mirrored = self.symmetric and x is y
        each: list[list[dict[str, float]]] = []
        for i, one in enumerate(x):
            known = [line[i] for line in each] if mirrored else []
            each.append(known + [self._pair(one, other) for other in y[len(known) :]])
        return {name: np.array([[found[name] for found in line] for line in each]) for name in self.VALUES}

    def _pair(self, one: Any, other: Any) -> dict[str, float]:
        if one is None or other is None:
            return dict.fromkeys(self.VALUES, float("nan"))
        return self.compare(one, other)

    def undefined(self, statistics: Mapping[str, Array], x: Sequence[Site], y: Sequence[Site]) -> list[str]:
        """Name the layers that are not finite, or that the kind cannot compare."""
        reasons = set()
        for name, features in statistics.items():
            side, _, position = name.rpartition("_")
            site = (x if side == "x" else y)[int(position)]
            finite = np.isfinite(features).all()
            why = self.why_undefined(features) if finite else "has values that are not finite"
            if why is not None:
                reasons.add(
                    f"`{site.name} ({site.role}, tokens {site.tokens})` {why}, so its {self.name} is undefined"
                )
        return sorted(reasons)


def features_of(tensor: Tensor, *, site: Site) -> Tensor:
    """The selected tokens' features of each image, `[batch, feature]`, float32."""
    return select(tensor, site).float()


def feature_count(site: Site) -> int:
    """How many features of an image the selected tokens have."""
    whole = int(np.prod(site.shape))
    if site.tokens == "all":
        return whole
    width, count = whole // token_count(site), token_count(site)
    chosen = {"cls": 1, "mean": 1, "spatial": count - (prefix_of(site) if site.tokens == "spatial" else 0)}
    return width * (chosen[site.tokens] if isinstance(site.tokens, str) else len(site.tokens))


def is_constant(features: Array) -> bool:
    """Whether float32 cannot tell features `[image, feature]` from a constant over the images."""
    mean = features.mean(0)
    energy = np.square(features - mean).sum()
    return bool(energy <= CONSTANT * (energy + len(features) * np.square(mean).sum()))


def without_repeats(features: Array) -> tuple[Array, npt.NDArray[np.intp]]:
    """Each different row of `[image, feature]` once, and for each image which of them it is.

    What is computed of them and spread again is exactly equal for equal images, whatever a product rounds to.
    """
    found, which = np.unique(features, axis=0, return_inverse=True)
    return found, np.asarray(which, np.intp).reshape(-1)
