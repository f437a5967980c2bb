"""Folders of images: what is found, how it is labelled, how each kind of file is read, what is wrong."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitdsl.dsl.diagnostics import EnvironmentProblem, StudyError, VitdslError
from vitdsl.dsl.study import Data
from vitdsl.runtime.data.opening import open_source
from vitdsl.runtime.data.sources._base import Source

RED = (200, 30, 40)


def opened(folder: Path, **fields: object) -> Source:
    data = Data(source="folder", **{"path": ".", **fields})
    return open_source(data, seed=0, folder=folder)


def picture(path: Path, size: tuple[int, int] = (6, 4), colour: tuple[int, ...] = RED, **how: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path, **how)  # type: ignore[arg-type]
    return path


def ids(source: Source) -> list[str]:
    return [source.id(i) for i in range(len(source))]


def test_sub_folders_are_classes(tmp_path: Path) -> None:
    for name in ("b/2.png", "b/deep/1.JPG", "a/3.png", ".hidden/4.png", "a/.5.png", "a/notes.txt"):
        if name.endswith("txt"):
            (tmp_path / name).write_text("no image")
        else:
            picture(tmp_path / name)
    source = opened(tmp_path)
    assert ids(source) == ["a/3.png", "b/2.png", "b/deep/1.JPG"]
    assert source.classes == ("a", "b")
    assert [source.label(i) for i in range(3)] == [0, 1, 1]
    assert opened(tmp_path, labels="none").classes is None


def test_a_flat_folder_has_no_labels(tmp_path: Path) -> None:
    picture(tmp_path / "1.png")
    source = opened(tmp_path)
    assert source.classes is None and source.label(0) is None and source.load(0).label is None


def test_links_are_followed_once(tmp_path: Path) -> None:
    picture(tmp_path / "a/1.png")
    (tmp_path / "a/loop").symlink_to(tmp_path)
    (tmp_path / "a/gone.png").symlink_to(tmp_path / "nowhere.png")
    assert ids(opened(tmp_path)) == ["a/1.png"]


def test_wordnet_ids_become_imagenet_labels(tmp_path: Path) -> None:
    picture(tmp_path / "n01443537/1.png")
    picture(tmp_path / "n01440764/1.png")
    source = opened(tmp_path, labels="imagenet")
    assert [source.label(i) for i in range(2)] == [0, 1]
    assert source.classes is not None and len(source.classes) == 1000


def save_16_bit(path: Path) -> None:
    Image.fromarray(np.full((4, 6), 0x8000, dtype=np.uint16)).save(path)


def save_rotated(path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (4, 6), RED).save(path, exif=exif, quality=95)


@pytest.mark.parametrize(
    ("name", "save", "expected"),
    [
        ("rgb.png", lambda p: Image.new("RGB", (6, 4), RED).save(p), RED),
        ("grey.png", lambda p: Image.new("L", (6, 4), 77).save(p), (77, 77, 77)),
        ("one_bit.png", lambda p: Image.new("1", (6, 4), 1).save(p), (255, 255, 255)),
        ("palette.gif", lambda p: Image.new("RGB", (6, 4), RED).quantize(4).save(p), RED),
        ("clear.png", lambda p: Image.new("RGBA", (6, 4), (*RED, 0)).save(p), (255, 255, 255)),
        ("half.png", lambda p: Image.new("LA", (6, 4), (0, 51)).save(p), (204, 204, 204)),
        ("deep.png", save_16_bit, (128, 128, 128)),
        ("print.jpg", lambda p: Image.new("CMYK", (6, 4), (0, 255, 255, 0)).save(p, quality=95), (255, 0, 0)),
        ("turned.jpg", save_rotated, RED),
    ],
)
def test_every_kind_of_file_becomes_rgb(
    tmp_path: Path, name: str, save: object, expected: tuple[int, ...]
) -> None:
    save(tmp_path / name)  # type: ignore[operator]
    image = opened(tmp_path).load(0).image
    assert image.mode == "RGB" and image.size == (6, 4)
    assert np.abs(np.asarray(image).astype(int) - expected).max() <= 3


def test_the_hash_is_the_files(tmp_path: Path) -> None:
    import hashlib

    path = picture(tmp_path / "1.png")
    assert opened(tmp_path).load(0).sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def broken_header(folder: Path) -> None:
    (folder / "bad.png").write_text("not an image")


def cut_short(folder: Path) -> None:
    path = folder / "bad.jpg"
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:900])


@pytest.mark.parametrize("damage", [broken_header, cut_short])
def test_an_unreadable_image_is_named(tmp_path: Path, damage: object) -> None:
    damage(tmp_path)  # type: ignore[operator]
    with pytest.raises(
        EnvironmentProblem, match=r"VD402 the image `.*bad\.(png|jpg)` cannot be read"
    ) as caught:
        opened(tmp_path).load(0)
    assert "leading dot" in caught.value.diagnostics[0].help[0]


def loose(folder: Path) -> None:
    picture(folder / "a/1.png")
    picture(folder / "2.png")


def foreign(folder: Path) -> None:
    picture(folder / "cat/1.png")


@pytest.mark.parametrize(
    ("prepare", "fields", "kind", "text"),
    [
        (None, {"path": "nowhere"}, EnvironmentProblem, "VD401 the image folder `nowhere` does not exist"),
        (lambda f: picture(f / "x.png"), {"path": "x.png"}, EnvironmentProblem, "VD401.*is a file"),
        (None, {}, EnvironmentProblem, "VD403 there are no images"),
        (lambda f: (f / "a.txt").write_text(""), {}, EnvironmentProblem, "VD403"),
        (loose, {}, StudyError, "VD244 .* 1 image in sub-folders and 1 outside"),
        (foreign, {"labels": "imagenet"}, StudyError, "VD244 .*`cat`"),
        (foreign, {"labels": "yes"}, StudyError, "VD104 .*labels"),
    ],
)
def test_bad_folders(
    tmp_path: Path, prepare: object, fields: dict[str, object], kind: type[VitdslError], text: str
) -> None:
    if prepare is not None:
        prepare(tmp_path)  # type: ignore[operator]
    with pytest.raises(kind, match=text) as caught:
        opened(tmp_path, **fields)
    assert caught.value.diagnostics[0].help
