"""Attention of one query: small maps for heads and blocks, and for single images beside the images themselves."""

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np

from vitdsl.reports.canvas import Sheet
from vitdsl.reports.figures._attention import (
    COLUMNS,
    NARROW_COLUMNS,
    Picture,
    columns_of,
    draw_pictures,
    height_of,
    query_of,
    some,
    tight_scale,
)
from vitdsl.reports.figures._base import Figure, Panel, Plot, assembled
from vitdsl.reports.figures._maps import MapScale, bar_of_maps
from vitdsl.reports.figures.maps import half_of
from vitdsl.reports.labels import listing, number, plural, sentence, shorten
from vitdsl.reports.parts import Array, Part
from vitdsl.reports.sentences import lead_and_details
from vitdsl.runtime.results.csvs import values_of

MAP = ("site", "head", "row", "col")
EXAMPLE = ("image", *MAP)
PIXELS = ("image", "pixel_row", "pixel_col", "rgb")
MOST_BLOCKS = 6
"""Mean maps are drawn of so many blocks at most."""
MOST_EXAMPLE_BLOCKS = 3
"""Single images are drawn for so many blocks at most, a panel for each."""
MOST_IMAGES = 6


class Attention(Figure):
    """Sites and heads with rows and columns of patches, of the mean or of single images; and these images."""

    def fits(self, part: Part) -> bool:
        """Maps by head, or images by pixel and colour."""
        return part.dims in ({*MAP}, {*EXAMPLE}, {*PIXELS})

    def plot(self, id: str, parts: Sequence[Part]) -> Plot:
        """Mean maps as blocks by heads; single images as images by heads, block by block; images as a strip."""
        if "pixel_row" in parts[0].dims:
            return _strips(id, parts)
        return _examples(id, parts) if "image" in parts[0].dims else _means(id, parts)


def _means(id: str, parts: Sequence[Part]) -> Plot:
    scale = tight_scale([_values(part, MAP) for part in parts], parts)
    panels = [bar_of_maps(parts[0], scale, [_values(part, MAP) for part in parts])]
    for part in parts:
        blocks, heads = (part.array.sizes[dim] for dim in ("site", "head"))
        heights = [
            height_of(min(blocks, MOST_BLOCKS), min(heads, columns_of(wide)), _proportion(part), wide)
            for wide in (True, False)
        ]
        draw = partial(_draw_means, part=part, scale=scale)
        panels += [Panel(_label(part, parts), draw, False, *heights), *_of_images(part, parts)]
    caption = (
        "One map for each block and head, over the model's input, the first row of patches above: how much"
    )
    caption += f" of its attention the query gives to each patch, mean over images. {_scale_words(scale)}"
    if any(_beside(part, EXAMPLE) for part in parts):
        caption += " Below: single images, at the last block, on a scale of their own."
    caption += _query_words(parts) + _left_out(parts, MOST_BLOCKS)
    return assembled(id, parts, caption, _takeaway_of_means(parts), panels)


def _draw_means(sheet: Sheet, wide: bool, part: Part, scale: MapScale) -> None:
    values, heads, names = _values(part, MAP), part.names("head"), part.names()
    blocks = some(len(names), MOST_BLOCKS)
    rows = [
        [
            Picture(values[i, h], f"head {heads[h]}", f"{names[i]}, head {heads[h]}")
            for h in some(len(heads), columns_of(wide))
        ]
        for i in blocks
    ]
    draw_pictures(sheet, wide, rows, _short(part, blocks), _extent(part), part, scale)


def _of_images(part: Part, parts: Sequence[Part]) -> list[Panel]:
    """Under the mean maps: single images at the last block, where the group has some."""
    single = _beside(part, EXAMPLE)
    if single is None or not single.defined:
        return []
    scale = tight_scale([_values(single, EXAMPLE)], [single])
    bar = bar_of_maps(single, scale, [_values(single, EXAMPLE)])
    return [bar, _panel(single, parts, scale, single.array.sizes["site"] - 1)]


