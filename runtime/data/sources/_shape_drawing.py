"""Pixels of the source `shapes`: the pieces of a scene, one over the other, with smooth edges.

Owns how a piece is painted: within its own window only, by looking up tables, a few passes of NumPy for each piece.
Does not own what is painted (`_shape_scenes`) nor the tables (`_shape_forms`).

A pixel is covered as far as the signed distance of its middle to the outline says: wholly from half a pixel inside
on, not at all from half a pixel outside on. Edges within a texture are as smooth.
"""

import math
from functools import cache

import numpy as np

from vitdsl.runtime.data.sources._shape_forms import REACH, TILE, Array, outline, periods, tile
from vitdsl.runtime.data.sources._shape_scenes import Piece


def paint(pieces: list[Piece], size: int, similarity: float) -> Array:
    """An image, [size, size, 3] (uint8).

    Args:
        pieces: From the lowest to the uppermost; the first covers everything.
        size: Height and width, in pixels.
        similarity: See `outline`.
    """
    canvas = np.empty((3, size, size), np.float32)
    for piece in pieces:
        _paint(piece, canvas, similarity)
    canvas *= 255
    canvas += 0.5
    return np.ascontiguousarray(canvas.astype(np.uint8).transpose(1, 2, 0))


def cells_for(size: int) -> int:
    """Cells of an outline's table for images of a size: finer than a tenth of a pixel or so."""
    return 512 if size <= 96 else 1024


def _paint(piece: Piece, canvas: Array, similarity: float) -> None:
    size = canvas.shape[-1]
    reach = piece.radius + 0.5
    left, top = max(0, math.floor(piece.x - reach)), max(0, math.floor(piece.y - reach))
    right, low = min(size, math.ceil(piece.x + reach)), min(size, math.ceil(piece.y + reach))
    window = canvas[:, top:low, left:right]
    middles = _middles(size)
    x, y = middles[left:right] - piece.x, middles[top:low, None] - piece.y
    cos, sin = math.cos(piece.turn), math.sin(piece.turn)
    along, across = x * cos + y * sin, y * cos - x * sin
    colours = _textured(piece, along, across)
    if piece.outline is None:
        window[:] = colours
        return
    cells = cells_for(size)
    scale = cells / (2 * REACH * piece.radius)
    along *= scale
    along += cells / 2
    across *= scale
    across += cells / 2
    where = across.astype(np.int32)
    where *= cells
    where += along.astype(np.int32)
    cover = outline(piece.outline, cells, similarity).ravel().take(where)
    cover *= -piece.radius
    cover += 0.5
    np.minimum(np.maximum(cover, 0, out=cover), 1, out=cover)
    window += (colours - window) * cover


def _textured(piece: Piece, along: Array, across: Array) -> Array:
    """A piece's colours, [3, rows, cols], or [3, 1, 1] where it has one."""
    first = np.array(piece.first, np.float32)[:, None, None]
    if piece.texture == "solid":
        return first
    steps = TILE / (piece.period * periods(piece.texture))
    where = (across * steps + piece.shift[1] * TILE).astype(np.int32) & (TILE - 1)
    where *= TILE
    where += (along * steps + piece.shift[0] * TILE).astype(np.int32) & (TILE - 1)
    share = tile(piece.texture).ravel().take(where)
    share *= max(piece.period / (2 * math.pi), 0.5)
    share += 0.5
    np.minimum(np.maximum(share, 0, out=share), 1, out=share)
    second = np.array(piece.second, np.float32)[:, None, None]
    return np.asarray(share * (second - first) + first)


@cache
def _middles(size: int) -> Array:
    """Where the middles of pixels lie."""
    return np.arange(size, dtype=np.float32) + np.float32(0.5)
