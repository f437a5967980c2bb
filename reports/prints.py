"""Figures for a paper: each with all its panels in one file, lettered, at a column's width, with the fonts inside.

A figure is drawn once in the report's units and scaled to its width, so that letters come out at `LETTERS` points
whatever the width. Does not own what is drawn (`figures`), or which figures a run has (`sections`).
"""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, cast

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import SubFigure
from pypdf import PdfReader, PdfWriter

from vitdsl.reports.canvas import Sheet, numbered, rounded, style
from vitdsl.reports.figures._base import Panel, Plot
from vitdsl.reports.sections import plots, sections
from vitdsl.reports.tables import records, to_csv
from vitdsl.reports.theme import FONT_PX, NARROW
from vitdsl.runtime.results.csvs import is_table
from vitdsl.runtime.results.folder import Run
from vitdsl.runtime.results.writing import write_atomically, write_text

Format = Literal["pdf", "svg", "png"]
LETTERS = 7.5
"""Size of the letters in points."""
DOTS = 300
"""Dots an inch of a PNG."""
POINTS = 72
TITLE = 32
"""Height of a panel's heading, in the report's units, with air for what stands over the axes."""
CAPTIONS = "captions.tex"


def write_figures(run: Run, out: Path, width: float, format: Format) -> list[Path]:
    """Write every figure of a run, its numbers, and their captions.

    Args:
        run: The run.
        out: The folder that they go to.
        width: In inches.
        format: Of the drawings.

    Returns:
        The files: for each figure its drawing and `<figure>.csv`; at last `captions.tex`.

    Raises:
        EnvironmentProblem: A file cannot be written (VD407).
    """
    written: list[Path] = []
    captions = []
    for plot in (plot for section in sections(run) for plot in plots(section)):
        if not plot.panels:
            continue
        target = out / f"{plot.id}.{format}"
        content = drawn(plot, width, format)
        write_atomically(target, partial(Path.write_bytes, data=content))
        rows = list(records([part for part in plot.parts if is_table(part.dataset, part.value)]))
        table = [out / f"{plot.id}.csv"] if rows else []
        for path in table:
            write_text(path, to_csv(rows))
        written += [target, *table]
        captions.append(caption(plot, format))
    write_text(out / CAPTIONS, "\n".join(captions))
    return [*written, out / CAPTIONS]


def drawn(plot: Plot, width: float, format: Format) -> bytes:
    """A figure as a file.

    Args:
        plot: The figure; it has panels.
        width: In inches.
        format: Of the file.
    """
    scale = LETTERS / FONT_PX
    units = width * POINTS / scale
    with style(), matplotlib.rc_context(cast(Any, {"pdf.fonttype": 42, "svg.fonttype": "path"})):
        sheet = _sheet(plot.panels, round(units))
        buffer = io.BytesIO()
        if format == "png":
            dots = (DOTS, DOTS)
            sheet.savefig(buffer, format="png", dpi=DOTS * scale, facecolor="white", pil_kwargs={"dpi": dots})
            return buffer.getvalue()
        empty = {"Date": None, "Creator": None} if format == "svg" else {"CreationDate": None}
        sheet.savefig(buffer, format=format, metadata=cast(Any, empty))
    return _scaled_pdf(buffer, scale) if format == "pdf" else _scaled_svg(buffer.getvalue(), sheet, scale)


def _sheet(panels: Sequence[Panel], width: int) -> Sheet:
    """All panels on one sheet: cells side by side where there is room, the others over the whole width."""
    wide = width >= 2 * NARROW
    rows = list(_rows(panels, 2 if wide else 1))
    several = sum(not panel.bar for panel in panels) > 1
    heights = [
        height
        for row in rows
        for height in (
            TITLE if several and not row[0].bar else 1,
            max(_height(panel, wide) for panel in row),
        )
    ]
    sheet = Sheet(width, sum(heights))
    FigureCanvasAgg(sheet)
    letter = iter("abcdefghijklmnopqrstuvwxyz")
    lines = np.atleast_1d(np.asarray(sheet.subfigures(len(heights), 1, height_ratios=heights), object))
    for row, above, below in zip(rows, lines[::2], lines[1::2], strict=True):
        columns = 2 if wide and row[0].cell else 1
        headings, places = (np.atleast_1d(line.subfigures(1, columns)) for line in (above, below))
        for panel, heading, place in zip(row, headings, places, strict=False):
            if several and not panel.bar:
                words = f"{next(letter)}   {panel.title}"
                heading.text(0.01, 0.5, words, fontweight="bold", fontsize=FONT_PX, va="center")
            panel.draw(cast(Sheet, Within(sheet, place)), wide and not panel.cell)
    return sheet


def _rows(panels: Sequence[Panel], most: int) -> Iterator[list[Panel]]:
    row: list[Panel] = []
    for panel in panels:
        if row and (len(row) == most or not panel.cell):
            yield row
            row = []
        row.append(panel)
        if not panel.cell:
            yield row
            row = []
    if row:
        yield row


def _height(panel: Panel, wide: bool) -> int:
    return panel.height if wide or panel.cell else panel.narrow_height


@dataclass(frozen=True)
class Within:
    """A part of a sheet that is drawn on as a sheet is."""

    sheet: Sheet
    place: SubFigure

    def __getattr__(self, name: str) -> Any:
        """What the part has itself; what belongs to a whole drawing, from the sheet."""
        return getattr(self.sheet if name in ("points", "grids", "settle") else self.place, name)

    def get_figwidth(self) -> float:
        """Width of the part in inches, in the report's units."""
        return float(self.sheet.get_figwidth() * self.place.bbox.width / max(self.sheet.bbox.width, 1.0))


def _scaled_pdf(buffer: io.BytesIO, scale: float) -> bytes:
    writer = PdfWriter(clone_from=PdfReader(buffer))
    for page in writer.pages:
        page.scale_by(scale)
    writer.metadata = None
    found = io.BytesIO()
    writer.write(found)
    return found.getvalue()


def _scaled_svg(svg: bytes, sheet: Sheet, scale: float) -> bytes:
    """The drawing with its size in inches, to the same bytes each time; its own units stay as they are."""
    text = rounded(numbered(svg.decode()))
    head, _, rest = text.partition('width="')
    size = (side * scale for side in (sheet.get_figwidth(), sheet.get_figheight()))
    width, height = (f"{side:.3f}in" for side in size)
    _, _, rest = rest.partition('height="')
    _, _, rest = rest.partition('"')
    return f'{head}width="{width}" height="{height}"{rest}'.encode()


def caption(plot: Plot, format: Format) -> str:
    """A figure as LaTeX has it: the file, what it shows, how to read it."""
    lead, *details = plot.takeaway.split("\n")
    words = " ".join(filter(None, (lead, *details, plot.caption)))
    name = f"{plot.id}.{'pdf' if format == 'svg' else format}"
    return (
        "\\begin{figure}\n  \\centering\n"
        f"  \\includegraphics{{{name}}}\n  \\caption{{{latex(words)}}}\n  \\label{{fig:{plot.id}}}\n\\end{{figure}}\n"
    )


def latex(text: str) -> str:
    """Plain text as LaTeX: nothing in it is a command."""
    special = {
        "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%",
        "_": r"\_", "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "\N{MINUS SIGN}": "$-$",
        "\N{RIGHTWARDS ARROW}": r"$\rightarrow$", "\N{MULTIPLICATION SIGN}": r"$\times$",
    }  # fmt: skip
    return "".join(special.get(character, character) for character in text)
