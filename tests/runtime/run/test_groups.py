"""Image groups: intervals that do not hang on how a stream is cut, and what leaving one out takes."""

import numpy as np
import pytest
import torch

from vitdsl import testing
from vitdsl.dsl.study import Entry
from vitdsl.runtime.metrics._gram import SMALLEST_BATCH
from vitdsl.runtime.metrics._groups import GROUPS, by_group, grouped
from vitdsl.runtime.metrics.accuracy import Accuracy
from vitdsl.runtime.metrics.cka import CKA, Params


@pytest.mark.parametrize(("start", "count"), [(0, 64), (0, 5), (31, 2), (40, 100), (7, 1)])
def test_groups_are_positions_modulo_their_number(start: int, count: int) -> None:
    rows, values = range(start, start + count), torch.randn(count, 3).double()
    found = by_group(values, rows)
    assert found.shape == (GROUPS, 3)
    for group in range(GROUPS):
        mine = [i for i, row in enumerate(rows) if row % GROUPS == group]
        torch.testing.assert_close(found[group], values[mine].sum(0), rtol=0, atol=1e-12)
        held = grouped(values[None], rows)[group, 0].reshape(-1, 3)
        assert held[(held != 0).any(1)].tolist() == values[mine].tolist()


def test_an_interval_of_shares_does_not_depend_on_batches() -> None:
    rng = torch.Generator().manual_seed(0)
    logits, intact = (torch.randn(300, 4, generator=rng) for _ in range(2))
    labels = torch.randint(0, 4, (300,), generator=rng)
    group = testing.group_of(Accuracy(Entry()), [testing.vector_site("", 4)], views=["cut"])
    stream = testing.Stream({"cut": ([(logits,)], [(intact,)])}, labels)
    first, *others = (
        testing.run(group, stream, batch, blocks) for batch, blocks in ((300, 1), (32, 4), (7, 9))
    )
    for other in others:
        for name in ("top1", "drop", "loss", "kl"):
            for end in ("low", "high", "replicates"):
                np.testing.assert_allclose(other[f"{name}_{end}"], first[f"{name}_{end}"], rtol=1e-10)


def test_an_interval_of_cka_depends_little_on_batches() -> None:
    """Small batches see fewer pairs of images, and are a little less sure; sixteen times fewer, not twice."""
    rng = torch.Generator().manual_seed(1)
    shared, own = (torch.randn(512, 16, generator=rng) for _ in range(2))
    sites = [testing.vector_site(name, 16) for name in "xy"]
    group = testing.group_of(CKA(Params.model_validate({})), sites[:1], sites[1:])
    stream = testing.Stream({"baseline": ([(shared,)], [(shared + own,)])})
    widths = []
    for batch in (32, 64, 128, 256, 512):
        found = testing.run(group, stream, batch).squeeze()
        widths.append(float(found["cka_high"] - found["cka_low"]))
    assert max(widths) < 1.8 * min(widths), widths


def test_a_left_out_group_takes_its_pairs_to_first_order() -> None:
    """Against CKA computed anew without the group's images, in one batch: far nearer than replicates spread."""
    rng = torch.Generator().manual_seed(2)
    x, own = (torch.randn(256, 10, generator=rng) for _ in range(2))
    y = x + own
    sites = [testing.vector_site(name, 10) for name in "xy"]
    group = testing.group_of(CKA(Params.model_validate({})), sites[:1], sites[1:])
    whole = testing.run(group, testing.Stream({"baseline": ([(x,)], [(y,)])}), 256).squeeze()
    exact = []
    for left in range(GROUPS):
        kept = torch.arange(256) % GROUPS != left
        stream = testing.Stream({"baseline": ([(x[kept],)], [(y[kept],)])})
        exact.append(float(testing.run(group, stream, 256)["cka"].squeeze()))
    found = whole["cka_replicates"].values
    assert len(exact) > SMALLEST_BATCH and np.sqrt(np.mean((found - exact) ** 2)) < 0.1 * np.std(exact)
