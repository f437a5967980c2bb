"""Drawn shapes: what is said of an image is what its pixels show, and chance is kept apart."""

import math
from collections import Counter
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vitdsl import testing
from vitdsl.dsl.diagnostics import StudyError
from vitdsl.dsl.study import Data
from vitdsl.runtime.data.opening import open_source
from vitdsl.runtime.data.sources import shapes
from vitdsl.runtime.data.sources._shape_forms import OUTLINES, TEXTURES, hull, outline, tile
from vitdsl.runtime.data.sources.shapes import Shapes
from vitdsl.runtime.data.stream import open_stream
from vitdsl.runtime.models.preprocessing import Preprocessing

SQUARE = Preprocessing((3, 32, 32), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "bilinear", 1.0, "center")
LENS = 0.64 * math.acos(-0.1375) + math.acos(0.61) - math.sqrt(0.7 * 0.3 * 1.3 * 2.3) / 2
"""Area that discs of radius 1 and 0.8 have in common, their middles 0.5 apart."""
CASES: list[dict[str, Any]] = [
    {"split": "train"},
    {"split": "test", "difficulty": "hard", "label": "position", "grid": 2},
    {"split": "test", "difficulty": 0.25, "size": 48, "label": "colour", "textures": 6, "shapes": 11},
]


def opened(seed: int = 0, images: int | None = 200, **fields: Any) -> Shapes:
    data = Data(source="shapes", images=images, **{"split": "train", **fields})
    found = open_source(data, seed=seed, folder=Path())
    assert isinstance(found, Shapes)
    return found


def pixels(source: Shapes, index: int) -> np.ndarray:
    return np.asarray(source.load(index).image)


def shown(source: Shapes, index: int) -> np.ndarray:
    """Which pixels show the object, where all else is one plain colour: any that differ from a corner's."""
    image = pixels(source, index).astype(int)
    return np.abs(image - image[0, 0]).sum(axis=2) > 0


@pytest.mark.parametrize("params", CASES, ids=["easy", "hard", "between"])
def test_laws(params: dict[str, Any]) -> None:
    testing.check_source(Shapes, params, Path())


def test_an_image_depends_on_its_number_only() -> None:
    few, many = opened(images=3), opened(images=5000)
    alone = [few.load(i).sha256 for i in range(3)]
    assert [many.load(i).sha256 for i in (2, 4999, 0, 1)][0::2] == [alone[2], alone[0]]
    assert len(few) == 3 and len(many) == 5000 and len(set(alone)) == 3
    assert opened(seed=1).load(0).sha256 != alone[0]


def test_any_number_of_processes_gives_the_same_stream() -> None:
    def read(batch: int, workers: int) -> torch.Tensor:
        data = Data(source="shapes", split="test", images=24, batch=batch)
        stream = open_stream(data, seed=3, folder=Path(), transforms={"m": SQUARE}, workers=workers)
        return torch.cat([one.images["m"] for one in stream])

    assert torch.equal(read(24, 0), read(5, 0)) and torch.equal(read(24, 0), read(4, 2))


def test_no_test_image_is_in_train() -> None:
    train, test = opened(images=1500), opened(images=1500, split="test")
    drawn = {one._seed(i) for one in (train, test) for i in range(1500)}
    assert len(drawn) == 3000
    assert not {train.load(i).sha256 for i in range(1500)} & {test.load(i).sha256 for i in range(1500)}


@pytest.mark.parametrize("name", OUTLINES)
def test_an_outline_lies_in_its_disc_and_touches_the_rim(name: str) -> None:
    table = outline(name, 512, 0.0)
    at = (np.arange(512) + 0.5) * 4 / 512 - 2
    inside = table < 0
    far = np.hypot(*np.meshgrid(at, at))[inside]
    assert far.max() == pytest.approx(1, abs=0.012) and (far <= 1 + 1e-6).all()
    rows, cols = np.nonzero(inside)
    corners = hull(name, 0.0)
    for edge, points in ((corners[:, 0], at[cols]), (corners[:, 1], at[rows])):
        assert edge.max() == pytest.approx(points.max(), abs=0.012)
        assert edge.min() == pytest.approx(points.min(), abs=0.012)


@pytest.mark.parametrize(
    ("name", "area"),
    [
        ("disc", math.pi),
        ("square", 2),
        ("triangle", 3 * math.sqrt(3) / 4),
        ("cross", 8 * 0.3 * (math.sqrt(1 - 0.09) - 0.3) + 0.36),
        ("star", 10 * 0.42 * math.sin(math.pi / 5) / 2),
        ("ring", math.pi * (1 - 0.52**2)),
        ("bar", 4 * math.sin(0.33) * math.cos(0.33)),
        ("pentagon", 2.5 * math.sin(2 * math.pi / 5)),
        ("dome", math.pi / 2),
        ("crescent", math.pi - LENS),
    ],
)
def test_outlines_have_the_area_of_their_formula(name: str, area: float) -> None:
    cover = (0.5 - outline(name, 512, 0.0) * 512 / 4).clip(0, 1)
    assert cover.mean() * 16 == pytest.approx(area, rel=0.002)


