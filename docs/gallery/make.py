"""Make the pictures of this folder anew: `python docs/gallery/make.py`, in a few minutes.

Runs each study, and takes a picture of one of its figures as a wide page, a phone and a column of a paper show it.
"""

import io
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

from vitdsl.cli import run as command

HERE = Path(__file__).parent
FIGURES = {
    HERE.parent.parent / "specs" / "skip_ablation.yaml": "accuracy-drop",
    HERE / "depths.yaml": "ratio-ratio",
    HERE / "long.yaml": "within-vit-within-conv-across-cka",
    HERE / "conditions.yaml": "norms-mean",
    HERE / "untitled.yaml": "drift-vit-drift-res-cka",
}
"""The studies, and the figure of each that is shown; of the first also the top of its page."""
SCREENS = {"wide": (1440, 900), "phone": (390, 844)}
COLUMN = 3.3
"""Width of a column in inches."""
COLOURS, PAPER, MARGIN = 200, 660, 16
"""Colours of a picture, pixels across a column, and around a figure."""


def main(names: list[str]) -> None:
    """Make the pictures of these studies, or of all."""
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"))
        for study, figure in FIGURES.items():
            if not names or study.stem in names:
                _make(browser, study, figure, Path(folder))
        browser.close()


def _make(browser: Any, study: Path, figure: str, folder: Path) -> None:
    assert command(["run", str(study), "--out", str(folder), "--quiet"]) == 0
    (run,) = (path.parent for path in folder.glob(f"{study.stem}/*/report.html"))
    for screen, (width, height) in SCREENS.items():
        page = browser.new_page(viewport={"width": width, "height": height}, color_scheme="light")
        page.goto((run / "report.html").as_uri())
        if study.parent != HERE:
            _save(page.screenshot(), f"{study.stem}-first-{screen}")
        box = page.locator(f"#{figure}").bounding_box()
        around = {"x": max(0, box["x"] - MARGIN), "y": box["y"] - MARGIN}
        around |= {side: box[side] + 2 * MARGIN for side in ("width", "height")}
        _save(page.screenshot(full_page=True, clip=around), f"{study.stem}-{screen}")
        page.close()
    paper = folder / f"{study.stem}-paper"
    words = ["figures", str(run), "--width", str(COLUMN), "--format", "png", "--out", str(paper)]
    assert command(words) == 0
    with Image.open(paper / f"{figure}.png") as picture:
        size = (PAPER, round(picture.height * PAPER / picture.width))
        _save(picture.convert("RGB").resize(size, Image.Resampling.LANCZOS), f"{study.stem}-paper")


def _save(picture: bytes | Image.Image, name: str) -> None:
    """Few colours: drawings lose nothing by it."""
    shown = Image.open(io.BytesIO(picture)) if isinstance(picture, bytes) else picture
    few = shown.convert("RGB").quantize(COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    few.save(HERE / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main(sys.argv[1:])
