"""Table: numbers of any dimensions, where no other figure fits."""

from collections.abc import Sequence

import numpy as np

from vitdsl.reports.figures._base import Figure, Plot, assembled
from vitdsl.reports.labels import listing, number, plural, sentence
from vitdsl.reports.parts import Part
from vitdsl.reports.sentences import lead_and_details


class Table(Figure):
    """Rows of numbers; no drawing."""

    draws_conditions = True

    order = 100

    def fits(self, part: Part) -> bool:
        """Everything."""
        return True

    def plot(self, id: str, parts: Sequence[Part]) -> Plot:
        """The table alone; its name says that it stands for a drawing."""
        dims = listing(sorted({d for part in parts for d in part.dims}))
        caption = f"{sentence(parts[0].name)} by condition" + (f", {dims}." if dims else ".")
        return assembled(f"{id}-table", parts, caption, _takeaway(parts))


def _takeaway(parts: Sequence[Part]) -> str:
    """The range of the values."""
    said = []
    for part in parts:
        values = part.array.values[np.isfinite(part.array.values)]
        if len(values):
            said.append(
                f"{part.model}: {plural(len(values), 'number')} from {number(float(values.min()))} to "
                f"{number(float(values.max()))}."
            )
    return lead_and_details(f"{sentence(parts[0].name)}.", said)
