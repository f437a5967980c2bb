"""Noise: drawn from the seed, image by image."""

from pathlib import Path

import numpy as np
import pytest

from vitdsl.dsl.diagnostics import StudyError
from vitdsl.dsl.study import Data
from vitdsl.runtime.data.opening import open_source
from vitdsl.runtime.data.sources._base import Source


def opened(seed: int = 0, **fields: object) -> Source:
    data = Data(source="noise", **{"total": 8, "size": 16, **fields})
    return open_source(data, seed=seed, folder=Path())


def test_an_image_depends_on_the_seed_and_its_position_only() -> None:
    assert opened().load(3).sha256 == opened(total=100).load(3).sha256
    assert opened().load(3).sha256 != opened(seed=1).load(3).sha256
    assert len({opened().load(i).sha256 for i in range(8)}) == 8


def test_as_many_as_images_asks_for() -> None:
    asked = open_source(Data(source="noise", images=5, size=16), seed=0, folder=Path())
    assert len(asked) == 5 and len(opened(total=9, images=5)) == 9
    assert asked.load(3).sha256 == opened().load(3).sha256
    with pytest.raises(StudyError, match="`images` is missing"):
        open_source(Data(source="noise", size=16), seed=0, folder=Path())


@pytest.mark.parametrize(("distribution", "spread"), [("gaussian", 0.25), ("uniform", 12**-0.5)])
def test_the_distribution_is_the_one_asked_for(distribution: str, spread: float) -> None:
    pixels = np.asarray(opened(size=128, distribution=distribution).load(0).image) / 255
    assert pixels.mean() == pytest.approx(0.5, abs=0.01)
    assert pixels.std() == pytest.approx(spread, abs=0.02)


def test_labels_only_where_asked_for() -> None:
    assert opened().label(0) is None and opened().classes is None
    labelled = opened(total=400, classes=4)
    assert {labelled.label(i) for i in range(400)} == {0, 1, 2, 3}
    assert labelled.load(5).label == labelled.label(5)


def test_drawing_leaves_the_global_generators_alone() -> None:
    np.random.seed(7)
    before = np.random.get_state()[1].copy()  # type: ignore[index]
    opened().load(0)
    assert (np.random.get_state()[1] == before).all()  # type: ignore[index]
