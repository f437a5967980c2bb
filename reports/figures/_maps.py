"""One map over an image, and the scale that many share: logarithmic where the values ask for it.

Does not own which maps stand together (`maps`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize

from vitdsl.reports.figures._scales import Scale, scale_of
from vitdsl.reports.labels import fold, power_of_ten, short, with_unit
from vitdsl.reports.parts import Array, Part
from vitdsl.reports.theme import FONT_PX, LIGHT

LOGARITHMIC = 15.0
"""Where the largest value is more than so many times the typical one, colours are logarithmic."""
DECADES = 4
"""Powers of ten that a logarithmic scale covers at most, from the largest value down."""


@dataclass(frozen=True)
class MapScale:
    """A colour scale; where it is logarithmic, its ends are powers of ten."""

    ends: Scale
    logarithmic: bool = False
    cut: bool = False

    @property
    def words(self) -> str:
        """What a caption says of it, after `one colour scale for all maps`."""
        if not self.logarithmic:
            return ""
        below = "; smaller values, zero among them, have the darkest colour" if self.cut else ""
        return f", logarithmic{below}"

    def placed(self, values: Array) -> Array:
        """Values along the scale; undefined ones stay so."""
        if not self.logarithmic:
            return values
        with np.errstate(divide="ignore", invalid="ignore"):
            found = np.log10(values)
        return np.where(np.isnan(values), np.nan, np.maximum(found, self.ends.low))


def shared_scale(maps: Sequence[Array], parts: Sequence[Part]) -> MapScale:
    """The scale of all maps: logarithmic where none is negative and a few values tower above the others."""
    values = np.concatenate([one.ravel() for one in maps])
    values = values[np.isfinite(values)]
    positive = values[values > 0]
    if not len(positive) or values.min() < 0 or values.max() <= LOGARITHMIC * np.median(values):
        return MapScale(scale_of(parts))
    high = ceil(np.log10(positive.max()))
    low = max(high - DECADES, floor(np.log10(positive.min())))
    return MapScale(Scale(low, high), True, bool(values.min() < 10.0**low))


def draw_map(axes: Axes, values: Array, extent: tuple[float, float], scale: MapScale) -> None:
    """One map `[row, col]` over so many pixels to the right and down; undefined cells show a hatched ground."""
    axes.grid(False)
    axes.patch.set(facecolor=LIGHT["void"], hatch="////", edgecolor=LIGHT["muted"], linewidth=0)
    axes.imshow(
        np.ma.masked_invalid(scale.placed(values)),
        cmap=scale.ends.colours,
        norm=Normalize(scale.ends.low, scale.ends.high),
        extent=(0, extent[0], extent[1], 0),
        aspect="equal",
        interpolation="none",
    )
    axes.spines[["top", "right"]].set_visible(True)
    axes.tick_params(length=3, labelsize=FONT_PX - 2)


def scale_bar(axes: Axes, part: Part, scale: MapScale) -> None:
    """The scale as a strip, with the value's name and unit above it."""
    axes.grid(False)
    axes.imshow(
        np.linspace(0, 1, 128)[None, :],
        cmap=scale.ends.colours,
        aspect="auto",
        interpolation="none",
        extent=(scale.ends.low, scale.ends.high, 0, 1),
    )
    axes.set_yticks([])
    axes.tick_params(axis="x", length=2, pad=1, labelsize=FONT_PX - 2)
    axes.set_title(fold(with_unit(part.name, part.units), 52), fontsize=FONT_PX - 1, loc="left", pad=3)
    if scale.logarithmic:
        powers = range(int(scale.ends.low), int(scale.ends.high) + 1)
        plain = powers[0] >= -3 and powers[-1] <= 3
        axes.set_xticks(
            list(powers), [short(10.0**power) if plain else power_of_ten(power) for power in powers]
        )
    else:
        axes.locator_params(axis="x", nbins=5)
