"""Pictures of a few images for the report: as a model saw them, the normalisation undone, made small.

Owns which images stand for a stream, and how a model's image becomes a picture. Does not own their file, or which
images a result names (`vitdsl.runtime.results.pictured`).
"""

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import xarray as xr
from PIL import Image

from vitdsl.dsl.diagnostics import EnvironmentProblem
from vitdsl.runtime.data.sources._base import Source
from vitdsl.runtime.data.stream import Stream
from vitdsl.runtime.models.preprocessing import ByImage, Preprocessing, pixels, transform
from vitdsl.runtime.results.pictured import pictured
from vitdsl.runtime.results.thumbnails import Thumbnail, Thumbnails

LARGEST, LOSSLESS = 112, 64
"""Pixels of a picture's longer side at most, and up to which it is kept without loss."""
QUALITY = 88


def thumbnails(streams: Mapping[str, Stream], groups: Mapping[str, xr.Dataset]) -> Thumbnails:
    """The pictures of a run: the first images of each stream, and those that results name.

    Args:
        streams: Its streams; one whose entry says `thumbnails: 0` is left out.
        groups: Its results.
    """
    first = {name: standing_for(stream, stream.data.thumbnails) for name, stream in streams.items()}
    first = {name: rows for name, rows in first.items() if rows}
    images = [one for name, rows in first.items() for one in _of_stream(name, streams[name], rows)]
    kept = {(one.data, one.row, model) for one in images for model in one.models}
    for group in groups.values():
        data, model = (
            str(group.coords[key].item()) if key in group.coords else "" for key in ("data", "model")
        )
        if data in first and model in streams[data].transforms:
            rows = [int(row) for row in _rows(group)]
            wanted = [row for row in rows if (data, row, model) not in kept]
            images += _of_stream(data, streams[data], wanted, model)
            kept |= {(data, row, model) for row in wanted}
    shown = {one.data for one in images}
    first = {name: rows for name, rows in first.items() if name in shown}
    labels = {name: tuple(streams[name].label(row) for row in rows) for name, rows in first.items()}
    return Thumbnails(first=first, labels=labels, images=tuple(images))


def standing_for(stream: Stream, count: int) -> tuple[int, ...]:
    """The images that stand for a stream: the first of each class, in the order of the classes; else the first ones.

    Of more classes than images, those that come first in the stream.
    """
    chosen: dict[int | None, int] = {}
    for row in range(stream.n):
        if len(chosen) == count:
            break
        chosen.setdefault(stream.label(row) if stream.labelled else row, row)
    return tuple(row for _, row in sorted(chosen.items(), key=lambda one: one[0] or 0))


def _rows(group: xr.Dataset) -> Iterable[float]:
    named = next((array for array in group.data_vars.values() if array.attrs.get("pictured_by")), None)
    if named is not None:
        values = named.transpose("condition", "rank").values
        yield from (float(values[at]) for at in pictured(group))


def _of_stream(name: str, stream: Stream, rows: Sequence[int], model: str = "") -> list[Thumbnail]:
    """Pictures of some images of a stream, as a model saw them: by default its first that sees images.

    An image that cannot be decoded any more has none.
    """
    seeing = {
        one: (stream.beside.get(one, stream.source), config)
        for one, config in stream.transforms.items()
        if not isinstance(config, ByImage)
    }
    look = seeing.get(model) if model else next(iter(seeing.values()), None)
    if look is None:
        return []
    alike = tuple(one for one, other in seeing.items() if other == look)
    found = []
    for row in rows:
        try:
            form, content = picture(*look, stream.order[row])
        except EnvironmentProblem:
            continue
        found.append(Thumbnail(data=name, row=row, models=alike, format=form, content=content))
    return found


def picture(source: Source, config: Preprocessing, index: int) -> tuple[Literal["png", "jpeg"], str]:
    """An image of a source as a model sees it: the format of a file, and the file in base64."""
    seen = Image.fromarray(pixels(transform(config)(source.load(index).image), config))
    seen.thumbnail((LARGEST, LARGEST), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small = max(seen.size) <= LOSSLESS
    if small:
        seen.save(buffer, "PNG", optimize=True)
    else:
        seen.save(buffer, "JPEG", quality=QUALITY)
    return "png" if small else "jpeg", base64.b64encode(buffer.getvalue()).decode()
