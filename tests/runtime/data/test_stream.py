"""Streams: the same images in the same order, however they are read."""

import os
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from vitdsl.dsl.diagnostics import EnvironmentProblem, StudyError
from vitdsl.dsl.study import Data
from vitdsl.runtime.data.decoding import Decoder
from vitdsl.runtime.data.facts import stream_facts
from vitdsl.runtime.data.labels import check_labels
from vitdsl.runtime.data.sources.digits import Digits
from vitdsl.runtime.data.stream import Stream, open_stream
from vitdsl.runtime.models.preprocessing import Preprocessing

SMALL = Preprocessing((3, 8, 8), (0.5,) * 3, (0.5,) * 3, "bicubic", 0.9, "center")
LARGE = Preprocessing((3, 16, 16), (0.0,) * 3, (1.0,) * 3, "bilinear", 1.0, "center")


def opened(folder: Path = Path(), seed: int = 0, workers: int | None = None, **fields: Any) -> Stream:
    data = Data(**{"source": "digits", "split": "test", "images": 50, **fields})
    transforms = {"a": SMALL, "b": LARGE, "c": Preprocessing(**vars(SMALL))}
    return open_stream(data, seed=seed, folder=folder, transforms=transforms, workers=workers)


def everything(stream: Stream) -> dict[str, torch.Tensor]:
    batches = list(stream)
    assert all(batch.labels is not None for batch in batches)
    views = {name: torch.cat([batch.images[name] for batch in batches]) for name in stream.transforms}
    return {**views, "labels": torch.cat([batch.labels for batch in batches if batch.labels is not None])}


@pytest.mark.parametrize(("batch", "workers"), [(1, 0), (7, 0), (50, 0), (64, 0), (7, 2), (16, 1)])
def test_neither_batches_nor_workers_change_the_images(batch: int, workers: int) -> None:
    reference, stream = opened(batch=10), opened(batch=batch, workers=workers)
    expected, found = everything(reference), everything(stream)
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert reference.records() == stream.records()
    digests = ("ids_sha256", "content_sha256")
    assert [stream_facts(reference)[name] for name in digests] == [
        stream_facts(stream)[name] for name in digests
    ]


def test_a_batch_has_the_shape_that_each_model_takes() -> None:
    batches = list(opened(batch=20))
    assert [len(batch.rows) for batch in batches] == [16, 17, 17]
    assert batches[2].rows == range(33, 50) and [batch.index for batch in batches] == [0, 1, 2]
    assert batches[0].images["a"].shape == (16, 3, 8, 8) and batches[0].images["b"].shape == (16, 3, 16, 16)
    assert batches[0].images["a"] is batches[0].images["c"]


def test_images_are_prepared_on_one_thread_and_batches_computed_on_as_many_as_before() -> None:
    seen: list[int] = []

    def look(image: Image.Image) -> torch.Tensor:
        seen.append(torch.get_num_threads())
        if len(seen) > 2:
            raise ValueError("no more")
        return torch.zeros(3, 8, 8)

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        decoder = Decoder(opened().source, [0, 1, 2], [look])
        decoder[0], decoder[1]
        assert torch.get_num_threads() == 2
        with pytest.raises(ValueError, match="no more"):
            decoder[2]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert seen == [1, 1, 1]


def test_each_image_is_decoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: Counter[int] = Counter()
    load = Digits.load

    def counted(self: Digits, index: int) -> Any:
        seen[index] += 1
        return load(self, index)

    monkeypatch.setattr(Digits, "load", counted)
    list(opened(batch=16))
    assert len(seen) == 50 and set(seen.values()) == {1}


def test_the_order_comes_from_the_seed() -> None:
    def ids(**fields: Any) -> list[str]:
        stream = opened(**fields)
        return [stream.id(row) for row in range(stream.n)]

    assert ids() == ids() != ids(seed=1)
    assert ids(seed=1) == [
        s.id(r)
        for s in [
            open_stream(
                Data(source="digits", split="test", images=50, seed=1), seed=9, folder=Path(), transforms={}
            )
        ]
        for r in range(50)
    ]
    assert ids(images=20) == ids()[:20]
    assert ids(shuffle=False) == sorted(ids(shuffle=False))
    assert ids()[:4] == ["digits/0897", "digits/1303", "digits/1041", "digits/0561"]


@pytest.mark.parametrize(("images", "batch", "asked"), [(50, 7, 3), (50, 7, 32), (50, 64, 32), (64, 2, 5)])
def test_image_blocks_are_contiguous_and_even(images: int, batch: int, asked: int) -> None:
    stream = opened(images=images, batch=batch, image_blocks=asked)
    blocks = [stream.block_of(index) for index in range(stream.batches)]
    assert blocks == sorted(blocks) and set(blocks) == set(range(stream.image_blocks))
    assert stream.image_blocks == min(asked, stream.batches)
    sizes = Counter(blocks).values()
    assert max(sizes) - min(sizes) <= 1


