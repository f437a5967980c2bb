"""A batch in parts: all of it, in order, in copies that may be changed."""

import pytest
import torch

from vitdsl.runtime.metrics import _parts
from vitdsl.runtime.metrics._parts import images_at_once, widened


@pytest.mark.parametrize("most", [1, 60, 120, 1000])
def test_parts_are_the_batch_and_what_is_read_stays(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_parts, "AT_ONCE", most)
    one = torch.randn(7, 12, 5)
    # A map whose channels come first lies in another order than its tokens.
    other = torch.randn(7, 5, 12).transpose(1, 2)
    kept = one.clone(), other.clone()
    found = []
    for parts, wide in widened(one, other):
        assert all(copy.dtype == torch.float64 and copy.is_contiguous() for copy in wide)
        assert all(torch.equal(part.double(), copy) for part, copy in zip(parts, wide, strict=True))
        found.append([copy.clone() for copy in wide])
        assert len(wide[0]) <= images_at_once(one)
        wide[0].mul_(wide[1])
        wide[1].zero_()
    whole = [torch.cat(part) for part in zip(*found, strict=True)]
    assert torch.equal(whole[0], kept[0].double()) and torch.equal(whole[1], kept[1].double())
    assert torch.equal(one, kept[0]) and torch.equal(other, kept[1])


def test_room_is_taken_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_parts, "AT_ONCE", 60)
    places = {wide.data_ptr() for _, (wide,) in widened(torch.randn(9, 12, 5))}
    assert len(places) == 1
