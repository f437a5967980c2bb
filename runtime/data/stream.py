"""Streams: a study's images in a fixed order, decoded once each and put through every preprocessing once.

Owns: opening a source, which images are taken and in which order, batches, image blocks, reading ahead in
other processes, and the record of what was read. Does not own: what a source is (`sources/_base`), what a
preprocessing does (`models`), devices.

The order is one shuffle from the seed (or the source's own), then the first `images`. It depends neither on
the batch size nor on the number of processes.
"""

import difflib
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import torch
from PIL.Image import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from vitdsl.dsl.diagnostics import Diagnostic, StudyError, VitdslError
from vitdsl.dsl.schema import validated
from vitdsl.dsl.source import SourceMap
from vitdsl.dsl.study import OWN, Data
from vitdsl.runtime.data.sources._base import Source
from vitdsl.runtime.kinds import SOURCES
from vitdsl.runtime.models.loading import Preprocessing, transform
from vitdsl.runtime.randomness import permutation

WORTH_READING_AHEAD = 256
MOST_WORKERS = 8


class Record(NamedTuple):
    """What is remembered of an image that was read."""

    id: str
    label: int | None
    sha256: str


@dataclass(frozen=True)
class Batch:
    """Some images, as each model sees them.

    Attributes:
        index: Position of the batch in the stream, from 0.
        block: The image block that it belongs to.
        images: A tensor [batch, 3, height, width] (float32) for each model; equal preprocessings share one.
        labels: [batch] (int64), None where the stream has no labels.
        rows: Positions of its images in the stream.
    """

    index: int
    block: int
    images: dict[str, Tensor]
    labels: Tensor | None
    rows: range


