"""The JSON Schema agrees with the program: fresh, valid, takes what loads and refuses what does not."""

import copy
import json
from pathlib import Path

import jsonschema
import pytest

from vitdsl.dsl.json_schema import COMMITTED, as_text, json_schema
from vitdsl.dsl.nodes import plain
from vitdsl.dsl.reader import read
from vitdsl.dsl.study import Entry

HERE = Path(__file__)
ROOT = HERE.parents[2]
FULL = plain(read(HERE.with_name("full.yaml").read_text(), "full.yaml"))
BARE = json_schema()
SPECS = sorted((ROOT / "specs").rglob("*.yaml"))


def errors(data, schema=BARE):
    return [one.message for one in jsonschema.Draft7Validator(schema).iter_errors(data)]


def test_it_is_a_schema():
    jsonschema.Draft7Validator.check_schema(BARE)
    jsonschema.Draft7Validator.check_schema(json.loads(COMMITTED.read_text()))


def test_the_committed_copy_is_fresh():
    from vitdsl.commands._kinds import kinds

    assert COMMITTED.read_text() == as_text(json_schema(kinds())), "vitdsl schema > dsl/vitdsl-1.schema.json"


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_shipped_files_are_valid(path):
    data = plain(read(path.read_text(), path.name))
    assert errors(data, json.loads(COMMITTED.read_text())) == []


def test_every_field_is_valid_and_described():
    assert errors(FULL) == []
    for name, definition in BARE["definitions"].items():
        for field, words in definition.get("properties", {}).items():
            assert words.get("description"), f"{name}.{field}"


def broken(path, value):
    data = copy.deepcopy(FULL)
    here = data
    for part in path[:-1]:
        here = here[part]
    if value is None:
        del here[path[-1]]
    else:
        here[path[-1]] = value
    return data


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("vitdsl",), 2),
        (("vitdsl",), None),
        (("study",), "Not A Slug"),
        (("metric",), {}),
        (("models", "ViT"), {"arch": "a"}),
        (("models", "vit", "arch"), None),
        (("models", "vit", "arhc"), "a"),
        (("models", "vit", "weights"), "pretraned"),
        (("models", "vit", "train", "fraction"), 2),
        (("models", "vit", "train", "augment", "scale"), [1]),
        (("layers", "blocks", "tokens"), "class"),
        (("layers", "blocks", "at"), 3),
        (("metrics", "drift", "against"), 3),
        (("claims", "same", "is"), ">"),
        (("claims", "same", "left", "where"), {"depth": {"fro": 1}}),
        (("data",), {}),
    ],
)
def test_what_does_not_load_is_not_valid(path, value):
    assert errors(broken(path, value))


def test_a_file_that_extends_another_need_not_be_whole():
    part = {"extends": "./b.yaml", "models": {"vit": {"seed": 1}, "old": None}, "ablations": None}
    assert errors(part) == []
    assert errors({"extends": "./b.yaml", "models": {"vit": {"sede": 1}}})


def test_recipes():
    assert errors({"vitdsl": 1, "recipe": "r", "train": {"data": {"source": "digits"}}}) == []
    assert errors({"vitdsl": 1, "recipe": "r", "train": {"epohcs": 1}})
    assert errors({"vitdsl": 1, "recipe": "r"})


class Inner(Entry):
    size: int


class Params(Entry):
    """The parameters of a kind."""

    kernel: str = "linear"
    inner: Inner | None = None


def test_kinds_bring_their_parameters():
    schema = json_schema({"metrics": {"cka": ("Alike.", Params), "acc": ("Right.", Entry)}})
    jsonschema.Draft7Validator.check_schema(schema)

    def metric(**fields):
        return errors(FULL | {"metrics": {"m": fields}}, schema)

    assert metric(kind="cka", x="blocks", kernel="rbf", inner={"size": 1}) == []
    assert metric(kind="acc", of="vit") == []
    assert metric(kind="cka", x="blocks", kernal="rbf")
    assert metric(kind="cka", x="blocks", inner={"size": "1"})
    assert metric(kind="acc", of="vit", kernel="rbf")
    assert metric(kind="ckaa", x="blocks")
    assert metric(x="blocks")
