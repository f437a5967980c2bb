"""The laws of sources: images by index, the same whenever and however they are read.

Does not own what a source is (`runtime.data.sources._base`), or how streams batch and shuffle (`runtime.data.stream`).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vitdsl.dsl.study import Data
from vitdsl.runtime.data.decoding import Record
from vitdsl.runtime.data.sources._base import Item, Source
from vitdsl.runtime.data.stream import Stream
from vitdsl.runtime.models.preprocessing import Preprocessing
from vitdsl.testing.law import hold, law
from vitdsl.testing.page import check_page

SQUARE = Preprocessing((3, 32, 32), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "bilinear", 1.0, "center")


def check_source(
    kind: type[Source], params: Mapping[str, Any], folder: Path, *, seed: int = 0, images: int = 12
) -> None:
    """Hold a source to the laws.

    The laws: `page` (its page is whole), `length`, `stable ids` (unique, and the same when asked again), `labels`
    (within the classes, and the image's own), `same image twice` (bit for bit, with the same hash), `honest hash`
    (equal hashes mean equal images), `opening twice`, `any batches` (of any size, in any order).

    Args:
        kind: The source.
        params: Its own fields, as a study has them.
        folder: Where relative paths start: the study's folder.
        seed: The study's.
        images: At most so many images are decoded; give a source of two images or more. An endless one is asked for
            so many.

    Raises:
        LawBroken: The first law that does not hold, by name.
    """
    check_page(kind)

    def opened() -> Source:
        source = kind(kind.Params(**params), folder=folder, seed=seed)
        source.asked = images
        return source

    with law("length"):
        source = opened()
        count = len(source)
        hold(count > 0 and len(source) == count, f"{count} images, then {len(source)}")
    with law("stable ids"):
        ids = [source.id(index) for index in range(count)]
        hold(all(isinstance(one, str) and one for one in ids), "an id is no text")
        hold(len(set(ids)) == count, f"{count} images have {len(set(ids))} different ids")
        hold(ids == [source.id(index) for index in range(count)], "ids change when they are asked again")
    with law("labels"):
        _check_labels(source)
    rows = range(min(count, images))
    with law("same image twice"):
        first = [source.load(index) for index in rows]
        for index in rows:
            _same(first[index], source.load(index), ids[index])
    with law("labels"):
        for index in rows:
            found, alone = first[index].label, source.label(index)
            hold(found == alone, f"`{ids[index]}` has label {found} with its image, {alone} without")
    with law("honest hash"):
        by_hash: dict[str, int] = {}
        for index in rows:
            other = by_hash.setdefault(first[index].sha256, index)
            alike = first[other].image.tobytes() == first[index].image.tobytes()
            hold(alike, f"`{ids[other]}` and `{ids[index]}` differ and have one hash")
    with law("opening twice"):
        again = opened()
        hold(len(again) == count, f"{count} images, then {len(again)}")
        hold(ids == [again.id(index) for index in range(count)], "other ids")
        hold(source.classes == again.classes, f"classes {source.classes}, then {again.classes}")
        for index in reversed(rows):
            _same(first[index], again.load(index), ids[index])
    with law("any batches"):
        wanted = _read(source, params, rows, 1)
        for order, batch in ((rows, 3), (rows, len(rows)), (rows[::-1], 2)):
            found_images = _read(opened(), params, order, batch)
            for index in rows:
                (record, tensor), (kept, image) = found_images[index], wanted[index]
                hold(record == kept, f"{kept} in batches of 1, {record} in batches of {batch}")
                hold(torch.equal(tensor, image), f"`{ids[index]}` has other pixels in batches of {batch}")


def _check_labels(source: Source) -> None:
    labels = [source.label(index) for index in range(len(source))]
    if source.classes is None:
        hold(all(label is None for label in labels), "labels without `classes`")
        return
    for index, label in enumerate(labels):
        inside = label is None or isinstance(label, int) and 0 <= label < len(source.classes)
        hold(inside, f"`{source.id(index)}` has label {label!r}; there are {len(source.classes)} classes")


def _same(one: Item, other: Item, name: str) -> None:
    hold(one.image.mode == "RGB", f"`{name}` is {one.image.mode}, not RGB")
    hold(one.image.size == other.image.size, f"`{name}` is {one.image.size}, then {other.image.size}")
    hold(one.image.tobytes() == other.image.tobytes(), f"`{name}` has other pixels the second time")
    hold(one.sha256 == other.sha256, f"`{name}` has another hash the second time")
    hold(one.label == other.label, f"`{name}` has label {one.label}, then {other.label}")


def _read(
    source: Source, params: Mapping[str, Any], order: Sequence[int], batch: int
) -> dict[int, tuple[Record, Tensor]]:
    """What a stream gives of some images, by their index in the source."""
    data = Data(source=source.name, batch=batch, **params)
    stream = Stream(data, source, list(order), 0, {"model": SQUARE}, 0)
    tensors = torch.cat([one.images["model"] for one in stream])
    return {
        index: (record, tensors[i])
        for i, (index, record) in enumerate(zip(order, stream.records(), strict=True))
    }
