"""Colours and sizes of the report, for the page and for the figures alike.

Figures are drawn with the light colours; inlined in the page, each token's colour becomes the CSS variable
of the same name, so that the dark theme and print recolour them. Colormaps never change.
Contrast is held by a test.
"""

from typing import Any

LIGHT: dict[str, str] = {
    "paper": "#fdfdfe",
    "surface": "#f4f5f8",
    "ink": "#1b1e24",
    "muted": "#555c68",
    "line": "#d7dae0",
    "accent": "#0a58a8",
    "good": "#176b34",
    "bad": "#a8261b",
    "open": "#7a5200",
    "void": "#d3d5da",
    "s1": "#0a6cb0",
    "s2": "#c04a02",
    "s3": "#077a5b",
    "s4": "#a3428a",
    "s5": "#6a5acd",
    "s6": "#7d6608",
}
DARK: dict[str, str] = {
    "paper": "#15181d",
    "surface": "#1d2127",
    "ink": "#e6e8ec",
    "muted": "#a8aeb9",
    "line": "#3a404a",
    "accent": "#7db8f2",
    "good": "#67c986",
    "bad": "#ff8f84",
    "open": "#e3b341",
    "void": "#454b56",
    "s1": "#5fb4f0",
    "s2": "#ff9a5a",
    "s3": "#3fcf9f",
    "s4": "#e58fcb",
    "s5": "#a99df5",
    "s6": "#d6bb3e",
}
SERIES = ("s1", "s2", "s3", "s4", "s5", "s6")
"""Categorical colours in order of use; never the only channel: marker, dash and label go with them."""

MARKERS = ("o", "s", "^", "D", "v", "P")
DASHES: tuple[Any, ...] = (
    "-",
    (0, (5, 2)),
    (0, (1.5, 1.5)),
    (0, (6, 2, 1.5, 2)),
    (0, (9, 2)),
    (0, (6, 2, 1.5, 2, 1.5, 2)),
)
SEQUENTIAL = "viridis"
DIVERGING = "RdBu_r"
TEXT_TOKENS = ("ink", "muted", "accent", "good", "bad", "open")
FONTS = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
DRAWN_WITH = "DejaVu Sans"
"""The font that matplotlib brings and measures with; readers see their system's, which is no wider."""

FONT_PX = 12.0
WIDE = 860
NARROW = 380
CELL = 430
"""Widths in CSS pixels: a figure on a wide page, on a phone, and one panel of a grid (both)."""

RC: dict[str, Any] = {
    "figure.dpi": 72,
    "savefig.dpi": 72,
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
    "font.family": [DRAWN_WITH],
    "font.size": FONT_PX,
    "text.parse_math": False,
    "text.color": LIGHT["ink"],
    "axes.facecolor": "none",
    "axes.edgecolor": LIGHT["muted"],
    "axes.labelcolor": LIGHT["ink"],
    "axes.labelsize": FONT_PX,
    "axes.titlesize": FONT_PX,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "grid.color": LIGHT["line"],
    "grid.linewidth": 0.8,
    "xtick.color": LIGHT["muted"],
    "ytick.color": LIGHT["muted"],
    "xtick.labelcolor": LIGHT["ink"],
    "ytick.labelcolor": LIGHT["ink"],
    "xtick.labelsize": FONT_PX - 1,
    "ytick.labelsize": FONT_PX - 1,
    "legend.frameon": False,
    "legend.fontsize": FONT_PX - 0.5,
    "hatch.color": LIGHT["muted"],
    "hatch.linewidth": 0.7,
    "image.interpolation": "none",
    "svg.fonttype": "none",
    "svg.hashsalt": "vitdsl",
    "svg.image_inline": True,
    "path.simplify": False,
}


def css_variables(tokens: dict[str, str]) -> str:
    """The tokens as CSS custom properties."""
    return "".join(f"--{name}:{colour};" for name, colour in tokens.items())


def contrast(a: str, b: str) -> float:
    """Contrast ratio of two colours, 1 to 21, as WCAG 2 defines it."""

    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    light, dark = sorted((luminance(a), luminance(b)), reverse=True)
    return (light + 0.05) / (dark + 0.05)
