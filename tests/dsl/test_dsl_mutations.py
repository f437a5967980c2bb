"""Delete, rename, duplicate, retype or move any node: a visible change, or an error with a place."""

import copy
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitdsl.dsl.diagnostics import StudyError
from vitdsl.dsl.emit import block
from vitdsl.dsl.load import load_source, load_text
from vitdsl.dsl.nodes import plain
from vitdsl.dsl.reader import read
from vitdsl.dsl.render import render

ROOT = Path(__file__).parents[2]
FULL = Path(__file__).with_name("full.yaml")
SHIPPED = [path for path in sorted((ROOT / "specs").rglob("*.yaml")) if "\nstudy:" in path.read_text()]
VALUES = [None, True, 7, -1.5, "text", "", [], {}, ["a", 1], {"a": 1}, {"from": 1}, [[]]]
WORDS = {"study", "title", "question", "show", "max_conditions", "say", "thumbnails"}


def tree(path):
    """A study with its bases and recipes written out, as plain data."""
    return plain(read(load_source(path).study.to_yaml(), "f"))


def paths(value, path=()):
    if path:
        yield path
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from paths(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from paths(inner, (*path, index))


def at(data, path):
    for part in path:
        data = data[part]
    return data


def mutated(data, path, kind, extra=0):
    """The text of a study with one node changed, or None where the change makes no sense."""
    data = copy.deepcopy(data)
    parent, last = at(data, path[:-1]), path[-1]
    if kind == "delete":
        del parent[last]
    elif kind == "retype":
        parent[last] = VALUES[extra % len(VALUES)]
    elif kind == "rename" and isinstance(last, str):
        renamed = [last + "x", last[1:] + last[:1], last.upper()][extra % 3]
        items = [(renamed if key == last else key, value) for key, value in parent.items()]
        parent.clear()
        parent.update(items)
    elif kind == "duplicate" and isinstance(last, str):
        parent[f"{last}__again"] = parent[last]
    elif kind == "move":
        value = parent.pop(last)
        homes = [home for home in [(), *paths(data)] if isinstance(at(data, home), dict)]
        home = at(data, homes[extra % len(homes)])
        if str(last) in home:
            return None
        home[str(last)] = value
    else:
        return None
    return block(data).replace("__again", "")


def check(base, text, path):
    """The change is visible in the hash, or makes no difference, or is an error inside the text."""
    try:
        study = load_text(text, "f.yaml").study
    except StudyError as error:
        lines = text.splitlines()
        for one in error.diagnostics:
            assert one.span is not None and one.span.file == "f.yaml"
            assert 1 <= one.span.line <= len(lines) + 1
            assert one.span.line > len(lines) or one.span.column <= len(lines[one.span.line - 1]) + 1
            assert one.message and "pydantic" not in one.message and "Input should" not in one.message
        for output_format in ("full", "concise", "json", "github"):
            assert render(error.diagnostics, output_format)
        return
    same = study.model_dump() == base.model_dump()
    assert same or study.hash != base.hash or path[-1] in WORDS


DATA = tree(FULL)
BASE = load_source(FULL).study
PATHS = list(paths(DATA))


@pytest.mark.parametrize("kind", ["delete", "rename", "duplicate"])
def test_every_node(kind):
    for path in PATHS:
        text = mutated(DATA, path, kind)
        if text is not None:
            if kind == "duplicate":
                with pytest.raises(StudyError, match="VD006"):
                    load_text(text, "f.yaml")
            check(BASE, text, path)


@pytest.mark.parametrize("extra", range(len(VALUES)))
def test_every_node_of_another_type(extra):
    for path in PATHS[extra % 2 :: 2]:
        check(BASE, mutated(DATA, path, "retype", extra), path)


@given(st.sampled_from(PATHS), st.integers(0, 10_000))
def test_moved_nodes(path, extra):
    text = mutated(DATA, path, "move", extra)
    if text is not None:
        check(BASE, text, path)


@settings(max_examples=200)
@given(
    st.sampled_from(SHIPPED or [FULL]),
    st.sampled_from(["delete", "rename", "duplicate", "retype", "move"]),
    st.integers(0, 10_000),
    st.integers(0, 10_000),
)
def test_shipped_studies(path, kind, node, extra):
    data, base = _shipped(path)
    nodes = list(paths(data))
    chosen = nodes[node % len(nodes)]
    text = mutated(data, chosen, kind, extra)
    if text is not None:
        check(base, text, chosen)


_CACHE = {}


def _shipped(path):
    if path not in _CACHE:
        _CACHE[path] = tree(path), load_source(path).study
    return _CACHE[path]


@given(st.data())
def test_text_with_characters_changed(data):
    text = FULL.read_text()
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(text) - 1))
        new = data.draw(
            st.sampled_from(["", " ", ":", "{", "}", "[", "]", ",", '"', "\n", "\t", "-", "#", "*", "é", "0"])
        )
        text = text[:place] + new + text[place + data.draw(st.integers(0, 2)) :]
    try:
        load_text(text, "f.yaml")
    except StudyError as error:
        assert all(one.span is not None for one in error.diagnostics)
        assert render(error.diagnostics)
