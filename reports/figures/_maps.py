"""One map over an image, and the scale that many share: logarithmic where the values ask for it.

Does not own which maps stand together (`maps`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize

from vitdsl.reports.figures._base import Panel
from vitdsl.reports.figures._scales import Scale, bar_of, scale_of
from vitdsl.reports.labels import plain
from vitdsl.reports.parts import Array, Part
from vitdsl.reports.theme import FONT_PX, LIGHT

LOGARITHMIC = 15.0
"""Where the largest value is more than so many times the typical one, colours are logarithmic."""
STEPS = tuple(m * 10.0**e for e in range(-15, 16) for m in (1, 2, 5))
MOST_STEPS = 6
"""Values that may be named along a logarithmic scale, and how many of them; of more, powers of ten alone."""
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


def bar_of_maps(part: Part, scale: MapScale, maps: Sequence[Array]) -> Panel:
    """The panel that shows the scale above all maps that share it."""
    return bar_of(part, scale.ends, maps, ticks=_ticks(scale) if scale.logarithmic else None)


def _ticks(scale: MapScale) -> list[tuple[float, str]]:
    """Round values along a logarithmic scale: powers of ten, and steps between where these are few."""
    named = [step for step in STEPS if scale.ends.low <= np.log10(step) + 1e-9 <= scale.ends.high + 2e-9]
    few = named if len(named) <= MOST_STEPS else [step for step in named if f"{step:e}"[0] == "1"]
    return [(float(np.log10(step)), plain(step)) for step in few]