def test_no_outline_is_another_one_turned() -> None:
    """Areas and how far points lie from the middle do not change by turning."""
    at = (np.arange(512) + 0.5) * 4 / 512 - 2
    far = np.hypot(*np.meshgrid(at, at))
    radial = {name: np.histogram(far[outline(name, 512, 0.0) < 0], 20, (0, 1))[0] for name in OUTLINES}
    for one, other in combinations(OUTLINES, 2):
        assert np.abs(radial[one] - radial[other]).sum() > 0.04 * radial[one].sum(), (one, other)


def test_similarity_leads_to_one_disc() -> None:
    apart = [np.abs(outline("square", 512, s) - outline("star", 512, s)).mean() for s in (0.0, 0.4, 0.8)]
    assert apart[1] == pytest.approx(0.6 * apart[0], rel=1e-4)
    assert apart[2] == pytest.approx(0.2 * apart[0], rel=1e-4)


@pytest.mark.parametrize("texture", TEXTURES[1:])
def test_textures_differ_and_repeat_without_a_seam(texture: str) -> None:
    field = tile(texture)
    step = np.abs(np.diff(field, axis=0)).max(), np.abs(np.diff(field, axis=1)).max()
    assert np.abs(field[0] - field[-1]).max() <= step[0] * 1.01 + 1e-6
    assert np.abs(field[:, 0] - field[:, -1]).max() <= step[1] * 1.01 + 1e-6
    assert 0.2 < (field < 0).mean() < 0.8


@pytest.mark.parametrize("size", [32, 96, 224])
def test_the_box_and_the_centre_are_those_of_the_pixels(size: int) -> None:
    source = opened(size=size, shapes=12, rotation="free", textures=1, difficulty="easy", images=60)
    seen = set()
    for index in range(60):
        truth, mask = source.truth(index), shown(source, index)
        rows, cols = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        found = (cols[0], rows[0], cols[-1] + 1, rows[-1] + 1)
        assert found == pytest.approx(truth.box, abs=1.3), truth
        assert 0 <= min(truth.box) and max(truth.box) <= size
        if truth.shape in ("disc", "ring"):
            assert [truth.x, truth.y] == pytest.approx(
                [(cols[0] + cols[-1] + 1) / 2, (rows[0] + rows[-1] + 1) / 2], abs=1
            )
            assert truth.diameter == pytest.approx(cols[-1] + 1 - cols[0], abs=2 * 1.3)
        seen.add(truth.shape)
    assert len(seen) > 8


def test_pixels_are_covered_as_a_finer_drawing_says() -> None:
    """Against every pixel split into 16 x 16 points, each wholly inside the polygon or not: other code, in float64."""
    source = opened(size=64, shapes=4, textures=1, rotation="free", images=80)
    corners = {
        "triangle": [(math.sin(a), -math.cos(a)) for a in (0, 2 * math.pi / 3, 4 * math.pi / 3)],
        "square": [(math.sin(a), -math.cos(a)) for a in (math.pi / 4 + math.pi / 2 * k for k in range(4))],
    }
    at = (np.arange(64 * 16) + 0.5) / 16
    checked = 0
    for index in range(80):
        truth = source.truth(index)
        if truth.shape not in corners or checked == 6:
            continue
        turn, checked = math.radians(truth.rotation), checked + 1
        points = [
            (
                truth.x + truth.diameter / 2 * (x * math.cos(turn) - y * math.sin(turn)),
                truth.y + truth.diameter / 2 * (x * math.sin(turn) + y * math.cos(turn)),
            )
            for x, y in corners[truth.shape]
        ]
        inside = np.ones((len(at), len(at)), dtype=bool)
        for (ax, ay), (bx, by) in zip(points, points[1:] + points[:1], strict=True):
            inside &= (bx - ax) * (at[:, None] - ay) - (by - ay) * (at[None, :] - ax) >= 0
        share = inside.reshape(64, 16, 64, 16).mean(axis=(1, 3))
        image = pixels(source, index).astype(float)
        ground, object_ = image[0, 0], image[round(truth.y), round(truth.x)]
        channel = np.abs(object_ - ground).argmax()
        cover = (image[..., channel] - ground[channel]) / (object_[channel] - ground[channel])
        assert np.abs(cover - share).max() < 0.3 and np.abs(cover - share).mean() < 0.003
        assert np.abs(cover.sum() - share.sum()) < 0.01 * share.sum() + 1
    assert checked == 6


def test_classes_are_drawn_with_equal_chances_and_are_the_truth() -> None:
    for label, count in (("shape", 5), ("texture", 2), ("colour", 6), ("position", 9), ("shape+texture", 10)):
        source = opened(label=label, images=3000, difficulty="medium")
        assert source.classes is not None and len(source.classes) == count
        counts = Counter(source.label(i) for i in range(3000))
        spread = math.sqrt(3000 / count * (1 - 1 / count))
        assert len(counts) == count
        assert all(abs(number - 3000 / count) < 4.5 * spread for number in counts.values()), label
        truth = source.truth(7)
        said = {
            "position": f"row {truth.row}, column {truth.col}",
            "shape+texture": f"{truth.shape}, {truth.texture}",
        }
        assert source.classes[source.label(7)] == said.get(label, getattr(truth, label, None))


