"""The dialect: YAML 1.2 core scalars, refusals, places."""

import math
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from vitdsl.dsl.diagnostics import StudyError
from vitdsl.dsl.nodes import at, plain, walk
from vitdsl.dsl.reader import MAX_BYTES, read, read_text


def value(literal):
    return plain(read(f"a: {literal}\n", "f.yaml"))["a"]


@pytest.mark.parametrize(
    ("literal", "meaning"),
    [
        ("no", "no"),
        ("on", "on"),
        ("Yes", "Yes"),
        ("y", "y"),
        ("true", True),
        ("False", False),
        ("1e-3", 1e-3),
        ("1e6", 1e6),
        ("-1.5E+2", -150.0),
        ("012", 12),
        ("0o12", 10),
        ("08", 8),
        ("0x1F", 31),
        ("+3", 3),
        ("12:30:45", "12:30:45"),
        ("22:22", "22:22"),
        ("3.10", 3.1),
        (".5", 0.5),
        ("1.", 1.0),
        ("2024-01-01", "2024-01-01"),
        ("1_000", "1_000"),
        ("0b11", "0b11"),
        ("~", None),
        ("null", None),
        ("", None),
        ('"no"', "no"),
        ("'12'", "12"),
        ("=", "="),
        ("1e", "1e"),
        ("e3", "e3"),
        (".", "."),
        ("1.2.3", "1.2.3"),
        ("|\n  two\n  lines\n", "two\nlines\n"),
    ],
)
def test_scalars_mean_what_they_look_like(literal, meaning):
    found = value(literal)
    assert found == meaning and type(found) is type(meaning)


def test_a_scalar_keeps_its_text():
    assert at(read("a: 3.10", "f.yaml"), ("a",)).text == "3.10"


@pytest.mark.parametrize(
    ("text", "code", "line", "column"),
    [
        ("a: 1\nb: 2\na: 3\n", "VD006", 3, 1),
        ("a: !!python/object:os.system x", "VD007", 1, 4),
        ("a: &x !!str y", "VD007", 1, 7),
        ("%YAML 1.1\n---\na: 1", "VD007", 1, 1),
        ("a:\n  <<: {b: 1}", "VD008", 2, 3),
        ("a: 1\n---\nb: 2", "VD009", 2, 1),
        ("a: {1: 2}", "VD010", 1, 5),
        ("a: .nan", "VD011", 1, 4),
        ("a: 1e400", "VD011", 1, 4),
        ("a: \x1b[31m", "VD012", 1, 4),
        ('a: "\\x07"', "VD012", 1, 4),
        ("a: *b", "VD013", 1, 4),
        ("a: &b [*b]", "VD013", 1, 8),
        ("a:\n\tb: 1", "VD005", 2, 1),
        ("a: [1, 2", "VD004", 1, 4),
    ],
)
def test_what_is_refused(text, code, line, column):
    with pytest.raises(StudyError) as caught:
        read(text, "f.yaml")
    first = caught.value.diagnostics[0]
    assert (first.code, first.span.line, first.span.column) == (code, line, column)


def test_all_errors_of_the_dialect_at_once():
    with pytest.raises(StudyError) as caught:
        read("a: 1\na: 2\nb: !t x\n<<: 1\n2: 3\n", "f.yaml")
    assert [one.code for one in caught.value.diagnostics] == ["VD006", "VD007", "VD008", "VD010"]


def test_plain_anchors_and_aliases():
    assert plain(read("a: &x {k: [1]}\nb: *x\nc: [*x, *x]", "f"))["c"] == [{"k": [1]}] * 2


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("start", ["", "\ufeff"])
def test_places_with_other_line_ends_and_a_byte_order_mark(start, end):
    root = read(start + end.join(["# c\u2028\x85", "a: 1", "é😀: ['ü', \"x\"]", ""]), "f.yaml")
    span = at(root, ("é😀", 1)).span
    assert (span.line, span.column, span.end_column) == (3, 11, 14)
    assert span.source_line == "é😀: ['ü', \"x\"]"


def test_spans_cover_the_written_text():
    text = "a: &x 'one'\nb: {c: [1, 2.50], d: \"t\"}\ne:\n  - f\n"
    lines = text.splitlines()
    found = {}
    for path, node in walk(read(text, "f")):
        span = node.span
        if span.line == span.end_line:
            found[path] = lines[span.line - 1][span.column - 1 : span.end_column - 1]
    assert found[("a",)] == "'one'"
    assert found[("b",)] == '{c: [1, 2.50], d: "t"}'
    assert found[("b", "c", 1)] == "2.50"
    assert found[("b", "d")] == '"t"'
    assert found[("e", 0)] == "f"


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused_with_a_place(text):
    try:
        root = read(text, "f.yaml")
    except StudyError as error:
        count = max(1, len(text.splitlines()) + 1)
        assert all(1 <= one.span.line <= count for one in error.diagnostics)
    else:
        for _, node in walk(root) if root else ():
            assert not isinstance(getattr(node, "value", None), float) or math.isfinite(node.value)


@given(st.text(alphabet="ab:-[]{},&*!|>'\"# \n\t?%@`1.0~<=\\", max_size=60))
def test_text_of_indicators_is_read_or_refused(text):
    try:
        read(text, "f.yaml")
    except StudyError as error:
        assert error.diagnostics


def test_files_that_cannot_be_read(tmp_path):
    cases = {
        "VD001": [tmp_path / "none.yaml", tmp_path, tmp_path / ("n" * 300)],
        "VD002": [tmp_path / "large"],
    }
    with (tmp_path / "large").open("wb") as stream:
        stream.truncate(100 * MAX_BYTES)
    for code, paths in cases.items():
        for path in paths:
            with pytest.raises(StudyError) as caught:
                read_text(path, str(path))
            assert caught.value.diagnostics[0].code == code


def test_an_endless_device_is_refused():
    with pytest.raises(StudyError) as caught:
        read_text(Path("/dev/zero"), "/dev/zero")
    assert caught.value.diagnostics[0].code == "VD001"


def test_without_the_c_library_the_same_errors(monkeypatch):
    errors = Path(__file__).with_name("errors")
    for path in sorted(errors.glob("VD0*.yaml")):
        found = []
        for loader in (yaml.CSafeLoader, yaml.SafeLoader):
            monkeypatch.setattr("vitdsl.dsl.reader._Loader", loader)
            try:
                read(read_text(path, path.name), path.name)
                found.append([])
            except StudyError as error:
                found.append([(one.code, one.span.line) for one in error.diagnostics])
        assert found[0] == found[1], path.name
