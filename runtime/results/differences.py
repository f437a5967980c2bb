"""The interval of a quantity, and of the difference of two: over images, over trainings, over units. Free of torch.

Three sources of variance, which are not the same: other images (leaving parts of them out), other trainings (the
spread over seeds, where a study varies them), other units of the model (the spread over the numbers that a mean is
taken of, Welch 1947). Does not own intervals of single numbers (`intervals`) or of chosen ones (`bands`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from vitdsl.runtime.results.bands import SELECTING, difference_of, ranked, selected
from vitdsl.runtime.results.intervals import LEVEL, PLAIN, Scale, interval
from vitdsl.runtime.results.quantiles import student
from vitdsl.runtime.results.quantities import Evaluated

Over = Literal["images", "seeds", "units"]
Ends = tuple[float, float]
NOTHING: Ends = (float("nan"), float("nan"))


@dataclass(frozen=True)
class Difference:
    """Left minus right, a quantity or a number.

    Attributes:
        left: The quantity on the left.
        right: That on the right, None for a number.
        number: The number on the right, 0 beside a quantity.
    """

    left: Evaluated
    right: Evaluated | None = None
    number: float = 0.0

    @property
    def value(self) -> float:
        """The difference."""
        return self.left.value - (self.right.value if self.right else self.number)

    @property
    def sides(self) -> tuple[Evaluated, ...]:
        """The quantities in it."""
        return (self.left, self.right) if self.right else (self.left,)

    @property
    def trainings(self) -> int:
        """How many trainings each of its models has, at least."""
        return min(len(side.trainings) for side in self.sides)

    def ends(self, over: Sequence[Over], level: float = LEVEL) -> Ends:
        """The interval over some sources of variance at once: their reaches add as independent errors do."""
        found = [self._over(one, level) for one in over]
        low, high = (float(np.sqrt(sum((end[i] - self.value) ** 2 for end in found))) for i in (0, 1))
        return self.value - low, self.value + high

    def _over(self, over: Over, level: float) -> Ends:
        if over == "seeds":
            return self._over_seeds(level)
        if over == "units":
            return _about(self.value, *_welch([side.units_alone for side in self.sides]), level)
        return self._over_images(level)

    def _over_seeds(self, level: float) -> Ends:
        """Over trainings; seed by seed where both sides are of the same ones."""
        samples = [np.array([one.value for one in side.trainings.values()]) for side in self.sides]
        if self.right and self.left.models == self.right.models:
            if list(self.left.trainings) == list(self.right.trainings):
                samples = [samples[0] - samples[1]]
        return _about(self.value, *_welch([one for one in samples if one.size > 1]), level)

    def _over_images(self, level: float) -> Ends:
        if self.right is None:
            low, high = of_images(self.left, level)
            return low - self.number, high - self.number
        if any(side.take in (*SELECTING, "spearman") for side in self.sides):
            halves = [of_images(side, 1 - (1 - level) / 2) for side in self.sides]
            return halves[0][0] - halves[1][1], halves[0][1] - halves[1][0]
        return _smooth([(1, self.left), (-1, self.right)], level)


def of_images(found: Evaluated, level: float = LEVEL) -> Ends:
    """The interval of one quantity over images."""
    if found.take not in (*SELECTING, "spearman"):
        return _smooth([(1, found)], level)
    if len(found.streams) != 1 or np.isnan(found.value):
        return NOTHING
    ends = []
    for one in found.trainings.values():
        (left_out,) = one.streams.values()
        if not left_out.replicates.size:
            return NOTHING
        given = one.x, one.numbers, left_out.replicates, left_out.sizes, found.of, level
        ends.append(ranked(*given) if found.take == "spearman" else selected(found.take, *given))
    low, high = np.mean(ends, 0)
    return float(low), float(high)


def moves(found: Evaluated) -> bool:
    """Whether leaving out images changes any of the numbers that a quantity is taken of."""
    return any(
        bool((part.replicates != one.numbers).any())
        for one in found.trainings.values()
        for part in one.streams.values()
        if part.replicates.size
    )


def _smooth(terms: Sequence[tuple[int, Evaluated]], level: float) -> Ends:
    """The interval of a signed sum of quantities that move smoothly with the images.

    Without a part of the images of a stream, all quantities of that stream change together: what they have in common
    cancels. Different streams are independent, and their reaches add as such; one stream that is cut in two ways is
    not, and its reaches add up.
    """
    value = sum(sign * found.value for sign, found in terms)
    scale = terms[0][1].scale if len(terms) == 1 else _scale_of_difference([found for _, found in terms])
    streams = list(dict.fromkeys(name for _, found in terms for name in found.streams))
    reaches: dict[str, np.ndarray] = {}
    for stream in streams:
        without, sizes = np.full(stream[1], value), np.empty(0)
        for sign, found in terms:
            if stream in found.streams:
                part = found.streams[stream]
                if len(part.replicates) != len(part.sizes):
                    return NOTHING
                without, sizes = without + sign * (part.replicates - found.value), part.sizes
        low, high = interval(value, without, sizes, scale if len(streams) == 1 else PLAIN, level)
        reach = np.array([value - float(low), float(high) - value])
        reaches[stream[0]] = reaches.get(stream[0], 0.0) + reach
    if not reaches:
        return NOTHING
    low_reach, high_reach = np.sqrt(sum(np.square(reach) for reach in reaches.values()))
    return float(value - low_reach), float(value + high_reach)


def _scale_of_difference(found: Sequence[Evaluated]) -> Scale:
    """The scale of the difference of two quantities: a share where both are."""
    left, right = (one.scale for one in found)
    if not (left.share and right.share):
        return PLAIN
    both = replace(
        left, low=min(left.low or 0.0, right.low or 0.0), high=max(left.high or 0.0, right.high or 0.0)
    )
    return difference_of(both)


def _welch(samples: Sequence[np.ndarray]) -> tuple[float, float]:
    """Standard error of a signed sum of means, and its degrees of freedom; NaN where a sample is too small."""
    if not samples or any(one.size < 2 for one in samples):
        return float("nan"), float("nan")
    parts = np.array([one.var(ddof=1) / one.size for one in samples])
    total = parts.sum()
    if total == 0:
        return 0.0, float(min(one.size for one in samples) - 1)
    freedom = total**2 / sum(part**2 / (one.size - 1) for part, one in zip(parts, samples, strict=True))
    return float(np.sqrt(total)), float(freedom)


def _about(value: float, error: float, freedom: float, level: float) -> Ends:
    reach = float(student(0.5 + level / 2, freedom)) * error
    return value - reach, value + reach
