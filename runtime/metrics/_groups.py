"""Image groups: which images are left out together, to see how much a number hangs on its images.

The image at position `r` of a stream is in group `r % 32`. Groups depend neither on batches nor on image blocks or
processes, so that no interval does. Does not own what becomes of a left-out group (`run.statistics`).
"""

import torch
from torch import Tensor
from torch.nn import functional as F

GROUPS = 32


def by_group(values: Tensor, rows: range) -> Tensor:
    """Sum what belongs to each image over image groups.

    Args:
        values: `[batch, ...]`.
        rows: Positions of the images in their stream, one after the other.

    Returns:
        `[GROUPS, ...]`, the same sums on every device and at every call.
    """
    before = rows.start % GROUPS
    after = -(before + len(rows)) % GROUPS
    edges = [values.new_zeros(count, *values.shape[1:]) for count in (before, after)]
    whole = torch.cat([edges[0], values, edges[1]])
    return whole.reshape(-1, GROUPS, *values.shape[1:]).sum(0)


def grouped(matrices: Tensor, rows: range) -> Tensor:
    """Rows of matrices `[matrix, image, value]` by the group of their image: `[GROUPS, matrix, rows * value]`."""
    before = rows.start % GROUPS
    after = -(before + len(rows)) % GROUPS
    whole = F.pad(matrices, (0, 0, before, after)) if before or after else matrices
    parts = whole.reshape(len(matrices), -1, GROUPS, whole.shape[2])
    return parts.permute(2, 0, 1, 3).flatten(2)
