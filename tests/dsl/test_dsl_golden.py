"""Every bad study in errors/ gives the text beside it; run this file as a script to rewrite the texts."""

import os
from pathlib import Path

import pytest

from vitdsl.dsl.codes import CATALOGUE
from vitdsl.dsl.diagnostics import StudyError
from vitdsl.dsl.load import load_source
from vitdsl.dsl.render import concise, render

ERRORS = Path(__file__).with_name("errors")
CASES = sorted(path.stem for path in ERRORS.glob("*.yaml"))
RUNTIME = {
    *(
        "VD210",
        "VD220",
        "VD221",
        "VD230",
        "VD231",
        "VD232",
        "VD233",
        "VD234",
        "VD240",
        "VD241",
        "VD242",
        "VD243",
    ),
    *("VD244", "VD245", "VD250", "VD251", "VD252", "VD301", "VD302"),
}
"""Codes that only the bound study can have; they are tested with the runtime."""
ELSEWHERE = {"VD001", "VD016", "VD018"}
"""Codes about the command line, tested with it."""


def diagnose(case: str) -> StudyError:
    """The error of one bad study, read from its own folder so that paths are short."""
    before = Path.cwd()
    os.chdir(ERRORS)
    try:
        load_source(f"{case}.yaml")
    except StudyError as error:
        return error
    finally:
        os.chdir(before)
    raise AssertionError(f"{case} is accepted")


@pytest.mark.parametrize("case", CASES)
def test_text_of_a_bad_study(case):
    error = diagnose(case)
    expected = (ERRORS / f"{case}.txt").read_text()
    assert render(error.diagnostics, everything=True) + "\n" == expected
    assert case.partition("_")[0] in {one.code for one in error.diagnostics}


@pytest.mark.parametrize("case", CASES)
def test_every_diagnostic_has_a_place_and_a_page(case):
    for one in diagnose(case).diagnostics:
        assert one.code in CATALOGUE
        assert one.span is not None and one.span.line >= 1 and one.span.column >= 1
        assert one.message[-1] not in ".:" and "\n" not in one.message
        assert "pydantic" not in render([one]).lower()
        assert concise(one).startswith(f"{one.span.file}:{one.span.line}:{one.span.column}: {one.code} ")


def test_every_code_of_the_language_has_a_case():
    covered = {case.partition("_")[0] for case in CASES}
    language = {code for code in CATALOGUE if code < "VD400"}
    assert language - covered == RUNTIME | ELSEWHERE


if __name__ == "__main__":
    for name in CASES:
        (ERRORS / f"{name}.txt").write_text(render(diagnose(name).diagnostics, everything=True) + "\n")
