"""What the source `shapes` draws with: outlines as tables of signed distance, textures as periodic tiles.

Owns the names and order of outlines, textures and colours. Does not own: which of them an image shows
(`_shape_scenes`), how they are painted (`_shape_drawing`).

An outline lies in the disc of radius 1 and touches its rim. Its table holds the signed distance to it, negative
inside, over [-2, 2] in both directions. No two outlines are one another turned.
"""

import math
from functools import cache

import numpy as np

from vitdsl.runtime.randomness import seed_of

OUTLINES = (
    "disc", "square", "triangle", "cross", "star", "ring", "heart", "bar", "crescent", "arrow", "pentagon", "dome",
)  # fmt: skip
TEXTURES = ("solid", "stripes", "checks", "dots", "waves", "speckle")
ROUND = ("disc", "ring", "dome")
"""Outlines that are no polygons."""
COLOURS = ("red", "yellow", "green", "cyan", "blue", "magenta")
REACH = 2.0
"""Half the side of an outline's table, in radii of the outline."""
TILE = 256
"""Cells of a texture's tile in each direction: one period, or `GRAINS` grains of the speckles."""
GRAINS = 16

Array = np.ndarray


@cache
def outline(name: str, cells: int, similarity: float) -> Array:
    """Signed distances to an outline, [cells, cells] (float32), in its radii.

    Args:
        name: One of `OUTLINES`.
        cells: Of the table, in each direction.
        similarity: How far every outline is drawn towards one disc of radius 0.8: 0 not at all, 1 is that disc.
    """
    at = ((np.arange(cells) + 0.5) * (2 * REACH / cells) - REACH).astype(np.float32)
    x, y = np.meshgrid(at, at)
    distance = _distance(name, x, y)
    return ((1 - similarity) * distance + similarity * (np.hypot(x, y) - 0.8)).astype(np.float32)


@cache
def hull(name: str, similarity: float) -> Array:
    """Corners of an outline's convex hull, [corners, 2] as x and y, in its radii: its bounds, however turned."""
    from scipy.spatial import ConvexHull  # it takes longer to import than a study to check

    if similarity == 0 and name not in ROUND:
        found = _corners(name)
    else:
        found = _rim(outline(name, 512, similarity))
    return np.asarray(found[ConvexHull(found).vertices])


@cache
def tile(name: str) -> Array:
    """A texture's field over one tile, [TILE, TILE] (float32): its first colour where negative, its second elsewhere.

    Near its zeros it grows by 2 pi in a period, so that `field * period / (2 pi)` is a distance.
    """
    angle = (2 * math.pi * np.arange(TILE) / TILE).astype(np.float32)
    x, y = angle[None, :], angle[:, None]
    field: Array
    if name == "stripes":
        field = np.sin(y) + 0 * x
    elif name == "checks":
        field = 1.4 * np.sin(x) * np.sin(y)
    elif name == "dots":
        field = np.cos(x) + np.cos(y) - 0.6
    elif name == "waves":
        field = np.sin(y + 1.2 * np.sin(x))
    else:
        from scipy.ndimage import gaussian_filter

        noise = np.random.Generator(np.random.PCG64(seed_of("speckle"))).standard_normal((TILE, TILE))
        smooth = gaussian_filter(noise, TILE / GRAINS / 4, mode="wrap")
        field = smooth / smooth.std()
    return np.ascontiguousarray(field, dtype=np.float32)


def periods(texture: str) -> float:
    """How many periods of a texture its tile holds."""
    return GRAINS if texture == "speckle" else 1


def _rim(table: Array) -> Array:
    """Points of the outline of a table, [points, 2], in its radii: where each row and each column crosses it."""
    cells, points = len(table), []
    for flipped in (False, True):
        lines = table.T if flipped else table
        row, col = np.nonzero(np.signbit(lines[:, 1:]) != np.signbit(lines[:, :-1]))
        before, after = lines[row, col], lines[row, col + 1]
        along, across = col + 0.5 + before / (before - after), row + 0.5
        points.append(np.stack([across, along] if flipped else [along, across], axis=1))
    return np.asarray(np.concatenate(points) * (2 * REACH / cells) - REACH)


