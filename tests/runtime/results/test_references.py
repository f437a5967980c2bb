"""Works to cite: every shipped kind names its own, entries are whole, and a DOI is one that its entry bears out."""

import re

import pytest

from vitdsl.runtime.ablations._base import ABLATIONS
from vitdsl.runtime.kinds import documentation
from vitdsl.runtime.metrics._base import METRICS
from vitdsl.runtime.results import references
from vitdsl.runtime.results.references import of_family, works

KINDS = {f"{one.__module__}": one for one in (*METRICS.kinds().values(), *ABLATIONS.kinds().values())}
SHIPPED = {name: one for name, one in KINDS.items() if name.startswith("vitdsl.")}
NOT_FROM_ARXIV = {"10.3389/neuro.06.004.2008", "10.5281/zenodo.4414861", "10.1023/A:1008800423698"}
"""Looked up one by one."""


def said_of_reference(page: str) -> str:
    """What a kind's page says under Reference."""
    found = re.search(r"^Reference:\n((?:    .*\n|\n)*)", page, re.MULTILINE)
    return found[1].strip() if found else ""


@pytest.mark.parametrize("name", SHIPPED)
def test_a_kind_cites_what_its_page_names(name: str) -> None:
    kind = SHIPPED[name]
    said = said_of_reference(documentation(kind))
    assert set(kind.cites) <= set(works())
    assert bool(kind.cites) == (said not in ("", "Definitions."))
    eprints = {works()[key].fields.get("eprint") for key in kind.cites}
    assert set(re.findall(r"arXiv (\d{4}\.\d{4,5})", said)) <= eprints


@pytest.mark.parametrize("key", works())
def test_an_entry_is_whole_and_its_doi_is_that_of_its_preprint_or_was_looked_up(key: str) -> None:
    work = works()[key]
    assert {"author", "title", "year"} <= set(work.fields) and re.fullmatch(r"\d{4}", work.fields["year"])
    assert all(author.count(", ") == 1 for author in work.fields["author"].split(" and "))
    doi = work.fields.get("doi")
    if "eprint" in work.fields:
        assert doi == f"10.48550/arXiv.{work.fields['eprint']}"
    else:
        assert doi is None or doi in NOT_FROM_ARXIV
    assert (
        work.key == key
        and work.bibtex.startswith(f"@{work.kind}{{{key},\n")
        and "keywords" not in work.bibtex
    )
    assert work.bibtex.count("{") == work.bibtex.count("}")


def test_every_entry_is_cited_by_something() -> None:
    by_kinds = {key for kind in SHIPPED.values() for key in kind.cites}
    fixed = {references.TIMM, references.TORCH, references.JACKKNIFE, references.HOLM}
    of_models = {key for key, work in works().items() if references.FAMILY in work.fields}
    assert set(works()) == by_kinds | fixed | of_models


def test_short_and_long_forms() -> None:
    assert works()["raghu2021"].short == "Raghu et al., 2021"
    assert works()["abnar2020"].short == "Abnar and Zuidema, 2020"
    assert works()["holm1979"].short == "Holm, 1979"
    assert works()["roy2007"].plain == (
        "Olivier Roy and Martin Vetterli (2007). The Effective Rank: A Measure of Effective Dimensionality. "
        "European Signal Processing Conference, 606-610."
    )


def test_architectures_lead_to_their_works() -> None:
    from vitdsl.runtime.models.architectures import family_of

    found = {
        arch: [work.key for work in of_family(family_of(arch))]
        for arch in ("resnet18", "vit_tiny_patch16_224.augreg_in21k", "tresnet_m", "no_such")
    }
    assert found == {
        "resnet18": ["he2016"],
        "vit_tiny_patch16_224.augreg_in21k": ["dosovitskiy2021"],
        "tresnet_m": [],
        "no_such": [],
    }
