"""The page itself: one file, escaped, unique ids, equal bytes, small, and everything in it."""

import base64
import dataclasses
import gzip
import hashlib
import html
import json
import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import matplotlib
import pytest

from vitdsl.reports.canvas import numbered
from vitdsl.reports.opening import answer
from vitdsl.reports.render import render, write_report
from vitdsl.runtime.results.csvs import summary_rows
from vitdsl.runtime.results.folder import Run
from vitdsl.runtime.results.manifest import Manifest
from vitdsl.runtime.results.record import as_json

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\" onload='x' {{ 7*7 }} $x_1$ \u2028"


class Outline(HTMLParser):
    """Ids, tags, headings and addresses of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.tags: Counter[str] = Counter()
        self.headings: list[int] = []
        self.addresses: list[str] = []
        self.handlers: list[str] = []
        self.anchors: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        if re.fullmatch(r"h[1-6]", tag):
            self.headings.append(int(tag[1]))
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            if name in ("src", "href", "xlink:href", "action", "srcset", "data", "poster"):
                (self.anchors if (value or "").startswith("#") else self.addresses).append(value or "")
            if name.startswith("on"):
                self.handlers.append(name)


@pytest.fixture(scope="module")
def outline(page: str) -> Outline:
    return Outline(page)


def test_it_is_one_file_that_loads_nothing(page: str, outline: Outline) -> None:
    assert all(address.startswith("data:image/png;base64,") for address in outline.addresses)
    assert outline.tags["link"] == outline.tags["iframe"] == outline.tags["object"] == 0
    assert "@import" not in page and not re.search(r"url\((?!#)", page)


def test_ids_are_unique_and_anchors_lead_somewhere(outline: Outline) -> None:
    assert not [name for name, count in Counter(outline.ids).items() if count > 1]
    assert {anchor[1:] for anchor in outline.anchors} <= set(outline.ids)


def test_headings_descend_without_gaps(outline: Outline) -> None:
    levels = outline.headings
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(b - a <= 1 for a, b in zip(levels, levels[1:], strict=False))


def test_the_policy_names_the_script(page: str) -> None:
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)
    assert policy is not None
    rules = html.unescape(policy[1])
    script = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    assert len(script) == 1 and len(script[0]) < 15_000
    digest = base64.b64encode(hashlib.sha256(script[0].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in rules
    assert "default-src 'none'" in rules
    assert page.index("Content-Security-Policy") < page.index("<style>") < page.index("<script")


def test_equal_runs_give_equal_bytes(run: Run, page: str) -> None:
    before = dict(matplotlib.rcParams)
    assert render(run) == page
    assert dict(matplotlib.rcParams) == before


def test_it_is_small(page: str, outline: Outline) -> None:
    assert len(page.encode()) < 1_500_000
    assert sum(outline.tags.values()) < 20_000


def test_every_number_is_in_the_tables(run: Run, page: str) -> None:
    packed = re.search(r'id="tables">([^<]*)<', page)
    assert packed is not None
    tables = json.loads(gzip.decompress(base64.b64decode(packed[1])))
    rows = sum(text.count("\n") - 1 for text in tables.values())
    assert rows == sum(1 for _ in summary_rows(run.groups))


def test_the_manifest_is_embedded_whole(run: Run, page: str) -> None:
    found = re.search(r'<script type="application/json" id="manifest">(.*?)</script>', page, re.DOTALL)
    assert found is not None and json.loads(found[1]) == as_json(run.manifest)


def test_each_section_and_verdict_is_there(run: Run, page: str) -> None:
    for claim in run.manifest.claims.values():
        assert html.escape(claim.say, quote=False) in html.unescape(page)
    for word in ("Supported", "Refuted", "Undecided", "Passed", "Failed", "1 of 3 trust checks failed"):
        assert word in page
    for name in ("claims", "numbers", "trust", "methods", "provenance", "study", "reproduce", "cite"):
        assert f'<section id="{name}"' in page


def test_figures_have_the_takeaway_as_their_text(page: str) -> None:
    labels = re.findall(r'<svg [^>]*?role="img" aria-label="([^"]*)"', page)
    assert len(labels) > 20 and all(len(label) > 30 for label in labels)


def test_hostile_text_stays_text(made: object, run: Run) -> None:
    manifest = as_json(run.manifest)
    for key in ("title", "question", "study", "run_id"):
        manifest[key] = HOSTILE
    manifest["warnings"] = [HOSTILE]
    manifest["data"]["probe"] |= {"what": HOSTILE, "class_names": [HOSTILE]}
    manifest["models"][HOSTILE] = manifest["models"].pop("vit")
    manifest["claims"]["vit_is_uniform"]["say"] = HOSTILE
    manifest["claims"]["vit_is_uniform"]["left"]["text"] = HOSTILE
    manifest["metrics"]["accuracy"]["page"] = f"One.\n\nFormula\n    {HOSTILE}\n"
    groups = dict(run.groups)
    group = groups["accuracy/vit"].copy()
    group = group.assign_coords(
        condition=("condition", [f"{HOSTILE}{i}" for i in range(group.sizes["condition"])])
    )
    group = group.assign_coords(model=HOSTILE)
    group.attrs.update(title=HOSTILE, undefined=json.dumps([HOSTILE]))
    group["drop"].attrs["long_name"] = HOSTILE
    groups["accuracy/vit"] = group
    hostile = Manifest.model_validate_json(json.dumps(manifest))
    text = render(dataclasses.replace(run, manifest=hostile, groups=groups, source=HOSTILE))
    outline = Outline(text)
    assert not outline.handlers
    assert outline.tags["script"] == 4 and outline.tags["img"] == 10
    assert "alert(1)</script>" not in text
    assert all(address.startswith("data:image/png") for address in outline.addresses)
    assert Counter(outline.ids).most_common(1)[0][1] == 1


def test_files_beside_the_page(run: Run, tmp_path: Path) -> None:
    here = dataclasses.replace(run, path=tmp_path / "run")
    path = write_report(here)
    assert path == tmp_path / "run" / "report.html"
    names = {file.name for file in (tmp_path / "run" / "figures").iterdir()}
    assert {"accuracy-drop.svg", "accuracy-drop.csv", "drift-cka.csv"} <= names
    head = (tmp_path / "run" / "figures" / "accuracy-drop.csv").read_text().splitlines()[0]
    assert head.endswith("estimate,low,high,units")
    svg = (tmp_path / "run" / "figures" / "accuracy-drop.svg").read_text()
    assert svg.startswith("<svg xmlns=") and "var(--" not in svg


def test_another_place_gets_the_page_alone(run: Run, tmp_path: Path) -> None:
    here = dataclasses.replace(run, path=tmp_path / "run")
    assert write_report(here, tmp_path / "sent.html").is_file()
    assert [file.name for file in tmp_path.iterdir()] == ["sent.html"]


def test_ids_of_a_drawing_are_counted_whatever_they_were() -> None:
    one = '<svg><g id="p3f"/><use href="#p3f"/><g id="q" clip-path="url(#p3f)"/></svg>'
    assert numbered(one) == '<svg><g id="i0"/><use href="#i0"/><g id="i1" clip-path="url(#i0)"/></svg>'
    assert numbered(one.replace("p3f", "zz")) == numbered(one)


def test_the_page_opens_with_the_verdicts_of_the_first_claims(run: Run) -> None:
    """The first one with its numbers; of many claims the table has the rest."""
    (name, found), *_ = run.manifest.claims.items()
    many = {f"c{i}": found.updated(say=f"Claim {i}.", verdict="refuted") for i in range(7)}
    manifest = run.manifest.updated(claims={name: found.updated(say="First.", verdict="supported"), **many})
    count, first, *others = (text for text, _ in answer(dataclasses.replace(run, manifest=manifest), []))
    assert count == "8 claims: 1 supported, 7 refuted." and first.startswith("Supported: First (")
    assert others == ["Refuted: Claim 0.", "Refuted: Claim 1.", "Refuted: Claim 2."]
    alone = run.manifest.updated(claims={name: found})
    assert len(answer(dataclasses.replace(run, manifest=alone), [])) == 2
