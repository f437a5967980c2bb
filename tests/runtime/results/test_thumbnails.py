"""Which images are kept, against a loop; the file, with and without it; the same images whatever the split."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr

from vitdsl import testing
from vitdsl.runtime.metrics.prediction_flips import Params, PredictionFlips
from vitdsl.runtime.results.pictured import MOST_PICTURED, pictured
from vitdsl.runtime.results.thumbnails import (
    Thumbnail,
    Thumbnails,
    read_thumbnails,
    write_thumbnails,
)


def group(rows: Any, strength: Any) -> xr.Dataset:
    return xr.Dataset(
        {
            "image": (("condition", "rank"), rows, {"pictured_by": "strength"}),
            "strength": (("condition", "rank"), strength),
        }
    )


def test_each_image_once_where_it_is_strongest_and_ties_by_image_then_condition() -> None:
    nan = float("nan")
    found = group(
        [[7.0, 3.0, nan], [3.0, 9.0, 5.0], [7.0, 1.0, nan]],
        [[0.4, 0.2, nan], [0.9, 0.4, 0.1], [0.4, 0.4, nan]],
    )
    assert pictured(found) == [(1, 0), (2, 1), (0, 0), (1, 1), (1, 2)]


def test_at_most_so_many_and_none_where_nothing_names_images() -> None:
    rows = np.arange(30.0).reshape(3, 10)
    found = pictured(group(rows, rows / 100))
    assert len(found) == MOST_PICTURED and [rows[at] for at in found] == list(
        range(29, 29 - MOST_PICTURED, -1)
    )
    assert pictured(xr.Dataset({"image": ("rank", [1.0])})) == []


@pytest.mark.parametrize(("batch", "blocks"), [(40, 1), (7, 3), (1, 5)])
def test_any_split_pictures_the_same_images(batch: int, blocks: int) -> None:
    """Logits with many equal strengths, against tuples that are sorted in one go over all images."""
    generator = torch.Generator().manual_seed(0)
    intact, *others = (torch.randint(0, 3, (40, 4), generator=generator).double() for _ in range(3))
    views: Any = {"baseline": ([(intact,)], [(intact,)])}
    views |= {f"c{i}": ([(one,)], [(intact,)]) for i, one in enumerate(others)}
    sites = [testing.vector_site(width=4)]
    of = testing.group_of(PredictionFlips(Params(listed=40)), sites, sites, views=tuple(views))
    found = testing.run(of, testing.Stream(views, torch.zeros(40).long()), batch, blocks=blocks)
    wanted = []
    for condition, one in enumerate(others, 1):
        p, q = (np.exp(x.numpy()) / np.exp(x.numpy()).sum(1, keepdims=True) for x in (intact, one))
        for row in range(40):
            a, b = int(p[row].argmax()), int(q[row].argmax())
            if a != b:
                strength = (p[row, a] - q[row, a] + q[row, b] - p[row, b]) / 2
                wanted.append((-round(strength, 9), row, condition))
    first = {row: (row, condition) for _, row, condition in sorted(wanted, reverse=True)}
    best = sorted(first.values(), key=lambda one: min(w for w in wanted if w[1:] == one))[:MOST_PICTURED]
    assert len({strength for strength, _, _ in wanted}) < len(wanted)
    rounded = found.assign(strength=found["strength"].round(9))
    assert [(int(found["image"].values[at]), at[0]) for at in pictured(rounded)] == best


def test_the_file_holds_them_and_a_folder_without_it_has_none(tmp_path: Path) -> None:
    one = Thumbnail(data="probe", row=3, models=("vit", "resnet"), format="png", content="iVBO")
    kept = Thumbnails(first={"probe": (3,)}, labels={"probe": (None,)}, images=(one,))
    assert read_thumbnails(tmp_path) == Thumbnails()
    write_thumbnails(tmp_path, Thumbnails())
    assert list(tmp_path.iterdir()) == []
    write_thumbnails(tmp_path, kept)
    assert read_thumbnails(tmp_path) == kept
    assert kept.of("probe", "resnet", 3) is one and kept.of("probe", "other", 3) is one
    assert kept.of("probe", "vit", 4) is None and kept.of("blurred", "vit", 3) is None
    (tmp_path / "thumbnails.json").write_text("{}x")
    with pytest.raises(ValueError):
        read_thumbnails(tmp_path)
