"""Matplotlib without its global state: a sheet of so many CSS pixels in, clean SVG out.

Nothing here imports pyplot. Text stays text (`svg.fonttype: none`), measured with the font that matplotlib
brings and shown in the reader's system font. Bytes depend on the numbers only: fixed hash salt, no dates.
"""

import io
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from vitdsl.reports.theme import DRAWN_WITH, FONTS, LIGHT, RC

_HEAD = re.compile(r"<\?xml.*?\?>|<!DOCTYPE.*?>|<metadata>.*?</metadata>|<!--.*?-->", re.DOTALL)
_REFERENCE = re.compile(r'(?:url\(#|href="#)([^)"]+)')
_ID = re.compile(r'\sid="([^"]*)"')
_GROUP = re.compile(r"(<g(?:\s[^>]*)?>|</g>)")
_GEOMETRY = re.compile(r'\s(?:d|x|y|width|height|transform)="[^"]*"')
_DECIMALS = re.compile(r"scale\([^)]*\)|-?\d+\.\d{3,}")


class Sheet(Figure):
    """A drawing that remembers what its marks say, for the page to show on hover and on arrow keys."""

    def __init__(self, width: int, height: int) -> None:
        layout = ConstrainedLayoutEngine(w_pad=4 / 72, h_pad=4 / 72)
        super().__init__(figsize=(width / 72, height / 72), layout=layout)
        self.points: list[tuple[Axes, float, float, str]] = []
        self.grids: list[tuple[Axes, Sequence[str], Sequence[str], Sequence[Sequence[str]]]] = []

    def settle(self) -> None:
        """Give all axes their places, as drawing the sheet would, but draw nothing.

        matplotlib's own ways (`savefig`, `draw_without_rendering`) draw a sheet whole for that, and throw it away.
        """
        engine = self.get_layout_engine()
        if engine is not None:
            engine.execute(self)


Draw = Callable[[Sheet, bool], None]
"""Draws on a sheet; the flag is true on a wide page."""


@dataclass(frozen=True)
class Drawing:
    """A stand-alone SVG, and where in it which mark says what."""

    svg: str
    marks: dict[str, Any]


Call = Callable[[], Drawing]
"""Makes a drawing within `style()`. It can be pickled: another process may be the one to make it."""


def note_points(axes: Axes, x: Iterable[float], y: Iterable[float], texts: Sequence[str]) -> None:
    """Remember what points of a drawing say; undefined ones are not there to be pointed at."""
    sheet = axes.get_figure(root=True)
    if isinstance(sheet, Sheet):
        here = zip(x, y, texts, strict=True)
        sheet.points += [(axes, float(a), float(b), text) for a, b, text in here if a == a and b == b]


def note_grid(
    axes: Axes, rows: Sequence[str], columns: Sequence[str], texts: Sequence[Sequence[str]]
) -> None:
    """Remember what the cells of a heatmap say; `texts` is [row, column], the first row at the bottom."""
    sheet = axes.get_figure(root=True)
    if isinstance(sheet, Sheet):
        sheet.grids.append((axes, rows, columns, texts))


@contextmanager
def style() -> Iterator[None]:
    """The report's look, for as long as figures are drawn; matplotlib's own settings come back after."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        for name, value in RC.items():
            matplotlib.rcParams[name] = value  # type: ignore[index,unused-ignore]
        yield


def draw_svg(draw: Draw, width: int, height: int, wide: bool) -> Drawing:
    """Draw on a new sheet, one unit for each CSS pixel."""
    sheet = Sheet(width, height)
    canvas = FigureCanvasSVG(sheet)
    draw(sheet, wide)
    buffer = io.StringIO()
    sheet.settle()
    sheet.set_layout_engine("none")
    canvas.print_svg(buffer, metadata={"Date": None, "Creator": None})  # type: ignore[no-untyped-call]
    return Drawing(_clean(buffer.getvalue(), width, height), _marks(sheet, height))


def _marks(sheet: Sheet, height: int) -> dict[str, Any]:
    """Positions in the SVG: `p` holds points `[x, y, text]`, `g` the first grid's box, names and texts."""
    marks: dict[str, Any] = {}
    if sheet.points:
        marks["p"] = []
        for axes, a, b, text in sheet.points:
            x, y = axes.transData.transform((a, b))
            marks["p"].append([round(float(x), 1), round(height - float(y), 1), text])
    for axes, rows, columns, texts in sheet.grids[:1]:
        box = axes.get_window_extent()
        corners = (box.x0, height - box.y1, box.x1, height - box.y0)
        marks["g"] = [[round(float(c), 1) for c in corners], list(rows), list(columns), texts]
    return marks