class Stream:
    """The images of one `data` entry, in batches; iterating again reads them again, the same.

    Attributes:
        n: Number of images.
        classes: Names of the classes in label order, None without labels.
        labelled: Whether every image has a label.
        batches: Number of batches; the last one may be short.
        image_blocks: Number of image blocks: `image_blocks` of the entry, at most one per batch.
        seed: The seed of the shuffle.
    """

    def __init__(
        self,
        data: Data,
        source: Source,
        order: list[int],
        seed: int,
        transforms: Mapping[str, Preprocessing],
        workers: int | None,
    ) -> None:
        self.data, self.source, self.order, self.seed = data, source, order, seed
        self.transforms = dict(transforms)
        self.n = len(order)
        self.batches = -(-self.n // data.batch)
        self.image_blocks = min(data.image_blocks, self.batches)
        self.classes = source.classes
        self.labelled = source.classes is not None and all(source.label(i) is not None for i in order)
        self.workers = workers_for(source, self.n) if workers is None else workers
        self._records: dict[int, Record] = {}

    def block_of(self, batch: int) -> int:
        """The image block of a batch: contiguous groups, equal to within one batch."""
        return batch * self.image_blocks // self.batches

    def rows_of(self, batch: int) -> range:
        """Positions of a batch's images in the stream."""
        return range(batch * self.data.batch, min((batch + 1) * self.data.batch, self.n))

    def id(self, row: int) -> str:
        """The id of the image at a position of the stream, without decoding it."""
        return self.source.id(self.order[row])

    def __iter__(self) -> Iterator[Batch]:
        return self.read(range(self.batches))

    def read(self, batches: Iterable[int]) -> Iterator[Batch]:
        """Read some batches, in the order given: a shard, or what is left of a run.

        Raises:
            EnvironmentProblem: An image is unreadable (VD402).
        """
        wanted = list(batches)
        configs = list(dict.fromkeys(self.transforms.values()))
        loader = DataLoader(
            _Decoder(self.source, self.order, [transform(config) for config in configs]),
            batch_sampler=[list(self.rows_of(index)) for index in wanted],
            collate_fn=_collate,
            num_workers=self.workers if wanted else 0,
            pin_memory=torch.cuda.is_available(),
            generator=torch.Generator(),
        )
        for index, (tensors, records) in zip(wanted, loader, strict=True):
            if isinstance(records, Failure):
                records.throw()
            rows = self.rows_of(index)
            self._records.update(zip(rows, records, strict=True))
            by_config = dict(zip(configs, tensors, strict=True))
            yield Batch(
                index=index,
                block=self.block_of(index),
                images={name: by_config[config] for name, config in self.transforms.items()},
                labels=torch.tensor([record.label for record in records]) if self.labelled else None,
                rows=rows,
            )

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


def open_stream(
    data: Data,
    *,
    seed: int,
    folder: Path,
    transforms: Mapping[str, Preprocessing],
    workers: int | None = None,
) -> Stream:
    """Open a `data` entry for some models.

    Args:
        data: The entry.
        seed: The study's; the entry's own comes first.
        folder: Where relative paths start: the study's folder.
        transforms: What each model takes, by the name that `Batch.images` will use.
        workers: Processes that decode; None takes as many as pay.

    Raises:
        StudyError: Unknown source (VD220) or parameters (VD1xx), more images than there are (VD243), a shared
            preprocessing that a model does not take (VD234).
        EnvironmentProblem: The source is missing, empty or unreadable (VD401, VD402, VD403, VD410).
    """
    seed = data.seed if data.seed is not None else seed
    source = open_source(data, seed=seed, folder=folder)
    order = permutation(len(source), seed) if data.shuffle else list(range(len(source)))
    check_count(data, source)
    return Stream(data, source, order[: data.images], seed, _shared(data, transforms), workers)


def open_source(data: Data, *, seed: int, folder: Path) -> Source:
    """Open the source of a `data` entry.

    Raises:
        StudyError: There is no such source (VD220), or it does not take these parameters (VD1xx).
        EnvironmentProblem: It is missing, empty or unreadable.
    """
    kinds = SOURCES.kinds()
    if data.source not in kinds:
        near = difflib.get_close_matches(data.source, kinds, n=1)
        raise StudyError(
            Diagnostic(
                "VD220",
                f"there is no source `{data.source}`",
                help=(
                    *((f"did you mean `{near[0]}`?",) if near else ()),
                    f"sources: {', '.join(kinds)}",
                ),
            )
        )
    kind = kinds[data.source]
    params = validated(kind.Params, data.params, SourceMap())
    if isinstance(params, list):
        raise StudyError(params)
    return kind(params, folder=folder, seed=seed)


def check_count(data: Data, source: Source) -> None:
    """Make sure that a source has as many images as its entry takes.

    Raises:
        StudyError: It has fewer (VD243).
    """
    if data.images is not None and data.images > len(source):
        raise StudyError(
            Diagnostic(
                "VD243",
                f"`images: {data.images}`, but source `{data.source}` has {len(source)}",
                help=(f"write at most `images: {len(source)}`, or leave it out to take all",),
            )
        )


def describe(stream: Stream) -> dict[str, Any]:
    """What the manifest says of a stream that was read."""
    records = stream.records()
    return {
        "source": stream.data.source,
        "params": stream.data.params,
        "images": stream.n,
        "available": len(stream.source),
        "classes": None if stream.classes is None else len(stream.classes),
        "labelled": stream.labelled,
        "batch": stream.data.batch,
        "batches": stream.batches,
        "image_blocks": stream.image_blocks,
        "shuffled": stream.data.shuffle,
        "seed": stream.seed,
        "ids_sha256": _digest(record.id for record in records),
        "content_sha256": _digest(record.sha256 for record in records),
    }


def check_labels(stream: Stream, num_classes: int, model_name: str) -> None:
    """Make sure that a stream's labels are those that a model predicts.

    Raises:
        StudyError: The stream has no labels (VD241), or another number of classes (VD404).
    """
    if not stream.labelled or stream.classes is None:
        raise StudyError(
            Diagnostic(
                "VD241",
                f"the images of source `{stream.data.source}` have no labels",
                notes=(f"accuracy of `{model_name}` needs them",),
                help=(
                    "put the images of each class in a folder of its own",
                    "or leave out the metrics that need labels",
                ),
            )
        )
    check_classes(stream.data, stream.classes, num_classes, model_name)


def check_classes(data: Data, classes: Sequence[str], num_classes: int, model_name: str) -> None:
    """Make sure that the classes of some images are as many as a model predicts.

    Raises:
        StudyError: They are not (VD404).
    """
    if len(classes) != num_classes:
        imagenet = all(is_wordnet_id(name) for name in classes)
        raise StudyError(
            Diagnostic(
                "VD404",
                f"source `{data.source}` has {len(classes)} classes, model `{model_name}` "
                f"predicts {num_classes}",
                help=(
                    "write `labels: imagenet`: the folders are named by WordNet ids"
                    if imagenet and num_classes == 1000
                    else f"write `options: {{num_classes: {len(classes)}}}` for a model trained here",
                ),
            )
        )


def is_wordnet_id(name: str) -> bool:
    """Whether a folder's name looks like an ImageNet class, such as `n01440764`."""
    return len(name) == 9 and name[0] == "n" and name[1:].isdigit()


@dataclass(frozen=True)
class Failure:
    """An error on its way out of another process, where exceptions lose what they carry."""

    kind: type[VitdslError]
    diagnostics: tuple[Diagnostic, ...]

    @classmethod
    def of(cls, error: VitdslError) -> "Failure":
        """What travels in an error's place."""
        return cls(type(error), error.diagnostics)

    def throw(self) -> NoReturn:
        """Raise the error."""
        raise self.kind(self.diagnostics)


class _Decoder(Dataset[tuple[list[Tensor], Record | Failure]]):
    """Decodes the image at a position of the stream."""

    def __init__(self, source: Source, order: list[int], transforms: list[Callable[[Image], Tensor]]) -> None:
        self.source, self.order, self.transforms = source, order, transforms

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, row: int) -> tuple[list[Tensor], Record | Failure]:
        index = self.order[row]
        try:
            item = self.source.load(index)
        except VitdslError as error:
            return [], Failure.of(error)
        tensors = [apply(item.image) for apply in self.transforms]
        return tensors, Record(self.source.id(index), item.label, item.sha256)


def _collate(
    items: list[tuple[list[Tensor], Record | Failure]],
) -> tuple[list[Tensor], list[Record] | Failure]:
    records = []
    for _, record in items:
        if isinstance(record, Failure):
            return [], record
        records.append(record)
    return [torch.stack(views) for views in zip(*(tensors for tensors, _ in items), strict=True)], records


def _shared(data: Data, transforms: Mapping[str, Preprocessing]) -> Mapping[str, Preprocessing]:
    if data.preprocess == OWN or data.preprocess not in transforms:
        return transforms
    shared = transforms[data.preprocess]
    for name, config in transforms.items():
        if config.input_size != shared.input_size:
            raise StudyError(
                Diagnostic(
                    "VD234",
                    f"`preprocess: {data.preprocess}` gives images of {_pixels(shared)}, "
                    f"model `{name}` takes {_pixels(config)}",
                    help=("build both for one size (`options: {img_size: N}` or `input_size: N`)",),
                )
            )
    return dict.fromkeys(transforms, shared)


def _pixels(config: Preprocessing) -> str:
    return f"{config.input_size[1]} x {config.input_size[2]} pixels"


def workers_for(source: Source, n: int) -> int:
    """How many processes should decode `n` images: none where it does not pay."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(MOST_WORKERS, cores - 1) if source.costly and n > WORTH_READING_AHEAD and cores > 2 else 0


def _digest(texts: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()
