"""What is said of a stream that was read: its images one by one, and as a whole for the manifest.

Does not own reading it (`stream`).
"""

from collections.abc import Mapping
from typing import Any

from vitdsl.runtime.data.decoding import Record, digest
from vitdsl.runtime.data.stream import Stream


def listed(
    streams: Mapping[str, Stream],
) -> tuple[dict[str, list[Record]], dict[str, list[Mapping[str, str | float]]]]:
    """Of streams that were read: what is remembered of each image, and what their sources know of it, by stream."""
    return (
        {name: stream.records() for name, stream in streams.items()},
        {name: stream.facts() for name, stream in streams.items()},
    )


def stream_facts(stream: Stream) -> dict[str, Any]:
    """What the manifest says of a stream that was read."""
    records = stream.records()
    return {
        "source": stream.data.source,
        "params": stream.data.params,
        "of": stream.data.of or "",
        "transform": stream.data.transform.model_dump() if stream.data.transform else {},
        "what": stream.source.in_words(),
        "class_names": tuple(stream.classes or ()),
        "images": stream.n,
        "available": len(stream.source),
        "classes": None if stream.classes is None else len(stream.classes),
        "labelled": stream.labelled,
        "batch": stream.data.batch,
        "batches": stream.batches,
        "image_blocks": stream.image_blocks,
        "shuffled": stream.data.shuffle,
        "seed": stream.seed,
        "ids_sha256": digest(record.id for record in records),
        "content_sha256": digest(record.sha256 for record in records),
    }