def _distance(name: str, x: Array, y: Array) -> Array:
    """Signed distance of points to an outline; y points down, as rows do."""
    if name == "disc":
        return np.asarray(np.hypot(x, y) - 1)
    if name == "ring":
        return np.asarray(np.abs(np.hypot(x, y) - 0.76) - 0.24)
    if name == "dome":
        return np.asarray(np.maximum(np.hypot(x, y) - 1, y))
    return _to_polygon(_corners(name), x, y)


def _corners(name: str) -> Array:
    """The corners of an outline, [corners, 2], in order."""
    if name in ("triangle", "square", "pentagon"):
        count = {"triangle": 3, "square": 4, "pentagon": 5}[name]
        turn = math.pi / 4 if name == "square" else 0
        return _around(np.ones(count), turn)
    if name == "star":
        return _around(np.where(np.arange(10) % 2, 0.42, 1.0), 0)
    if name == "cross":
        arm, far = 0.3, math.sqrt(1 - 0.3**2)
        upper = np.array([[-arm, -far], [arm, -far], [arm, -arm]])
        turned = [upper @ np.linalg.matrix_power(np.array([[0, 1], [-1, 0]]), turns) for turns in range(4)]
        return np.concatenate(turned)
    if name == "crescent":  # a disc without another one of radius 0.8 at (0.5, 0)
        tip, bend = math.acos(0.61), math.acos(0.11 / 0.8)
        rim = np.linspace(tip, 2 * math.pi - tip, 40)
        bay = np.linspace(2 * math.pi - bend, bend, 28)[1:-1]
        sides = [
            np.stack([np.cos(rim), np.sin(rim)], 1),
            np.stack([0.8 * np.cos(bay) + 0.5, 0.8 * np.sin(bay)], 1),
        ]
        return np.concatenate(sides)
    if name == "bar":
        half, high = math.cos(0.33), math.sin(0.33)
        return np.array([[-half, -high], [half, -high], [half, high], [-half, high]])
    if name == "arrow":
        points = np.array(
            [[1, 0], [0.1, 0.85], [0.1, 0.3], [-0.95, 0.3], [-0.95, -0.3], [0.1, -0.3], [0.1, -0.85]]
        )
        return np.asarray(points / np.hypot(*points.T).max())
    t = 2 * math.pi / 60 * np.delete(np.arange(60), range(27, 34))  # the heart, without its thin tip
    points = np.stack(
        [
            16 * np.sin(t) ** 3,
            -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)),
        ],
        axis=1,
    )
    points[:, 1] -= 2.5
    return np.asarray(points / np.hypot(*points.T).max())


def _around(radii: Array, turn: float) -> Array:
    """Corners at equal angles around the centre, the first one on top."""
    angle = turn + 2 * math.pi * np.arange(len(radii)) / len(radii)
    return np.stack([radii * np.sin(angle), -radii * np.cos(angle)], axis=1)


def _to_polygon(corners: Array, x: Array, y: Array) -> Array:
    """Signed distance to a closed polygon: to the nearest side, negative where a ray crosses an odd number of sides."""
    nearest = np.full_like(x, np.inf)
    inside = np.zeros(x.shape, dtype=bool)
    for (ax, ay), (bx, by) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        dx, dy = bx - ax, by - ay
        along = (((x - ax) * dx + (y - ay) * dy) / (dx * dx + dy * dy)).clip(0, 1)
        nearest = np.minimum(nearest, (x - ax - along * dx) ** 2 + (y - ay - along * dy) ** 2)
        if dy:
            inside ^= ((ay > y) != (by > y)) & (x < ax + dx * (y - ay) / dy)
    return np.asarray(np.where(inside, -1, 1) * np.sqrt(nearest))
