"""Figures for a paper: their size, their letters, all panels in one file, and captions that LaTeX takes."""

import io
import re
from pathlib import Path

import pytest
from PIL import Image
from pypdf import PdfReader

from vitdsl.cli import run as command
from vitdsl.reports.prints import CAPTIONS, LETTERS, drawn, latex
from vitdsl.reports.sections import plots, sections
from vitdsl.runtime.results.folder import Run


@pytest.fixture(scope="module")
def plot(run: Run):
    """The matrices of the sample: cells and a panel beside."""
    return next(one for one in map(lambda s: next(plots(s)), sections(run)) if len(one.panels) > 2)


@pytest.mark.parametrize("width", [3.3, 6.9])
def test_a_pdf_has_its_width_and_its_fonts(plot, width: float) -> None:
    page = PdfReader(io.BytesIO(drawn(plot, width, "pdf"))).pages[0]
    assert float(page.mediabox.width) == pytest.approx(72 * width, abs=0.7)
    fonts = page["/Resources"]["/Font"]
    assert fonts
    for font in fonts.values():
        one = font.get_object()
        one = one["/DescendantFonts"][0].get_object() if "/DescendantFonts" in one else one
        assert "/FontFile2" in one["/FontDescriptor"].get_object()
    text = page.extract_text()
    for i, panel in enumerate(one for one in plot.panels if not one.bar):
        assert re.search(rf"{'abcdefgh'[i]}\s+{re.escape(panel.title)}", text), panel.title


def test_letters_have_one_size_at_any_width(plot) -> None:
    sizes = []
    for width in (3.3, 6.9):
        found: list[float] = []
        page = PdfReader(io.BytesIO(drawn(plot, width, "pdf"))).pages[0]
        page.extract_text(
            visitor_text=lambda text, cm, tm, font, size, found=found: (
                found.append(size * cm[0]) if text.strip() else None
            )
        )
        sizes.append(max(found))
    assert sizes[0] == pytest.approx(sizes[1], rel=1e-3)
    assert LETTERS - 1 <= sizes[0] <= LETTERS + 0.5


def test_a_png_has_three_hundred_dots_an_inch(plot) -> None:
    with Image.open(io.BytesIO(drawn(plot, 3.3, "png"))) as image:
        assert image.width == pytest.approx(990, abs=3)
        assert image.info["dpi"][0] == pytest.approx(300, abs=0.5)


def test_an_svg_has_its_size_in_inches_and_its_letters_as_paths(plot) -> None:
    text = drawn(plot, 6.9, "svg").decode()
    assert re.search(r'<svg [^>]*?width="6\.9\d\din" height="[\d.]+in"', re.sub(r"\s+", " ", text))
    assert "<text" not in text
    assert drawn(plot, 6.9, "svg") == drawn(plot, 6.9, "svg")


def test_the_command_writes_figures_numbers_and_captions(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vitdsl.runtime.results.folder.open_run", lambda path: run)
    words = ["figures", str(run.path), "--out", str(tmp_path), "--format", "png", "--width", "3.3"]
    assert command(words) == 0
    names = {path.name for path in tmp_path.iterdir()}
    assert {"accuracy-drop.png", "accuracy-drop.csv", CAPTIONS} <= names
    captions = (tmp_path / CAPTIONS).read_text()
    assert captions.count(r"\begin{figure}") == sum(name.endswith(".png") for name in names)
    assert r"\includegraphics{accuracy-drop.png}" in captions
    assert capsys.readouterr().out.splitlines()[-1].endswith(f"and {CAPTIONS}")


def test_nothing_in_a_caption_is_a_command() -> None:
    assert latex(r"50 % of a_b & $x$ {\rm}") == r"50 \% of a\_b \& \$x\$ \{\textbackslash{}rm\}"


def test_letters_of_an_svg_keep_their_size(plot) -> None:
    scales = set(re.findall(r"scale\(([\d. -]+)\)", drawn(plot, 6.9, "svg").decode()))
    assert "0.015625" in scales, "a letter's path is in 64ths of a unit"