def test_the_cell_is_where_the_centre_is() -> None:
    source = opened(label="position", grid=4, images=300, diameter=[0.2, 0.4])
    for index in range(300):
        truth = source.truth(index)
        assert 0.2 * 32 <= min(truth.x, truth.y) and max(truth.x, truth.y) <= 0.8 * 32
        cells = [int((at / 32 - 0.2) / 0.6 * 4) for at in (truth.y, truth.x)]
        assert [truth.row, truth.col] == cells and source.label(index) == 4 * cells[0] + cells[1]
        assert 0.2 * 32 <= truth.diameter <= 0.4 * 32


def test_the_colour_is_that_of_the_pixels() -> None:
    hues = {"red": (1, 0, 0), "yellow": (1, 1, 0), "green": (0, 1, 0), "cyan": (0, 1, 1), "blue": (0, 0, 1)}
    source = opened(label="colour", textures=1, shapes=4, images=120)
    seen = set()
    for index in range(120):
        truth = source.truth(index)
        middle = pixels(source, index)[int(truth.y), int(truth.x)].astype(float)
        bright = (middle - middle.min()) / (middle.max() - middle.min()) > 0.5
        assert tuple(bright.astype(int)) == hues.get(truth.colour, (1, 0, 1)), truth
        seen.add(truth.colour)
    assert len(seen) == 6
    fixed = opened(colour="fixed", textures=1)
    assert {fixed.truth(i).colour for i in range(30)} == {"cyan"}


def test_what_is_beside_the_object_leaves_it_as_it_was() -> None:
    plain = opened(images=20)
    full = opened(images=20, clutter=1.0, distractors=8, ground="textured")
    for index in range(20):
        truth = plain.truth(index)
        assert full.truth(index) == truth
        mask = np.zeros((32, 32), dtype=bool)
        mask[round(truth.y) - 1 : round(truth.y) + 1, round(truth.x) - 1 : round(truth.x) + 1] = True
        assert (pixels(full, index)[mask] == pixels(plain, index)[mask]).all()
        assert not shown(plain, index)[0, 0] and (pixels(full, index) != pixels(plain, index)).mean() > 0.3


def test_difficulty_sets_what_is_not_given() -> None:
    looks = [opened(difficulty=level).look for level in (0.0, "easy", 0.5, "medium", 1.0, "hard")]
    assert looks[0] == looks[1] and looks[2] == looks[3] and looks[4] == looks[5]
    easy, _, medium, _, hard, _ = looks
    assert (easy.shapes, easy.rotates, easy.grounded, easy.clutter, easy.distractors) == (
        4,
        False,
        False,
        0,
        0,
    )
    assert (hard.shapes, hard.rotates, hard.grounded, hard.clutter, hard.distractors) == (
        6,
        True,
        True,
        0.5,
        2,
    )
    assert easy.similarity < medium.similarity < hard.similarity == pytest.approx(0.3)
    mine = opened(difficulty="hard", clutter=0.0, rotation="none", shapes=4, similarity=0.0).look
    assert (mine.clutter, mine.rotates, mine.shapes, mine.similarity) == (0, False, 4, 0)
    assert mine.grounded and mine.distractors == 2


def test_drawn_images_are_kept_below_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[int] = []
    monkeypatch.setattr(
        shapes, "scene", lambda look, seed, make=shapes.scene: drawn.append(seed) or make(look, seed)
    )
    monkeypatch.setattr(shapes, "KEPT_BYTES", 2 * 32 * 32 * 3)
    source = opened()
    first = [source.load(i).sha256 for i in range(3)]
    assert [source.load(i).sha256 for i in range(3)] == first
    assert len(drawn) == 4, "two of three are kept"
    source.load(0).image.putpixel((0, 0), (1, 2, 3))
    assert source.load(0).sha256 == first[0] and source.load(0).image.getpixel((0, 0)) != (1, 2, 3)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"images": None}, "VD101.*images"),
        ({"size": 16}, "VD105.*size"),
        ({"size": 256}, "VD105.*size"),
        ({"difficulty": "very hard"}, "VD104.*difficulty"),
        ({"difficulty": 1.5}, "VD105.*difficulty"),
        ({"shapes": 3}, "VD105.*shapes"),
        ({"shapes": 12, "distractors": 1}, "VD221.*shapes"),
        ({"label": "colour", "colour": "fixed"}, "VD221.*colour"),
        ({"label": "texture", "textures": 1}, "VD221.*textures"),
        ({"diameter": [0.5, 0.3]}, "VD221.*diameter"),
        ({"split": "val"}, "VD104.*split"),
    ],
)
def test_wrong_parameters_are_named(fields: dict[str, Any], text: str) -> None:
    with pytest.raises(StudyError, match=text):
        opened(**fields)
