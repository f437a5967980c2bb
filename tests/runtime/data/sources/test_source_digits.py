"""The digits: a fixed, honest split, the same on every machine."""

from collections import Counter
from pathlib import Path

import pytest

from vitdsl.dsl.diagnostics import StudyError
from vitdsl.dsl.study import Data
from vitdsl.runtime.data.opening import open_source
from vitdsl.runtime.data.sources._base import Source


def opened(**fields: object) -> Source:
    return open_source(Data(source="digits", **fields), seed=0, folder=Path())


def test_the_splits_share_no_image_and_are_everything() -> None:
    train, test, every = (opened(split=name) for name in ("train", "test", "all"))
    assert (len(train), len(test), len(every)) == (1285, 512, 1797)
    ids = [{source.id(i) for i in range(len(source))} for source in (train, test, every)]
    assert not ids[0] & ids[1] and ids[0] | ids[1] == ids[2]
    contents = [{source.load(i).sha256 for i in range(len(source))} for source in (train, test)]
    assert not contents[0] & contents[1]


def test_the_split_is_stratified() -> None:
    every, test = (
        Counter(s.label(i) for i in range(len(s))) for s in (opened(split="all"), opened(split="test"))
    )
    assert all(abs(test[digit] - every[digit] * 512 / 1797) < 1 for digit in range(10))


def test_the_split_never_changes() -> None:
    test = opened(split="test")
    assert [test.id(i) for i in range(4)] == ["digits/0004", "digits/0021", "digits/0022", "digits/0025"]


def test_an_image_is_the_same_twice() -> None:
    test = opened(split="test")
    first, second = test.load(7), opened(split="test").load(7)
    assert first.image.tobytes() == second.image.tobytes() and first.sha256 == second.sha256
    assert first.image.mode == "RGB" and first.image.size == (32, 32)
    assert first.label == test.label(7)
    assert test.classes == tuple("0123456789")


@pytest.mark.parametrize(
    ("fields", "text"),
    [({}, "VD101.*split"), ({"split": "val"}, "VD104.*val"), ({"split": "test", "n": 1}, "VD103.*n")],
)
def test_wrong_parameters_are_named(fields: dict[str, object], text: str) -> None:
    with pytest.raises(StudyError, match=text):
        opened(**fields)
