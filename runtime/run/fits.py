"""Fits: what sums over images become before others observe. Does not own where the sums come from (`engine`)."""

import numpy as np
import torch
from torch import Tensor

from vitdsl.runtime.metrics._base import Fit
from vitdsl.runtime.run.statistics import Statistics


def constants_of(
    statistics: Statistics[Fit], device: torch.device | None = None
) -> dict[str, list[tuple[Tensor, ...]]]:
    """The constants that a fit gives for each of its sites, float64, for each of its views; on the CPU or a device."""
    group, found = statistics.group, {}
    sums = statistics.arrays()
    for position, view in enumerate(group.views):
        totals = {name: array[position].sum(0) for name, array in sums.items()}
        found[view.id] = [
            tuple(torch.from_numpy(np.asarray(array, np.float64)).to(device) for array in arrays)
            for arrays in group.kind.finish(totals, group.x.sites)
        ]
    return found