def _examples(id: str, parts: Sequence[Part]) -> Plot:
    scale = tight_scale([_values(part, EXAMPLE) for part in parts], parts)
    bar = bar_of_maps(parts[0], scale, [_values(part, EXAMPLE) for part in parts])
    panels = [
        _panel(part, parts, scale, block)
        for part in parts
        for block in some(part.array.sizes["site"], MOST_EXAMPLE_BLOCKS)
    ]
    caption = "One row for each image: the image as the model gets it, scaled from its darkest to its lightest value,"
    caption += f" then one map for each head. {_scale_words(scale)}{_query_words(parts)}"
    caption += _left_out(parts, MOST_EXAMPLE_BLOCKS, images=True)
    return assembled(id, parts, caption, _takeaway_of_examples(parts), [bar, *panels])


def _panel(part: Part, parts: Sequence[Part], scale: MapScale, block: int) -> Panel:
    """Single images at one block."""
    images, heads = min(part.array.sizes["image"], MOST_IMAGES), part.array.sizes["head"]
    heights = [
        height_of(images, min(heads + 1, columns_of(wide)), _proportion(part), wide) for wide in (True, False)
    ]
    draw = partial(_draw_examples, part=part, scale=scale, block=block)
    return Panel(f"{_label(part, parts)}, {part.names()[block]}", draw, False, *heights)


def _draw_examples(sheet: Sheet, wide: bool, part: Part, scale: MapScale, block: int) -> None:
    values, heads, names = _values(part, EXAMPLE), part.names("head"), part.names("image")
    images = _pixels(part)
    chosen = some(len(names), MOST_IMAGES)
    rows = []
    for i in chosen:
        maps = [
            Picture(
                values[i, block, h],
                f"head {heads[h]}",
                f"image {names[i]}, {part.names()[block]}, head {heads[h]}",
            )
            for h in some(len(heads), columns_of(wide) - 1)
        ]
        rows.append([Picture(images[i], "image", f"image {names[i]}"), *maps])
    draw_pictures(sheet, wide, rows, [f"image {names[i]}" for i in chosen], _extent(part), part, scale)


