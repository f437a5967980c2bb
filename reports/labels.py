"""Words and numbers for readers: how a value, an interval, a site or a hash is written."""

import math
import re
import textwrap
from collections.abc import Sequence

import numpy as np

MINUS = "\N{MINUS SIGN}"
TIMES = "\N{MULTIPLICATION SIGN}"
SUPERSCRIPTS = str.maketrans(f"0123456789-{MINUS}", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁻")
TOKEN_NAMES = {"cls": "CLS", "mean": "mean of tokens", "all": "all tokens"}
UNDEFINED = "not defined"


def number(value: float | int | None, digits: int = 3) -> str:
    """A number at `digits` significant digits; integers whole, NaN and None in words."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return UNDEFINED
    if isinstance(value, (int, np.integer)):
        return f"{int(value):,}".replace("-", MINUS)
    value = float(value)
    if math.isinf(value):
        return f"{MINUS if value < 0 else ''}\N{INFINITY}"
    size = abs(value)
    if size == 0:
        return "0"
    if size < 1e-3 or size >= 1e6:
        text = f"{value:.{digits - 1}e}".replace("e-0", "e-").replace("e+0", "e")
    elif size >= 10 ** (digits - 1):
        text = f"{value:,.0f}" if size >= 1000 else f"{value:.{max(0, digits - len(str(int(size))))}f}"
    else:
        text = f"{value:.{digits - 1 - math.floor(math.log10(size))}f}"
    return text.replace("-", MINUS)


def short(value: float) -> str:
    """A number that somebody wrote: as few digits as it takes."""
    return f"{value + 0.0:.6g}".replace("-", MINUS)


def plain(value: float) -> str:
    """A number at an axis: as few digits as it takes, very small and very large ones as `2×10⁻⁵`."""
    value = float(value)
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        return short(value)
    factor, _, power = f"{value:.3g}".replace("+", "").partition("e")
    if not power:
        factor, _, power = f"{value:.2e}".partition("e")
    factor = f"{float(factor):g}".replace("-", MINUS)
    tens = power_of_ten(int(power))
    return {"1": tens, f"{MINUS}1": f"{MINUS}{tens}"}.get(factor, f"{factor}{TIMES}{tens}")


def power_of_ten(power: int) -> str:
    """A power of ten with a raised exponent: `10⁻⁵`."""
    return "10" + str(power).translate(SUPERSCRIPTS)


def spread(value: float | None, low: float | None, high: float | None) -> tuple[str, str]:
    """An estimate and its interval `[0.31, 0.35]` (or nothing), to the digits that mean something."""
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)):
        return number(value), ""
    half = (high - low) / 2
    if value is None or not math.isfinite(value) or not 1e-5 <= half < 1e5:
        return number(value), f"[{number(low)}, {number(high)}]"
    places = max(0, 1 - math.floor(math.log10(half)))
    said = [
        f"{0.0 if abs(x) < 10**-places / 2 else x:,.{places}f}".replace("-", MINUS)
        for x in (value, low, high)
    ]
    return said[0], f"[{said[1]}, {said[2]}]"


def estimate(
    value: float | None, low: float | None = None, high: float | None = None, units: str = ""
) -> str:
    """`0.33 [0.31, 0.35] px`."""
    return " ".join(filter(None, (*spread(value, low, high), unit(units))))


def fold(text: str, width: int) -> str:
    """The whole text in lines of about so many letters, broken at spaces, else after dots, commas and the like."""
    lines: list[str] = []
    for line in textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False) or [""]:
        pieces = re.findall(r"[^._,@=\]]*[._,@=\]]*", line) if len(line) > width else [line]
        lines.append("")
        for piece in pieces:
            if lines[-1] and len(lines[-1]) + len(piece) > width:
                lines.append("")
            lines[-1] += piece
    return "\n".join(lines)


def unit(units: str) -> str:
    """The unit as written after a number; nothing for a dimensionless one."""
    return "" if units in ("", "1") else units


def with_unit(name: str, units: str) -> str:
    """`attention distance (px)`."""
    return f"{name} ({units})" if unit(units) else name


def shorten(names: Sequence[str]) -> tuple[list[str], str]:
    """Short names of sites, without the parts that all have in common, and the pattern they fit.

    Returns:
        Such as `["0", "1"]` and `blocks.*.attn`; the pattern is empty where nothing is shared.
    """
    parts = [name.split(".") for name in names]
    if len(names) < 2 or len({len(p) for p in parts}) != 1:
        return list(names), ""
    shared = [len(set(column)) == 1 for column in zip(*parts, strict=True)]
    if not any(shared) or all(shared):
        return list(names), ""
    short = [".".join(p for p, same in zip(part, shared, strict=True) if not same) for part in parts]
    pattern = ".".join(p if same else "*" for p, same in zip(parts[0], shared, strict=True))
    return short, re.sub(r"\*(\.\*)+", "*", pattern)


def stages(names: Sequence[str]) -> list[tuple[str, int, int]]:
    """Sites grouped by stage: `layer3.*` with the positions of its first and its last; empty where there are none.

    Sites of a stage stand together, and their names differ in the last part that counts, and in what follows it.
    """
    found: list[tuple[str, int, int]] = []
    for i, name in enumerate(names):
        stage, _, last = name.rpartition(".")
        if not last.isdigit():
            stage, _, last = stage.rpartition(".")
        if not stage or not last.isdigit():
            return []
        if found and found[-1][0] == f"{stage}.*":
            found[-1] = (found[-1][0], found[-1][1], i)
        else:
            found.append((f"{stage}.*", i, i))
    distinct = len({stage for stage, _, _ in found}) == len(found)
    return found if distinct and 2 <= len(found) <= 8 else []


def ticks(names: Sequence[str], most: int) -> tuple[list[int], list[str], str]:
    """Positions and labels of at most `most` sites, evenly spaced, and the pattern that all fit."""
    short, pattern = shorten(names)
    step = max(1, math.ceil(len(names) / max(1, most)))
    at = list(range(0, len(names), step))
    return at, [short[i] for i in at], pattern


def slug(text: str) -> str:
    """A name that is safe as an id and a file name."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:60] or "x"


def sentence(text: str) -> str:
    """The text with a capital letter first."""
    return text[:1].upper() + text[1:]


def listing(items: Sequence[str]) -> str:
    """`a, b and c`; with semicolons where one of several has commas."""
    if len(items) < 3:
        return " and ".join(items)
    between, last = ("; ", "; and ") if any("," in item for item in items) else (", ", " and ")
    return last.join((between.join(items[:-1]), items[-1]))


def plural(count: int, noun: str, many: str = "") -> str:
    """`1 model`, `2 models`."""
    return f"{count:,} {noun if count == 1 else many or noun + 's'}"


def duration(seconds: float | None) -> str:
    """`38 s`, `4 min 10 s`, `2 h 5 min`."""
    if seconds is None:
        return UNDEFINED
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
