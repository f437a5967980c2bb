"""The page in a browser without a network: no request, no error, no sideways scrolling; controls work."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import pytest

import browsers
from vitdsl.reports.diff import render as render_diff
from vitdsl.reports.index import write_index
from vitdsl.reports.render import write_report
from vitdsl.runtime.results.diff import diff
from vitdsl.runtime.results.folder import Run
from vitdsl.runtime.results.manifest import Manifest
from vitdsl.runtime.results.record import as_json


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with browsers.opened() as started:
        yield started


@pytest.mark.parametrize("needed", ["", "1"])
def test_a_missing_browser_fails_only_where_it_is_needed(
    needed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(browsers.NEEDED, needed)
    monkeypatch.setattr(browsers, "CHROMIUM", None)
    with (
        pytest.raises(pytest.fail.Exception if needed else pytest.skip.Exception, match="no Chromium"),
        browsers.opened(),
    ):
        pass


@pytest.fixture(scope="module")
def address(run: Run, tmp_path_factory: pytest.TempPathFactory) -> str:
    path: Path = write_report(run, tmp_path_factory.mktemp("page") / "report.html")
    return path.as_uri()


def _open(browser: Any, address: str, width: int, **options: Any) -> tuple[Any, list[str]]:
    page = browser.new_page(viewport={"width": width, "height": 900}, offline=True, **options)
    page.set_default_timeout(120_000)
    seen: list[str] = []
    page.on("request", lambda request: seen.append(request.url))
    page.on("console", lambda message: seen.append(message.text))
    page.on("pageerror", lambda error: seen.append(str(error)))
    page.goto(address)
    return page, [url for url in seen if url != address and not url.startswith("data:image/png")]


@pytest.mark.parametrize("width", [320, 390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_opens_quietly_and_fits(browser: Any, address: str, width: int, scheme: str) -> None:
    page, seen = _open(browser, address, width, color_scheme=scheme)
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert seen == []
    page.close()


@pytest.mark.parametrize("width", [390, 1440])
def test_maps_fit_and_say_their_largest(browser: Any, made: Any, tmp_path: Path, width: int) -> None:
    path = write_report(made.fields(tmp_path / "run"), tmp_path / "report.html")
    page, seen = _open(browser, path.as_uri(), width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    maps = page.locator(f"#field-map .{'wide' if width > 760 else 'narrow'} > svg[data-marks]").first
    maps.focus()
    page.keyboard.press("ArrowRight")
    tip = page.locator("#tip")
    tip.wait_for(state="visible")
    assert re.fullmatch(r"blocks\.\d+: largest 0\.\d+", tip.inner_text())
    assert seen == []
    page.close()


def test_it_is_whole_without_scripts(browser: Any, address: str) -> None:
    page, seen = _open(browser, address, 1280, java_script_enabled=False)
    assert seen == []
    assert page.locator("section").count() >= 12
    assert page.locator(".wide > svg").first.is_visible()
    assert not page.locator("button").first.is_visible()
    page.close()


def test_values_under_the_pointer_and_the_keys(browser: Any, address: str) -> None:
    page, seen = _open(browser, address, 1280)
    tip = page.locator("#tip")
    heatmap = page.locator("#within-vit-within-res-across-cka .cell > svg").first
    heatmap.scroll_into_view_if_needed()
    heatmap.hover()
    tip.wait_for(state="visible")
    assert re.fullmatch(r"blocks\.\d, blocks\.\d: [01]\.\d+", tip.inner_text())
    page.keyboard.press("Escape")
    assert not tip.is_visible()
    effect = page.locator("#accuracy-drop .wide > svg")
    effect.scroll_into_view_if_needed()
    # What scrolls hides the tip: a focus that scrolls would do so a moment after the key.
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    effect.focus()
    page.keyboard.press("ArrowRight")
    tip.wait_for(state="visible")
    assert tip.inner_text().startswith("vit, blocks.1.attn: 0.")
    assert seen == []
    page.close()


def test_controls(browser: Any, address: str) -> None:
    page, seen = _open(browser, address, 1280, color_scheme="light")
    ground = "getComputedStyle(document.body).backgroundColor"
    before = page.evaluate(ground)
    page.get_by_role("button", name="Dark or light").click()
    assert page.evaluate(ground) != before
    data = page.locator("#accuracy-drop details.data")
    data.locator("summary").click()
    with page.expect_download() as download:
        data.get_by_role("button", name="Download CSV").click()
    text = Path(download.value.path()).read_text()
    assert text.startswith("metric,group,value,condition") and text.count("\n") == 19
    with page.expect_download() as download:
        data.get_by_role("button", name="Download SVG").click()
    assert "var(--" not in Path(download.value.path()).read_text()
    data.get_by_role("button", name="estimate").click()
    column = "rows => rows.map(row => Number(row.cells[row.cells.length - 2].dataset.v))"
    values = data.locator("tbody tr").evaluate_all(column)
    assert values == sorted(values)
    data.get_by_role("searchbox").fill("blocks.3")
    assert data.locator("tbody tr:visible").count() == 1
    assert seen == []
    page.close()


@pytest.fixture(scope="module")
def others(run: Run, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Addresses of the page of two runs, whose numbers are far apart, and of that of several studies."""
    manifest = as_json(run.manifest)
    for data in manifest["data"].values():
        data["content_sha256"] = "0" * 64
    for claim in manifest["claims"].values():
        claim["verdict"] = "undecided"
    sized = {
        path: data.assign_attrs(left_out=[8.0] * data.sizes["replicate"]) for path, data in run.groups.items()
    }
    groups = {path: data.assign({n: data[n] + 0.7 for n in data.data_vars}) for path, data in sized.items()}
    other = replace(run, manifest=Manifest.model_validate_json(json.dumps(manifest)), groups=groups)
    folder = tmp_path_factory.mktemp("others")
    found = diff(replace(run, groups=sized), other)
    assert found.moved > 20 and found.claims
    (folder / "diff.html").write_text(render_diff(found))
    index = write_index(folder, [(run.manifest, folder / "a b" / "report.html"), (other.manifest, None)])
    return {"diff": (folder / "diff.html").as_uri(), "index": index.as_uri()}


