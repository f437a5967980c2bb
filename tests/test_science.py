"""docs/science.md has every claim of the findings and questions, with a verdict, also the refuted ones."""

import re
from pathlib import Path

import pytest

from vitdsl.dsl.load import load_source

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "science.md").read_text("utf-8")
STUDIES = sorted((ROOT / "specs" / "findings").glob("*.yaml")) + sorted(
    (ROOT / "specs" / "questions").glob("*.yaml")
)


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_every_claim_stands_there_with_its_verdict(path: Path) -> None:
    study = load_source(path).study
    assert f"`{path.relative_to(ROOT)}`" in PAGE
    block = re.search(rf"<!-- claims of {study.study} -->\n(.*?)<!-- end -->", PAGE, re.DOTALL)
    assert block, "no table"
    rows = [line for line in block[1].splitlines() if line.startswith("| ")][1:]
    said = [line.split(" | ")[0].removeprefix("| ") for line in rows]
    assert said == [claim.say for claim in study.claims.values()]
    assert all(re.search(r"\| \*\*(supported|refuted|undecided)\*\* \|$", line) for line in rows)
    controls = [claim for claim in study.claims.values() if claim.say.startswith("Control.")]
    assert controls or "Control" in path.read_text("utf-8"), "no control"


def test_nothing_is_left_to_write() -> None:
    assert not re.search(r"HERE\w", PAGE)
