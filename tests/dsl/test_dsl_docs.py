"""Every example of the language's page does what the page says."""

import re
from pathlib import Path

import pytest

from vitdsl.dsl.load import load, load_recipe, load_text
from vitdsl.dsl.selectors import parse

PAGE = (Path(__file__).parents[2] / "docs" / "language.md").read_text()
BLOCKS = re.findall(r"```(\w+)( \w+)?\n(.*?)```", PAGE, re.DOTALL)
STUDY = next(text for language, _, text in BLOCKS if language == "yaml")
PARTS = [text for language, note, text in BLOCKS if language == "yaml" and not note and text != STUDY]


def test_the_first_example_is_a_study():
    assert load_text(STUDY).study.study == "skips"


@pytest.mark.parametrize("part", PARTS, ids=lambda text: text.split(":")[0])
def test_parts_fit_the_first_example(part, tmp_path):
    (tmp_path / "base.yaml").write_text(STUDY)
    (tmp_path / "study.yaml").write_text("extends: ./base.yaml\n" + part)
    assert load(tmp_path / "study.yaml").hash != load_text(STUDY).study.hash


def test_the_recipe(tmp_path):
    text = next(text for _, note, text in BLOCKS if note == " recipe")
    (tmp_path / "mine.yaml").write_text(text)
    assert load_recipe(tmp_path / "mine.yaml").train.epochs == 20


def test_the_python_example(capsys):
    code = next(text for language, _, text in BLOCKS if language == "python")
    exec(compile(code, "language.md", "exec"), {})
    *lines, digest = capsys.readouterr().out.splitlines()
    assert load_text("\n".join(lines)).study.hash == digest


def test_the_selectors_of_the_table():
    table = PAGE.partition("| selector | picks |")[2].partition("\n\n")[0]
    cells = [row.split("|")[1] for row in table.splitlines()[2:]]
    selectors = [
        text for cell in cells for text in re.findall(r"`([^`]+)`", cell) if not text.startswith("[")
    ]
    assert len(selectors) >= 7
    for text in selectors:
        parse(text)


def test_the_overrides_of_the_page():
    for argument in ["seed=3", "metrics.accuracy.of=[vit]", "title=Any text, with = and #", "claims=null"]:
        assert argument in PAGE
        load_text(STUDY, overrides=[argument])
    load_text(STUDY, overrides=['models.vit.vary."options.depth"=[4, 8]'])