@pytest.mark.parametrize("width", [320, 1280])
@pytest.mark.parametrize("name", ["diff", "index"])
def test_other_pages_open_quietly_and_fit(
    browser: Any, others: dict[str, str], name: str, width: int
) -> None:
    page, seen = _open(browser, others[name], width)
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    ground = "getComputedStyle(document.body).backgroundColor"
    before = page.evaluate(ground)
    page.evaluate("document.getElementById('theme').click()")
    assert page.evaluate(ground) != before
    assert seen == []
    page.close()
    if name == "index":
        text = Path(unquote(urlparse(others[name]).path)).read_text()
        assert text.count('href="a%20b/report.html"') == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(browser: Any, address: str, scheme: str) -> None:
    try:
        from axe_playwright_python.sync_playwright import Axe
    except ImportError as error:
        browsers.absent(f"axe is not installed: {error}")
    axe = Axe()
    page = browser.new_page(viewport={"width": 1280, "height": 900}, color_scheme=scheme)
    page.set_content(_without_policy(address))
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    found = axe.run(page).response["violations"]
    assert [(one["id"], [node["html"][:120] for node in one["nodes"][:3]]) for one in found] == []
    page.close()


def _without_policy(address: str) -> str:
    """The page without its policy, which lets no script in but its own."""
    text = Path(address.removeprefix("file://")).read_text("utf-8")
    return re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", text, count=1)


def test_it_prints_on_ten_pages_at_most(browser: Any, address: str, tmp_path: Path) -> None:
    page, _ = _open(browser, address, 1280)
    page.pdf(path=tmp_path / "page.pdf", format="A4", print_background=True)
    pages = re.findall(rb"/Type\s*/Page[^s]", (tmp_path / "page.pdf").read_bytes())
    assert 3 <= len(pages) <= 10
    page.close()


def test_the_answer_and_its_figure_stand_on_the_first_screen(browser: Any, address: str) -> None:
    page, _ = _open(browser, address, 1440)
    figure = page.locator("header figure")
    assert page.locator("header .answer p").count() >= 2 and figure.count() == 1
    box = figure.locator(".panel:visible svg:visible").first.bounding_box()
    assert box["y"] + box["height"] <= 900
    assert figure.locator(".number").inner_text() == "Figure 1."
    pictures = page.locator("header .pictures img")
    assert pictures.count() == 10 and all(one.bounding_box()["width"] >= 30 for one in pictures.all())
    assert "512 images (probe)" in page.locator("header .about").inner_text()
    page.close()
