"""Entries built in Python fail in the words of the language; what they say of themselves is what others ask."""

import copy
import pickle

import pytest

from vitdsl.dsl.diagnostics import StudyError
from vitdsl.dsl.schema import validated
from vitdsl.dsl.shape import entries, fields_of, optional_sections, sections, words_of
from vitdsl.dsl.source import SourceMap
from vitdsl.dsl.study import Data, Entry, Metric, Model, Range, Study, Train

PARTS = {
    "vitdsl": 1,
    "study": "small",
    "data": {"images": {"source": "digits"}},
    "models": {"vit": {"arch": "vit_tiny_patch16_224", "weights": "random"}},
    "metrics": {"acc": {"kind": "accuracy", "of": "vit"}},
}
WRONG = PARTS | {
    "seed": "x",
    "data": {"images": {"source": 3}},
    "models": {"vit": {"arch": "a", "wieghts": "random", "train": {"epochs": 0}}},
}


class Params(Entry):
    """The parameters of a kind, with an entry in them."""

    ends: Range
    size: int = 1


def told(build):
    with pytest.raises(StudyError) as caught:
        build()
    return [(one.code, one.message) for one in caught.value.diagnostics]


ALL_WRONG = [
    ("VD102", "`seed` takes a whole number, not the text `x`"),
    ("VD102", "`data.images.source` takes a text, not the number `3`"),
    ("VD105", "`models.vit.train.epochs` must be at least 1, not `0`"),
    ("VD103", "unknown key `wieghts` in `models.vit`"),
]


@pytest.mark.parametrize("build", [lambda: Study(**WRONG), lambda: Study.model_validate(WRONG)])
def test_the_outermost_entry_tells_everything(build):
    assert told(build) == ALL_WRONG == told(build)


def test_a_file_tells_the_same():
    found = validated(Study, WRONG, SourceMap())
    assert [(one.code, one.message) for one in found] == ALL_WRONG


def test_an_entry_built_inside_another_tells_for_itself():
    assert told(lambda: Study(**PARTS | {"models": {"vit": Model(arch=1)}})) == [
        ("VD102", "`arch` takes a text, not the number `1`")
    ]
    assert told(lambda: Params(ends=Range(from_="low"))) == [
        ("VD102", "`from_` takes a number, not the text `low`")
    ]
    assert told(lambda: Params(ends={"from": "low"}, seed=2)) == [
        ("VD102", "`ends.from` takes a number, not the text `low`"),
        ("VD103", "unknown key `seed` in this entry"),
    ]


def test_a_misplaced_key_is_told_where_it_belongs():
    with pytest.raises(StudyError) as caught:
        Params(ends={}, epochs=2)
    assert caught.value.diagnostics[0].help == ("`epochs` belongs under `models.<name>.train`",)


def test_built_and_read_are_equal_and_copies_are_too():
    built = Study(
        vitdsl=1,
        study="small",
        data={"images": Data(source="digits")},
        models={"vit": Model(arch="vit_tiny_patch16_224", weights="random")},
        metrics={"acc": Metric(kind="accuracy", of="vit")},
    )
    assert built == Study.model_validate(PARTS) == validated(Study, PARTS, SourceMap())
    assert built == copy.deepcopy(built) == pickle.loads(pickle.dumps(built))
    assert Params(ends=Range(to=1)) == Params(ends={"to": 1})


def test_the_sections_are_read_off_the_study():
    assert sections(Study) == ("data", "models", "layers", "ablations", "metrics", "claims")
    assert optional_sections(Study) == {"layers", "ablations", "claims"}


def test_weights_alone_have_forms_that_do_not_merge():
    several = {
        (entry, name)
        for entry in entries(Study)
        for name, shape in fields_of(entry).items()
        if len(shape.entries) > 1
    }
    assert several == {(Model, "weights")}


def test_every_entry_has_a_noun():
    for entry in entries(Study):
        assert words_of(entry).noun
    assert words_of(Params).noun == words_of(Entry).noun == ""
    assert words_of(Train).home == "`models.<name>.train`"
