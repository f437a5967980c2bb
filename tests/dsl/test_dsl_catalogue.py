"""The catalogue of codes: every example does what its page says, and the written page is fresh."""

from pathlib import Path

import pytest

from vitdsl.dsl.codes import CATALOGUE, RANGES, page, reference
from vitdsl.dsl.diagnostics import StudyError
from vitdsl.dsl.load import load_source

ROOT = Path(__file__).parents[2]
BASE = """\
vitdsl: 1
study: base
data: {images: {source: digits}}
models: {some_model: {arch: vit_tiny_patch16_224, weights: random}}
layers: {some_layers: {of: some_model, at: "blocks.*"}}
metrics: {some_metric: {kind: accuracy, of: some_model, data: images}}
"""
LANGUAGE = [
    one for one in CATALOGUE.values() if one.code < "VD210" or one.code in ("VD211", "VD222", "VD253")
]
EXAMPLES = [one for one in LANGUAGE if one.wrong and one.language == "yaml"]


def codes_of(example, folder):
    (folder / "base.yaml").write_text(BASE)
    head = "" if example.startswith(("extends", "-")) else "extends: ./base.yaml\n"
    (folder / "study.yaml").write_text(head + example + "\n")
    try:
        load_source(folder / "study.yaml")
    except StudyError as error:
        return {one.code for one in error.diagnostics}
    return set()


@pytest.mark.parametrize("one", EXAMPLES, ids=lambda one: one.code)
def test_examples_do_what_their_page_says(one, tmp_path):
    assert codes_of(one.wrong, tmp_path) == {one.code}
    assert codes_of(one.right, tmp_path) == set()


@pytest.mark.parametrize("one", CATALOGUE.values(), ids=lambda one: one.code)
def test_every_code_has_a_page(one):
    text = page(one)
    assert text.startswith(f"{one.code}: {one.title}\n")
    assert one.code[:3] in RANGES and one.title[0].islower() | one.title.startswith(("YAML", "UTF"))
    assert one.explanation.endswith((".", "...")) and bool(one.wrong) == bool(one.right)
    assert max(map(len, text.splitlines())) <= 120


def test_the_written_page_is_fresh():
    assert (ROOT / "docs" / "errors.md").read_text() == reference()


def test_every_code_in_use_is_in_the_catalogue():
    import re

    used = set()
    for folder in ("dsl", "runtime", "reports", "vitdsl"):
        for path in (ROOT / folder).rglob("*.py"):
            used |= set(re.findall(r'"(VD\d{3})"', path.read_text()))
    assert used <= set(CATALOGUE)
