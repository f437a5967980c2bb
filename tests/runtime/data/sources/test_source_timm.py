"""Data sets of timm: folders, tars, torchvision's; streams and missing libraries say what to do."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitdsl.dsl.diagnostics import EnvironmentProblem, StudyError, VitdslError
from vitdsl.dsl.study import Data
from vitdsl.runtime.data.opening import open_source
from vitdsl.runtime.data.sources import timm as source_timm
from vitdsl.runtime.data.sources._base import Source


def opened(folder: Path, **fields: object) -> Source:
    return open_source(Data(source="timm", **fields), seed=0, folder=folder)


def images(folder: Path) -> Path:
    for name, value in (("validation/a/1.png", 10), ("validation/b/2.png", 20), ("validation/b/3.png", 30)):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (5, 5), value).save(path)
    return folder


def test_a_folder_with_its_split(tmp_path: Path) -> None:
    source = opened(images(tmp_path), name="", root=".")
    assert [source.id(i) for i in range(3)] == ["a/1.png", "b/2.png", "b/3.png"]
    assert [source.label(i) for i in range(3)] == [0, 1, 1] and source.classes == ("a", "b")
    item = source.load(1)
    assert item.image.mode == "RGB" and item.image.getpixel((0, 0)) == (20, 20, 20)
    assert item.sha256 == opened(tmp_path, name="", root=".").load(1).sha256


def test_a_tar(tmp_path: Path) -> None:
    images(tmp_path)
    with tarfile.open(tmp_path / "all.tar", "w") as tar:
        tar.add(tmp_path / "validation", arcname=".")
    source = opened(tmp_path, name="", root="all.tar")
    assert len(source) == 3 and source.classes == ("a", "b")
    assert source.load(2).image.getpixel((0, 0)) == (30, 30, 30)


def test_one_of_torchvision(tmp_path: Path) -> None:
    import pickle

    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    from torchvision.datasets import CIFAR10

    kept = CIFAR10.train_list, CIFAR10.test_list, CIFAR10.meta
    data = {"data": np.zeros((4, 3072), np.uint8), "labels": [3, 1, 0, 3]}
    try:
        (folder / "test_batch").write_bytes(pickle.dumps(data))
        (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list("abcdefghij")}))
        CIFAR10.train_list, CIFAR10.test_list = [], [["test_batch", None]]
        CIFAR10.meta = {"filename": "batches.meta", "key": "label_names", "md5": None}
        source = opened(tmp_path, name="torch/cifar10", root=".")
    finally:
        CIFAR10.train_list, CIFAR10.test_list, CIFAR10.meta = kept
    assert [source.label(i) for i in range(4)] == [3, 1, 0, 3]
    assert source.classes == tuple("abcdefghij")
    assert source.load(0).image.size == (32, 32)


def test_an_unreadable_image_is_named_and_not_replaced_by_its_neighbour(tmp_path: Path) -> None:
    images(tmp_path)
    (tmp_path / "validation/b/2.png").write_text("not an image")
    source = opened(tmp_path, name="", root=".")
    with pytest.raises(EnvironmentProblem, match=r"VD402 .*image 1 \(`b/2.png`\)"):
        source.load(1)


def test_a_stream_is_held_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = [(Image.new("RGB", (4, 4), (i, i, i)), i % 3) for i in range(9)]
    monkeypatch.setattr(source_timm, "NEEDS", {})
    monkeypatch.setattr(source_timm, "create_dataset", lambda *args, **more: stream)
    source = opened(tmp_path, name="wds/x", root=".", first=6)
    assert len(source) == 6 and source.classes == ("0", "1", "2") and source.label(5) == 2
    assert source.load(4).image.getpixel((0, 0)) == (4, 4, 4)


@pytest.mark.parametrize(
    ("fields", "kind", "text"),
    [
        ({"name": "hfds/x"}, EnvironmentProblem, "VD410 .*`datasets`"),
        ({"name": "wds/x", "root": ".", "first": 3}, EnvironmentProblem, "VD410 .*`webdataset`"),
        ({"name": "torch/cifar10"}, StudyError, "VD101 .*needs `root`"),
        ({"name": "torch/cifar10", "root": "."}, EnvironmentProblem, "VD411"),
        ({"name": "torch/nothing", "root": "."}, EnvironmentProblem, "VD411 .*nothing"),
        ({"name": "", "root": "nowhere"}, EnvironmentProblem, "VD401 .*nowhere"),
        ({"name": "", "root": "."}, EnvironmentProblem, "VD411 .*0 images"),
        ({"name": "", "root": ".", "first": 3}, StudyError, "VD245"),
    ],
)
def test_bad_data_sets(tmp_path: Path, fields: dict[str, object], kind: type[VitdslError], text: str) -> None:
    with pytest.raises(kind, match=text) as caught:
        opened(tmp_path, **fields)
    assert caught.value.diagnostics[0].help


def test_a_stream_without_a_length_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_timm, "NEEDS", {})
    with pytest.raises(StudyError, match="VD245 .*stream"):
        opened(tmp_path, name="wds/x", root=".")


def test_bytes_are_hashed_as_stored(tmp_path: Path) -> None:
    import hashlib

    buffer = io.BytesIO()
    Image.new("L", (5, 5), 10).save(buffer, "png")
    source = opened(images(tmp_path), name="", root=".")
    assert source.load(0).sha256 == hashlib.sha256(buffer.getvalue()).hexdigest()