def inline(svg: str, prefix: str, alt: str, *, marked: bool = True) -> Markup:
    """The SVG as part of a page: ids of its own, colours as CSS variables, the takeaway as its text.

    What is `marked` says what is under the pointer.
    """
    svg = _ID.sub(lambda m: f' id="{prefix}-{m[1]}"', svg)
    svg = _REFERENCE.sub(lambda m: m[0][: -len(m[1])] + f"{prefix}-{m[1]}", svg)
    for name, colour in LIGHT.items():
        svg = svg.replace(colour, f"var(--{name})")
    head, _, body = svg.partition(">")
    head = re.sub(r'\sxmlns(?::xlink)?="[^"]*"', "", head)
    marks = f' data-marks="{prefix}"' if marked else ""
    return Markup(f'{head} role="img" aria-label="{escape(alt)}"{marks}>{body}')


def rounded(svg: str) -> str:
    """The drawing without digits that nobody sees, the last of which differ by run."""
    return _GEOMETRY.sub(lambda m: _DECIMALS.sub(_rounded, re.sub(r"\s*\n\s*", " ", m[0])), svg)


def numbered(svg: str) -> str:
    """The drawing with its ids counted in order: matplotlib's hash coordinates whose last digits differ by run."""
    names = {name: f"i{i}" for i, name in enumerate(dict.fromkeys(_ID.findall(svg)))}
    svg = _ID.sub(lambda m: f' id="{names[m[1]]}"', svg)
    return _REFERENCE.sub(lambda m: m[0][: -len(m[1])] + names.get(m[1], m[1]), svg)


def without_bare_groups(svg: str) -> str:
    """The drawing without groups that have no attributes: they are half of all that a page holds, and do nothing."""
    kept: list[str] = []
    bare: list[bool] = []
    for piece in _GROUP.split(svg):
        if piece == "</g>":
            if not bare.pop():
                kept.append(piece)
        elif _GROUP.fullmatch(piece):
            bare.append(piece == "<g>")
            if not bare[-1]:
                kept.append(piece)
        else:
            kept.append(piece)
    return "".join(kept)


def _clean(svg: str, width: int, height: int) -> str:
    """Without prologue, metadata, comments, ids that nothing refers to, and digits that nobody sees."""
    svg = _HEAD.sub("", svg)
    used = set(_REFERENCE.findall(svg))
    svg = numbered(_ID.sub(lambda m: m[0] if m[1] in used else "", svg))
    svg = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", svg, count=1, flags=re.DOTALL)
    svg = re.sub(r"font-family: '?" + DRAWN_WITH + r"'?[^;\"]*;? ?", "", svg)
    svg = re.sub(r'\stransform="rotate\(-?0 [^"]*"', "", svg)
    svg = rounded(svg)
    svg = re.sub(r"\s*\n\s*", "\n", svg).replace(">\n<", "><").strip()
    svg = without_bare_groups(svg)
    namespaces = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    look = f'viewBox="0 0 {width} {height}" style="font-family: {FONTS}; stroke-linejoin: round"'
    return f"<svg {namespaces} {look}>{svg.partition('>')[2]}\n"


def _rounded(number: re.Match[str]) -> str:
    """A length to two decimals; a factor, as letters that are paths have it, as it is."""
    if number[0].startswith("scale"):
        return number[0]
    text = f"{float(number[0]):.2f}".rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text