def _strips(id: str, parts: Sequence[Part]) -> Plot:
    """The images alone; once where several metrics of a model keep the same."""
    panels, seen = [], list[tuple[str, Array]]()
    for part in parts:
        images = _values(part, PIXELS)
        if any(
            part.model == model and np.array_equal(images, other, equal_nan=True) for model, other in seen
        ):
            continue
        seen.append((part.model, images))
        proportion = images.shape[1] / images.shape[2]
        heights = [
            height_of(-(-min(len(images), 2 * columns) // columns), columns, proportion, wide)
            for wide, columns in ((True, COLUMNS), (False, NARROW_COLUMNS))
        ]
        panels.append(Panel(part.label, partial(_draw_strip, part=part), False, *heights))
    most = max(part.array.sizes["image"] for part in parts)
    caption = "The first images of the stream, by their position in it, as the model gets them: after preprocessing,"
    caption += " averaged over small squares of pixels, and scaled between each image's darkest and lightest value, so"
    caption += " that colours are near to the file's and not the same."
    lead = (
        f"The first {plural(most, 'image')} of the stream." if most > 1 else "The first image of the stream."
    )
    return assembled(id, parts, caption, lead, panels)


def _draw_strip(sheet: Sheet, wide: bool, part: Part) -> None:
    images, names, columns = _values(part, PIXELS), part.names("image"), columns_of(wide)
    pictures = [
        Picture(image, f"image {name}", f"image {name}") for image, name in zip(images, names, strict=True)
    ][: 2 * columns]
    rows = [pictures[i : i + columns] for i in range(0, len(pictures), columns)]
    extent = (float(images.shape[2]), float(images.shape[1]))
    draw_pictures(sheet, wide, rows, [""] * len(rows), extent, part)


def _values(part: Part, dims: Sequence[str]) -> Array:
    """What is drawn, of the first condition, in this order of dimensions."""
    return np.asarray(part.array.isel(condition=0).transpose(*dims).values, np.float64)


def _beside(part: Part, dims: Sequence[str]) -> Part | None:
    """The value of the same group that has these dimensions."""
    found = (part.of(name) for name in values_of(part.dataset))
    return next((one for one in found if one.dims == {*dims}), None)


def _pixels(part: Part) -> Array:
    """The images that stand beside the maps, `[image, row, col, rgb]`; NaN where the group has none."""
    images = _beside(part, PIXELS)
    return (
        np.full((part.array.sizes["image"], 1, 1, 3), np.nan) if images is None else _values(images, PIXELS)
    )


def _extent(part: Part) -> tuple[float, float]:
    """Width and height of the maps in pixels: rows and columns are labelled with their first."""
    width, height = (
        float(first[-1]) * len(first) / max(len(first) - 1, 1) or 1.0
        for first in (part.names(dim) for dim in ("col", "row"))
    )
    return width, height


def _proportion(part: Part) -> float:
    width, height = _extent(part)
    return height / width


def _label(part: Part, parts: Sequence[Part]) -> str:
    """What the part is called, with the query where the section has several."""
    query = query_of(part) if len({query_of(one) for one in parts}) > 1 else ""
    return ", ".join(filter(None, (part.label, query)))


def _short(part: Part, blocks: Sequence[int]) -> list[str]:
    """Names of blocks for the side of a row: `block 3` where they differ by a number alone."""
    names = part.names()
    short, pattern = shorten(names)
    numbered = bool(pattern) and all(name.isdigit() for name in short)
    return [f"block {short[i]}" if numbered else short[i] for i in blocks]


def _scale_words(scale: MapScale) -> str:
    return f"One colour scale for all maps{scale.words}."


def _query_words(parts: Sequence[Part]) -> str:
    """Whose attention it is."""
    queries = list(dict.fromkeys(filter(None, map(query_of, parts))))
    outlined = " The outlined patch is the query." if any("patch" in query for query in queries) else ""
    return (f" Query: {listing(queries)}." if queries else "") + outlined


def _left_out(parts: Sequence[Part], most: int, *, images: bool = False) -> str:
    """What is not drawn."""
    blocks, heads = (max(part.array.sizes[dim] for part in parts) for dim in ("site", "head"))
    said = []
    if blocks > most:
        said.append(f"{most} of {plural(blocks, 'block')}")
    wide, narrow = (columns - images for columns in (COLUMNS, NARROW_COLUMNS))
    if heads > narrow:
        shown = f"{wide} of {plural(heads, 'head')}" if heads > wide else "all heads"
        said.append(f"{shown} ({narrow} on a narrow page)")
    count = max(part.array.sizes["image"] for part in parts) if images else 0
    if count > MOST_IMAGES:
        said.append(f"{MOST_IMAGES} of {plural(count, 'image')}")
    return f" Drawn: {listing(said)}, evenly spaced; the data has all." if said else ""


def _takeaway_of_means(parts: Sequence[Part]) -> str:
    """How much of the image holds half of a mean map, at the first and the last block, over heads."""
    said = []
    for part in parts:
        words = [
            f"{_percent(min(shares))} to {_percent(max(shares))} at {name}"
            for name, shares in _ends(part, MAP, 0)
        ]
        said += [f"{_label(part, parts)}: {listing(words)}."] if words else []
    return lead_and_details(
        f"{sentence(parts[0].name)}: half of what goes to patches lies within this share of the image, from the "
        "sharpest head to the widest.",
        said,
    )


def _takeaway_of_examples(parts: Sequence[Part]) -> str:
    """The same of single images: the median over heads and images."""
    said = []
    for part in parts:
        words = [
            f"{_percent(float(np.median(shares)))} at {name}" for name, shares in _ends(part, EXAMPLE, 1)
        ]
        said += [f"{_label(part, parts)}: {listing(words)}."] if words else []
    return lead_and_details(
        f"{sentence(parts[0].name)}: half of what goes to patches lies within this share of the image, median over "
        "heads and images.",
        said,
    )


def _ends(part: Part, dims: Sequence[str], site: int) -> Iterator[tuple[str, list[float]]]:
    """At the first and the last block: its name, and the share of the image that holds half of each map."""
    values = np.moveaxis(_values(part, dims), site, 0)
    for i in dict.fromkeys((0, len(values) - 1)):
        shares = [half_of(field) for field in values[i].reshape(-1, *values.shape[-2:])]
        known = [share for share in shares if np.isfinite(share)]
        if known:
            yield part.names()[i], known


def _percent(share: float) -> str:
    return f"{number(100 * share, 2)} %"
