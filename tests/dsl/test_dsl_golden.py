"""Every bad study in errors/ gives the text beside it; run this file as a script to rewrite the texts.

What only binding, the machine or the command line can know is in tests/test_codes_*.py, and so is the test that no code
is left out.
"""

import os
from pathlib import Path

import pytest

from vitdsl.dsl.codes import CATALOGUE
from vitdsl.dsl.diagnostics import StudyError
from vitdsl.dsl.load import load_source
from vitdsl.dsl.render import concise, render

ERRORS = Path(__file__).with_name("errors")
CASES = sorted(path.stem for path in ERRORS.glob("*.yaml"))


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


if __name__ == "__main__":
    for name in CASES:
        (ERRORS / f"{name}.txt").write_text(render(diagnose(name).diagnostics, everything=True) + "\n")
