"""Decoding: images to tensors, in this process or in others, with errors that survive their way out of one.

Does not own: which images, in which order and batches (`stream`).
"""

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple, NoReturn, TypeVar

import torch
from PIL.Image import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from vitdsl.dsl.diagnostics import Diagnostic, EnvironmentProblem, VitdslError
from vitdsl.runtime.cores import cores
from vitdsl.runtime.data.sources._base import Source

WORTH_READING_AHEAD = 256
MOST_WORKERS = 8


class Record(NamedTuple):
    """What is remembered of an image that was read."""

    id: str
    label: int | None
    sha256: str


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


Look = Callable[[Image], Tensor]
"""A preprocessing: an RGB image to a tensor."""


class Decoder(Dataset[tuple[list[Tensor], Record | Failure]]):
    """Decodes the image at a position of the stream, and those beside it, each through its preprocessings."""

    def __init__(
        self,
        source: Source,
        order: list[int],
        transforms: list[Look],
        beside: Sequence[tuple[Source, Look]] = (),
    ) -> None:
        self.source, self.order, self.transforms, self.beside = source, order, transforms, beside

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, row: int) -> tuple[list[Tensor], Record | Failure]:
        index = self.order[row]
        try:
            item = self.source.load(index)
            others = {id(source): source.load(index).image for source, _ in self.beside}
        except VitdslError as error:
            return [], Failure.of(error)
        with one_thread():
            tensors = [apply(item.image) for apply in self.transforms]
            tensors += [apply(others[id(source)]) for source, apply in self.beside]
        return tensors, Record(self.source.id(index), item.label, item.sha256)


@contextmanager
def one_thread() -> Iterator[None]:
    """While one image is prepared: threads would wait for one another longer than they compute."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def collate(
    items: list[tuple[list[Tensor], Record | Failure]],
) -> tuple[list[Tensor], list[Record] | Failure]:
    """Decoded images as a batch: one tensor for each preprocessing; the first failure among them instead."""
    records = []
    for _, record in items:
        if isinstance(record, Failure):
            return [], record
        records.append(record)
    return [torch.stack(images) for images in zip(*(tensors for tensors, _ in items), strict=True)], records


def throw_all(first: Failure, source: Source, order: list[int], workers: int) -> NoReturn:
    """Raise all that is wrong with the images of a stream, once one of them could not be decoded.

    Args:
        first: What was found.
        source: The images.
        order: Which of them.
        workers: Processes that decode.
    """
    loader = DataLoader(
        Decoder(source, order, []),
        batch_size=64,
        collate_fn=_failures,
        num_workers=workers,
        generator=torch.Generator(),
    )
    found = [failure for failures in alive(loader) for failure in failures if failure.kind is first.kind]
    raise first.kind(dict.fromkeys(one for failure in (first, *found) for one in failure.diagnostics))


def _failures(items: list[tuple[list[Tensor], Record | Failure]]) -> list[Failure]:
    return [record for _, record in items if isinstance(record, Failure)]


def digest(texts: Iterable[str]) -> str:
    """One hash of some texts in their order."""
    return hashlib.sha256("\n".join(texts).encode(errors="backslashreplace")).hexdigest()


T = TypeVar("T")


def alive(batches: Iterable[T]) -> Iterator[T]:
    """Batches from other processes, as long as these live.

    Raises:
        EnvironmentProblem: One of them was ended from outside (VD505).
    """
    try:
        yield from batches
    except RuntimeError as error:
        if not str(error).startswith("DataLoader worker"):  # torch has no type of its own for it
            raise
        raise EnvironmentProblem(
            Diagnostic(
                "VD505",
                "a process that decodes images was ended from outside",
                help=(
                    "where memory was full, take a smaller `batch` or close other programs",
                    "run the same command again: image blocks that are done are found",
                ),
            )
        ) from error


def workers_for(source: Source, n: int) -> int:
    """How many processes should decode `n` images: none where it does not pay; processes of one run share the cores."""
    mine = cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return min(MOST_WORKERS, mine - 1) if source.costly and n > WORTH_READING_AHEAD and mine > 2 else 0
