"""Which images a result names strongest: those that are pictured. Free of torch.

The same images whatever the split, the order or the merge of what was computed: the rule looks at positions in the
stream alone.
"""

import numpy as np
import xarray as xr

MOST_PICTURED = 8
"""So many images of one group are pictured at most."""


def pictured(group: xr.Dataset) -> list[tuple[int, int]]:
    """The images that a group names strongest: condition and rank of each, the strongest first.

    A value that names images by their position says in `pictured_by` which other one says how strongly. An image that
    several conditions name stands once, where it is strongest; of equal ones the earlier image, then the earlier
    condition.
    """
    named = [str(name) for name, array in group.data_vars.items() if array.attrs.get("pictured_by")]
    if not named:
        return []
    ordered = [
        group[one].transpose("condition", "rank") for one in (named[0], group[named[0]].attrs["pictured_by"])
    ]
    rows, strength = (np.asarray(one.values, np.float64) for one in ordered)
    every = sorted(
        (-strength[at], rows[at], *at)
        for at in np.ndindex(rows.shape)
        if np.isfinite(rows[at]) and np.isfinite(strength[at])
    )
    found: dict[float, tuple[int, int]] = {}
    for _, row, condition, rank in every:
        found.setdefault(row, (int(condition), int(rank)))
    return list(found.values())[:MOST_PICTURED]