def test_parts_of_a_stream_are_the_streams() -> None:
    whole, part = list(opened(batch=8)), opened(batch=8)
    odd = list(part.read([1, 3, 5]))
    assert [batch.index for batch in odd] == [1, 3, 5]
    assert all(torch.equal(batch.images["b"], whole[batch.index].images["b"]) for batch in odd)
    with pytest.raises(RuntimeError, match="29 of 50"):
        part.records()
    other = opened(batch=8)
    list(other.read([0, 2, 4, 6]))
    rows = [row for index in (0, 2, 4, 6) for row in other.rows_of(index)]
    part.remember({row: other._records[row] for row in rows})
    complete = opened(batch=8)
    list(complete)
    assert part.records() == complete.records()


@pytest.mark.parametrize("workers", [0, 2])
def test_an_unreadable_image_is_named_from_any_process(tmp_path: Path, workers: int) -> None:
    for i in range(6):
        Image.new("RGB", (9, 9), (i, i, i)).save(tmp_path / f"{i}.png")
    (tmp_path / "4.png").write_text("not an image")
    data = Data(source="folder", path=".", batch=2, shuffle=False)
    stream = open_stream(data, seed=0, folder=tmp_path, transforms={"a": SMALL}, workers=workers)
    with pytest.raises(EnvironmentProblem, match=r"VD402 .*4\.png") as caught:
        list(stream)
    assert caught.value.diagnostics[0].help


def test_a_decoding_process_that_is_killed_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    parent, load = os.getpid(), Digits.load

    def killed(self: Digits, index: int) -> Any:
        if os.getpid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)
        return load(self, index)

    monkeypatch.setattr(Digits, "load", killed)
    with pytest.raises(EnvironmentProblem, match="VD505"):
        list(opened(batch=8, workers=1))


def test_without_labels() -> None:
    data = Data(source="noise", total=4, size=8)
    stream = open_stream(data, seed=0, folder=Path(), transforms={"a": SMALL})
    assert not stream.labelled and next(iter(stream)).labels is None
    with pytest.raises(StudyError, match="VD241"):
        check_labels(stream, 10, "vit")


def test_labels_must_be_those_that_the_model_predicts(tmp_path: Path) -> None:
    check_labels(opened(), 10, "vit")
    with pytest.raises(StudyError, match="VD404 .*10 classes .*, model `vit` predicts 1000") as caught:
        check_labels(opened(), 1000, "vit")
    assert "num_classes: 10" in caught.value.diagnostics[0].help[0]
    (tmp_path / "n01440764").mkdir()
    Image.new("RGB", (9, 9)).save(tmp_path / "n01440764/1.png")
    data = Data(source="folder", path=".")
    with pytest.raises(StudyError, match="VD404") as caught:
        check_labels(open_stream(data, seed=0, folder=tmp_path, transforms={}), 1000, "vit")
    assert "labels: imagenet" in caught.value.diagnostics[0].help[0]


def test_a_shared_preprocessing_needs_one_size() -> None:
    with pytest.raises(StudyError, match="VD234 .*8 x 8 pixels, and model `b` takes 16 x 16"):
        opened(preprocess="a")
    other = Preprocessing((3, 8, 8), (0.0,) * 3, (1.0,) * 3, "bilinear", 1.0, "center")
    data = Data(source="digits", split="test", preprocess="a")
    stream = open_stream(data, seed=0, folder=Path(), transforms={"a": SMALL, "b": other})
    batch = next(iter(stream))
    assert batch.images["a"] is batch.images["b"]


@pytest.mark.parametrize(
    ("fields", "code", "text"),
    [
        ({"source": "digit"}, "VD220", "digits"),
        ({"images": 600}, "VD243", "512"),
        ({"split": "tst"}, "VD104", "test"),
    ],
)
def test_bad_entries(fields: dict[str, Any], code: str, text: str) -> None:
    with pytest.raises(StudyError, match=code) as caught:
        opened(**fields)
    assert any(text in line for line in caught.value.diagnostics[0].help)


def test_the_description_is_complete() -> None:
    stream = opened(batch=20)
    list(stream)
    said = stream_facts(stream)
    assert (said["images"], said["available"], said["classes"], said["batches"]) == (50, 512, 10, 3)
    assert said["labelled"] and said["shuffled"] and said["seed"] == 0 and said["image_blocks"] == 3
