"""Image files by name: order, ids, what is read, and what is wrong with one."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vitdsl.dsl.diagnostics import VitdslError
from vitdsl.dsl.study import Data
from vitdsl.runtime.data.opening import open_source
from vitdsl.runtime.data.sources._base import Source
from vitdsl.runtime.train.recipe_images import images_that_count


def opened(folder: Path, path: Any) -> Source:
    return open_source(Data(source="files", **{"path": path}), seed=0, folder=folder)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, colour in (("b.png", (200, 30, 40)), ("a.bmp", (10, 20, 30))):
        Image.new("RGB", (6, 4), colour).save(tmp_path / name)
    (tmp_path / "b.png").rename(tmp_path / "no_ending")
    (tmp_path / "words.jpg").write_text("no image")
    return tmp_path


def test_files_in_the_order_given_whatever_their_endings(folder: Path) -> None:
    source = opened(folder, ["no_ending", "a.bmp"])
    assert [source.id(i) for i in range(len(source))] == ["no_ending", "a.bmp"]
    assert [np.asarray(source.load(i).image)[0, 0].tolist() for i in range(2)] == [
        [200, 30, 40],
        [10, 20, 30],
    ]
    assert source.classes is None and source.label(0) is None
    wanted = hashlib.sha256((folder / "a.bmp").read_bytes()).hexdigest()
    assert source.content(1) == source.load(1).sha256 == wanted
    assert len(opened(folder, "a.bmp")) == 1


@pytest.mark.parametrize(
    ("path", "code", "says"),
    [
        ("b.bmp", "VD401", "`b.bmp` does not exist"),
        (["a.bmp", "."], "VD401", "is a folder, not a file"),
        (["a.bmp", "./a.bmp"], "VD209", "is given twice"),
    ],
)
def test_what_is_wrong_with_names(folder: Path, path: Any, code: str, says: str) -> None:
    with pytest.raises(VitdslError) as caught:
        opened(folder, path)
    (found,) = caught.value.diagnostics
    assert found.code == code and says in found.message
    if path == "b.bmp":
        assert "did you mean `a.bmp`?" in found.help


def test_a_file_that_is_no_image(folder: Path) -> None:
    with pytest.raises(VitdslError) as caught:
        opened(folder, "words.jpg").load(0)
    (found,) = caught.value.diagnostics
    assert found.code == "VD402" and "`words.jpg` cannot be read: not an image" in found.message


def test_training_images_are_the_same_from_any_folder(folder: Path) -> None:
    data = Data(source="files", **{"path": ["a.bmp", "words.jpg"]})
    assert images_that_count(data, folder)["path"] == [str(folder / "a.bmp"), str(folder / "words.jpg")]
