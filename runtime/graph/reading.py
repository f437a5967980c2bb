"""What the axes of a tensor say of a site: its layout, its prefix tokens, and the grid of the others.

Owns how axes are told as the facts that metrics and ablations read. Does not own how axes are found (`flow`), or the
facts (`site`).
"""

from dataclasses import dataclass
from fractions import Fraction

from vitdsl.runtime.graph.axes import (
    Axes,
    Axis,
    Blank,
    Cut,
    Factor,
    Images,
    Joined,
    Line,
    Named,
    Part,
    Unknown,
    Width,
)
from vitdsl.runtime.graph.meaning import plain
from vitdsl.runtime.graph.site import Layout

CLASS = ("cls", "class")
"""What the name of a parameter says that is a class token."""


@dataclass(frozen=True)
class Tokens:
    """What is known of an axis of tokens.

    Attributes:
        prefix: Number of tokens before those of the image; None where not known.
        class_token: Whether the first of them is a class token.
        grid: Rows and columns of the others, row by row; None where not known or in another order.
        patch: Pixels from one row and column to the next.
    """

    prefix: int | None = None
    class_token: bool = False
    grid: tuple[int, int] | None = None
    patch: tuple[float, float] | None = None


def tokens_of(axis: Axis) -> Tokens:
    """What an axis says of its tokens."""
    match plain(axis):
        case (Named(size=size, name=name),):
            return Tokens(size, _is_class(name))
        case (Joined(parts=parts),):
            names: list[Named] = []
            rest = list(parts)
            while rest and len(rest[0]) == 1 and isinstance(first := rest[0][0], Named):
                names.append(first)
                rest.pop(0)
            found = tokens_of(rest[0]) if len(rest) == 1 else Tokens(None if rest else 0)
            if found.prefix != 0 or not names:
                return Tokens()
            prefix, is_class = sum(one.size for one in names), _is_class(names[0].name)
            return Tokens(prefix, is_class, found.grid, found.patch)
        case factors if is_of_image(factors):
            return Tokens(0, False, *_grid(factors))
    return Tokens()


def is_of_image(axis: Axis) -> bool:
    """Whether all positions of an axis are places of the image, in any order."""
    return bool(axis) and all(_is_place(factor) for factor in plain(axis))


def is_width(axis: Axis) -> bool:
    """Whether an axis is features alone."""
    return all(isinstance(factor, Width) for factor in plain(axis))


def _may_be_width(axis: Axis) -> bool:
    return all(isinstance(factor, (Width, Unknown)) for factor in axis)


def has_padding(axis: Axis) -> bool:
    """Whether some positions of an axis are padding."""
    return any(_is_padded(factor) for factor in plain(axis))


def _is_padded(factor: Factor) -> bool:
    match factor:
        case Part(whole=whole):
            return _is_padded(whole)
        case Cut(whole=whole):
            return has_padding(whole)
        case Joined(parts=parts):
            return any(map(has_padding, parts))
    return isinstance(factor, Blank)


def has_places(axis: Axis) -> bool:
    """Whether an axis has factors that are neither images nor features: places, tokens, or what is not known."""
    return any(not isinstance(factor, (Images, Width)) and factor.size > 1 for factor in plain(axis))


def layout_of(axes: Axes) -> Layout:
    """The layout of a tensor."""
    axes = tuple(map(plain, axes))
    first = [factor for factor in axes[0] if factor.size > 1] if axes else []
    if len(first) != 1 or not isinstance(first[0], Images):
        return "windows"
    match axes[1:]:
        case (_,):
            return "vector"
        case (tokens, width) if _may_be_width(width) and (not tokens or not is_width(tokens)):
            return "tokens"
        case (width, rows, cols) if is_width(width) and _is("row", rows) and _is("col", cols):
            return "map"
        case (rows, cols, width) if is_width(width) and _is("row", rows) and _is("col", cols):
            return "map_last"
        case (heads, queries, keys) if is_width(heads) and has_places(queries) and has_places(keys):
            return "attention"
    return "other"


def grid_of_map(rows: Axis, cols: Axis) -> tuple[tuple[int, int], tuple[float, float] | None]:
    """Rows and columns of a map, and the pixels between them."""
    lines = [axis[0] if len(axis) == 1 and isinstance(axis[0], Line) else None for axis in (rows, cols)]
    grid = tuple(1 if line is None else line.size for line in lines)
    row, col = lines
    patch = (_pixels(row.step), _pixels(col.step)) if row and col else None
    return (grid[0], grid[1]), patch


def _is(axis: str, found: Axis) -> bool:
    """Whether an axis is rows (columns), or what a pool left of them."""
    return not found or (len(found) == 1 and isinstance(found[0], Line) and found[0].axis == axis)


def _grid(factors: Axis) -> tuple[tuple[int, int] | None, tuple[float, float] | None]:
    match factors:
        case (Line(axis="row") as rows, Line(axis="col") as cols):
            return (rows.size, cols.size), (_pixels(rows.step), _pixels(cols.step))
    return None, None


def _pixels(step: Fraction) -> float:
    return int(step) if step.denominator == 1 else float(step)


def _is_place(factor: Factor) -> bool:
    match factor:
        case Line():
            return True
        case Part(whole=whole):
            return _is_place(whole)
        case Cut(whole=whole):
            return is_of_image(whole)
        case Joined(parts=parts):
            return all(is_of_image(part) for part in parts)
    return False


def _is_class(name: str) -> bool:
    return any(word in name.lower() for word in CLASS)
