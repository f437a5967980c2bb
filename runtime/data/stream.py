"""Streams: a study's images in a fixed order, decoded once each and put through every preprocessing once.

Owns: which images are taken and in which order, batches, image blocks, and the record of what was read. Does not own:
what a source is (`sources/_base`) and how it is opened (`opening`), decoding in other processes (`decoding`), what a
preprocessing does (`models`), devices.

The order is one shuffle from the seed (or the source's own), then the first `images`. It depends neither on
the batch size nor on the number of processes.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from vitdsl.dsl.diagnostics import Diagnostic, EnvironmentProblem
from vitdsl.dsl.study import Data
from vitdsl.runtime.data.decoding import (
    Decoder,
    Failure,
    Record,
    alive,
    collate,
    digest,
    throw_all,
    workers_for,
)
from vitdsl.runtime.data.opening import check_count, check_ids, open_source, order_of, shared_preprocessing
from vitdsl.runtime.data.sources._base import Source
from vitdsl.runtime.models.preprocessing import ByImage, Preprocessing, transform


@dataclass(frozen=True)
class Batch:
    """Some images, as each model sees them.

    Attributes:
        index: Position of the batch in the stream, from 0.
        block: The image block that it belongs to.
        images: A tensor [batch, 3, height, width] (float32) for each model; equal preprocessings share one.
        labels: [batch] (int64), None where the stream has no labels.
        nth: [batch] (int64), how many images of its class stand before each in the stream; None without labels.
        classes: How many classes the labels are of; 0 without labels.
        rows: Positions of its images in the stream.
    """

    index: int
    block: int
    images: dict[str, Tensor]
    labels: Tensor | None
    nth: Tensor | None
    classes: int
    rows: range


class Stream:
    """The images of one `data` entry, in batches; iterating again reads them again, the same.

    Attributes:
        n: Number of images.
        classes: Names of the classes in label order, None without labels.
        labelled: Whether every image has a label.
        batches: Number of batches, as few as `batch` allows; equal to within one image.
        image_blocks: Number of image blocks: `image_blocks` of the entry, at most one per batch.
        seed: The seed of the shuffle.
        beside: For models that see other images beside those of the stream, at the same indices: their source.
    """

    def __init__(
        self,
        data: Data,
        source: Source,
        order: list[int],
        seed: int,
        transforms: Mapping[str, Preprocessing],
        workers: int | None,
        beside: Mapping[str, Source] | None = None,
    ) -> None:
        self.beside = dict(beside or {})
        self.data, self.source, self.order, self.seed = data, source, order, seed
        self.transforms = dict(transforms)
        self.n = len(order)
        self.batches = -(-self.n // data.batch)
        self.image_blocks = min(data.image_blocks, self.batches)
        self.classes = source.classes
        self.labelled = source.has_labels(order)
        self.workers = workers_for(source, self.n) if workers is None else workers
        self._records: dict[int, Record] = {}
        self._contents: dict[int, list[list[str | int | None]]] = {}
        self._beside_contents: dict[int, str] = {}
        self._nth = _nth(self.label(row) for row in range(self.n)) if self.labelled else []

    def block_of(self, batch: int) -> int:
        """The image block of a batch: contiguous groups, equal to within one batch."""
        return batch * self.image_blocks // self.batches

    def batches_of(self, block: int) -> list[int]:
        """The batches of an image block."""
        return [batch for batch in range(self.batches) if self.block_of(batch) == block]

    def contents(self, block: int) -> list[list[str | int | None]]:
        """What decides the pixels and labels of an image block, image by image, found once without decoding them."""
        if block not in self._contents:
            rows = self.rows_of_block(block)
            self._contents[block] = [[self.source.content(self.order[row]), self.label(row)] for row in rows]
        return self._contents[block]

    def contents_beside(self, model: str) -> str | None:
        """What decides the pixels that a model sees beside the stream's own, as one hash; None where it sees those."""
        source = self.beside.get(model)
        if source is None:
            return None
        if id(source) not in self._beside_contents:
            self._beside_contents[id(source)] = digest(source.content(index) for index in self.order)
        return self._beside_contents[id(source)]

    def check_unchanged(self, block: int) -> None:
        """Make sure that the images of a block that was read are those that were there when it was keyed.

        Raises:
            EnvironmentProblem: One of them changed in between (VD402).
        """
        if self.source.drawn:
            return
        for (content, _), record in zip(self.contents(block), self.records_of(block), strict=True):
            if content != record.sha256:
                raise EnvironmentProblem(
                    Diagnostic(
                        "VD402",
                        f"the image `{record.id}` changed while the study ran",
                        help=("leave the images alone while a study runs, and run it again",),
                    )
                )

    def rows_of(self, batch: int) -> range:
        """Positions of a batch's images in the stream.

        Batches are equal to within one image: a short last one would weigh as much in an interval as a full one.
        """
        return rows_of_batch(self.n, self.batches, batch)

    def id(self, row: int) -> str:
        """The id of the image at a position of the stream, without decoding it."""
        return self.source.id(self.order[row])

    def __iter__(self) -> Iterator[Batch]:
        return self.read(range(self.batches))

    def read(self, batches: Iterable[int]) -> Iterator[Batch]:
        """Read some batches, in the order given: a shard, or what is left of a run.

        Raises:
            EnvironmentProblem: An image is unreadable (VD402); a decoding process was ended (VD505).
        """
        wanted = list(batches)
        seen = {
            name: (self.beside.get(name), config)
            for name, config in self.transforms.items()
            if not isinstance(config, ByImage)
        }
        own = list(dict.fromkeys(config for other, config in seen.values() if other is None))
        others = list(dict.fromkeys((other, config) for other, config in seen.values() if other is not None))
        loader = DataLoader(
            Decoder(
                self.source,
                self.order,
                [transform(config) for config in own],
                [(other, transform(config)) for other, config in others],
            ),
            batch_sampler=[list(self.rows_of(index)) for index in wanted],
            collate_fn=collate,
            num_workers=self.workers if wanted else 0,
            pin_memory=torch.cuda.is_available(),
            generator=torch.Generator(),
        )
        for index, (tensors, records) in zip(wanted, alive(loader), strict=True):
            if isinstance(records, Failure):
                throw_all(records, self.source, self.order, self.workers)
            rows = self.rows_of(index)
            self._records.update(zip(rows, records, strict=True))
            by_config = dict(zip([*((None, config) for config in own), *others], tensors, strict=True))
            yield Batch(
                index=index,
                block=self.block_of(index),
                images={
                    name: self._rows_in(name, config, rows)
                    if isinstance(config, ByImage)
                    else by_config[seen[name]]
                    for name, config in self.transforms.items()
                },
                labels=torch.tensor([record.label for record in records]) if self.labelled else None,
                nth=torch.tensor(self.nth(rows)) if self.labelled else None,
                classes=len(self.classes or ()) if self.labelled else 0,
                rows=rows,
            )

    def _rows_in(self, model: str, config: ByImage, rows: Iterable[int]) -> Tensor:
        """The rows of some images in features, `[batch, 1, 1, 1]` (int64)."""
        source = self.beside.get(model, self.source)
        return torch.tensor([config.rows[source.id(self.order[row])] for row in rows])[:, None, None, None]

    def rows_of_block(self, block: int) -> list[int]:
        """Positions of an image block's images in the stream."""
        return [row for batch in self.batches_of(block) for row in self.rows_of(batch)]

    def records_of(self, block: int) -> list[Record]:
        """What is remembered of an image block that was read."""
        return [self._records[row] for row in self.rows_of_block(block)]

    def label(self, row: int) -> int | None:
        """The label of the image at a position of the stream, without decoding it."""
        return self.source.label(self.order[row])

    def facts(self) -> list[Mapping[str, str | float]]:
        """What the source knows of each image, in order, without decoding them."""
        return [self.source.facts(index) for index in self.order]

    def nth(self, rows: Iterable[int]) -> list[int]:
        """How many images of its class stand before each of some images in the stream; none without labels."""
        return [self._nth[row] for row in rows] if self.labelled else []

    def records(self) -> list[Record]:
        """Ids, labels and content hashes of all images, in order; after all of them were read.

        Raises:
            RuntimeError: Some were not read yet.
        """
        missing = self.n - len(self._records)
        if missing:
            raise RuntimeError(f"{missing} of {self.n} images were not read yet")
        return [self._records[row] for row in range(self.n)]

    def remember(self, records: Mapping[int, Record]) -> None:
        """Take over records, by position, of images that another process or an earlier run has read."""
        self._records.update(records)


