"""The report of claims that changed after a run or a seal, and of warnings: what a reader sees, as text."""

import dataclasses
import html
import re
from types import ModuleType
from typing import Any

import pytest

from vitdsl.dsl.written import Changes
from vitdsl.reports.render import render
from vitdsl.runtime.results.folder import Run
from vitdsl.runtime.results.provenance import Earlier, Ran, Sealed

FIRST = Ran(run_id="skip_ablation/one", started_at="2026-11-02T09:30:00+00:00")
CHANGES = Changes(new=("drift_falls",), changed=("vit_is_uniform",), gone=("dropped",))
EARLIER = Earlier(run=FIRST, changes=CHANGES, runs=1, as_first=False)
SEAL = Sealed(
    file="study.seal.json", study="skip_ablation", sealed_at="2026-11-01T09:30:00+00:00", vitdsl="0.1.0",
    sha256="3f2a" * 16, claims_sha256="ab" * 32, rest_sha256="cd" * 32, changes=Changes(),
)  # fmt: skip


@pytest.fixture(scope="module")
def small(made: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The sample with one group of results, which is drawn fast."""
    whole: Run = made.sample(tmp_path_factory.mktemp("small"))
    return dataclasses.replace(whole, groups={"distance/vit": whole.groups["distance/vit"]})


def page_of(run: Run, **fields: Any) -> str:
    return render(dataclasses.replace(run, manifest=run.manifest.updated(**fields)))


def text_of(page: str, part: str) -> str:
    """What a reader sees of a section, or of the header."""
    pattern = r"<header>.*?</header>" if part == "header" else rf'<section id="{part}".*?</section>'
    found = re.search(pattern, page, re.DOTALL)
    assert found is not None
    inline = re.sub(r"<svg.*?</svg>|</?(code|span|b|a)\b[^>]*>", "", found[0], flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", inline)).split())


def test_an_ordinary_run_says_nothing_of_it(small: Run) -> None:
    page = page_of(small, warnings=())
    for word in ("changed after", "ealed", 'class="since"', 'class="written', 'class="warnings"'):
        assert word not in re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL)


def test_claims_that_changed_after_a_run_are_told_beside_the_verdicts(small: Run) -> None:
    page = page_of(small, earlier=EARLIER)
    assert (
        "These claims were changed after a run of this study on 2026-11-02 09:30 UTC (skip_ablation/one): "
        "vit_is_uniform (changed), drift_falls (new), dropped (gone). Nothing else in the study was changed."
    ) in text_of(page, "claims")
    assert "vit_is_uniform changed since the run of 2026-11-02 09:30 UTC" in text_of(page, "claims")
    assert "drift_falls new since the run of 2026-11-02 09:30 UTC" in text_of(page, "claims")
    assert "resnet_is_local since" not in text_of(page, "claims")
    assert "3 claims changed after a run of this study. See which" in text_of(page, "header")
    assert re.search(r'changed after a run of this study\. <a href="#claims">', page)


def test_a_study_that_lost_all_its_claims_says_so(small: Run) -> None:
    gone = EARLIER.model_copy(update={"changes": Changes(gone=("a", "b"), rest=("data.probe",))})
    page = page_of(small, earlier=gone, claims={})
    assert "a, b (gone). Changed in the study as well: data.probe." in text_of(page, "claims")
    assert "2 claims changed after a run of this study." in text_of(page, "header")


def test_claims_that_are_again_the_first_are_no_reason_for_caution(small: Run) -> None:
    page = page_of(small, earlier=EARLIER.model_copy(update={"as_first": True}))
    assert "These are the claims of the first run of this study. A run in between" in text_of(page, "claims")
    assert 'class="written">' in page and 'class="since"' not in page and "changed after" not in page


def test_a_seal_is_quoted(small: Run) -> None:
    page = page_of(small, seal=SEAL)
    said = "Sealed on 2026-11-01 09:30 UTC as 3f2a3f2a3f2a; claims and study are as sealed."
    assert said in text_of(page, "claims") and 'class="written">' in page
    assert f"Seal file study.seal.json sealed {SEAL.sealed_at}" in text_of(page, "provenance")
    assert SEAL.sha256 in text_of(page, "provenance") and "sealed" not in text_of(page, "header")


@pytest.mark.parametrize(
    ("update", "said", "head"),
    [
        ({"changes": CHANGES}, "changed since: vit_is_uniform (changed), drift_falls (new), dropped (gone).",
         "3 claims changed after the seal."),
        ({"changes": Changes(rest=("data.probe",))}, "changed since: in the study data.probe.",
         "The study was changed after it was sealed."),
        ({"run_before": FIRST}, "A run of this study, on 2026-11-02 09:30 UTC (skip_ablation/one), came before",
         "The study was sealed after a run of it."),
        ({"study": "other"}, "changed since: the study's name, which was other.",
         "The study was changed after it was sealed."),
    ],
)  # fmt: skip
def test_what_is_not_as_sealed(small: Run, update: dict[str, Any], said: str, head: str) -> None:
    page = page_of(small, seal=SEAL.model_copy(update=update))
    assert said in text_of(page, "claims") and head in text_of(page, "header")
    assert 'class="written caution">' in page


def test_warnings_are_open_to_the_reader(small: Run) -> None:
    page = page_of(small, warnings=("`probe` has 4 images. Write `images: 8`.",))
    assert '<details class="warnings" open>' in page
    assert "1 warning from this run probe has 4 images. Write images: 8." in text_of(page, "header")
    many = page_of(small, warnings=tuple(f"note {number}" for number in range(7)))
    assert '<details class="warnings"><summary>7 warnings' in many
