"""Rivals: which other conditions may be the extreme that a sentence names, since naming one is a choice."""

from collections.abc import Callable, Sequence

import numpy as np

from vitdsl.reports.labels import plural
from vitdsl.reports.parts import Array, Part
from vitdsl.runtime.results.bands import not_beaten
from vitdsl.runtime.results.intervals import scale_of


def among(
    part: Part,
    known: Sequence[int],
    chosen: int,
    read: Callable[[Array], Array],
    word: str,
    *,
    lowest: bool = False,
) -> str:
    """What is added to a condition that a sentence names as the extreme; nothing where no other may be it.

    Args:
        part: The part whose conditions are compared.
        known: Positions of the conditions among which it was chosen.
        chosen: Its position.
        read: The numbers that are compared, `[..., condition]`, of values `[..., condition, ...]`.
        word: What the others may be as, such as `large`.
        lowest: Whether the smallest was chosen.
    """
    without = part.replicates
    if without is None:
        return ""
    scale = scale_of(part.dataset[part.value].attrs)
    here, there = (
        read(one)[..., list(known)] for one in (np.asarray(part.array.values, np.float64), without)
    )
    kept = not_beaten(here, there, part.left_out, scale, lowest=lowest)
    others = [i for i, one in zip(known, kept, strict=True) if one and i != chosen]
    return f"; {plural(len(others), 'other')} may be as {word}" if others else ""