def rows_of_batch(images: int, batches: int, batch: int) -> range:
    """Positions of a batch's images in a stream of so many images and batches."""
    return range(batch * images // batches, (batch + 1) * images // batches)


def open_stream(
    data: Data,
    *,
    seed: int,
    folder: Path,
    transforms: Mapping[str, Preprocessing],
    workers: int | None = None,
    entries: Mapping[str, Data] | None = None,
    beside: Mapping[str, str] | None = None,
) -> Stream:
    """Open a `data` entry for some models.

    Args:
        data: The entry.
        seed: The study's; the entry's own comes first.
        folder: Where relative paths start: the study's folder.
        transforms: What each model takes, by the name that `Batch.images` will use.
        workers: Processes that decode; None takes as many as pay.
        entries: The data entries by name, where this one stands beside another, or another beside it.
        beside: For models that see the images of another entry, which stand beside these: its name.

    Raises:
        StudyError: Unknown source (VD220) or parameters (VD1xx), more images than there are (VD243), a shared
            preprocessing that a model does not take (VD234).
        EnvironmentProblem: The source is missing, empty or unreadable (VD401, VD402, VD403, VD410); features lack
            some of the images (VD431).
    """
    seed = data.seed if data.seed is not None else seed
    known = entries or {}
    source = open_source(data, seed=seed, folder=folder, other=known.get(data.of or ""))
    opened = {
        name: open_source(known[name], seed=seed, folder=folder, other=known.get(known[name].of or ""))
        for name in dict.fromkeys((beside or {}).values())
    }
    others = {model: opened[name] for model, name in (beside or {}).items()}
    check_count(data, source)
    order = order_of(data, source, seed)
    for name, config in transforms.items():
        check_ids(others.get(name, source), order, {name: config})
    return Stream(data, source, order, seed, shared_preprocessing(data, transforms), workers, others)


def _nth(labels: Iterable[int | None]) -> list[int]:
    """For each label, how often it came before."""
    seen: Counter[int | None] = Counter()
    found = []
    for label in labels:
        found.append(seen[label])
        seen[label] += 1
    return found
