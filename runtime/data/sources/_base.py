"""What a source is: a finite, indexable collection of images with ids, and labels where it has them.

Does not own: order, batches, transforms (`stream`).
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from PIL.Image import Image

from vitdsl.dsl.diagnostics import EnvironmentProblem
from vitdsl.dsl.study import Entry
from vitdsl.runtime.kinds import Registry, summary


@dataclass(frozen=True)
class Item:
    """One decoded image (RGB), its label (None without), and the hash of its content."""

    image: Image
    label: int | None
    sha256: str


class ImagesNotHere(EnvironmentProblem):
    """There is nothing where a source's images should be: its study can be checked and priced, and not run."""


class Source(ABC):
    """A kind of source, one file in this folder; its module's docstring is its page in `vitdsl explain`.

    Attributes:
        name: The kind's name, equal to the file's.
        Params: The kind's own fields in a study.
        classes: Names of the classes in label order, None without labels.
        paths: Those of its fields that are paths, relative to the study's folder.
        drawn: Whether its images are drawn and not read: `content` then says what from, and is no hash of theirs.
        costly: Whether decoding takes long enough for other processes to do it.
        endless: Whether it has as many images as it is asked for; an open source may know better than its kind.
        asked: How many that is: `images` of the data entry, set when the entry's source is opened.
        notes: What the reader of a run should know of how it was read, such as files that were left out.
        shown: How its classes became labels, for who checks a study; empty where nothing was mapped.
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1
    Params: ClassVar[type[Entry]] = Entry
    classes: tuple[str, ...] | None = None
    paths: ClassVar[tuple[str, ...]] = ()
    drawn: ClassVar[bool] = False
    costly: ClassVar[bool] = True
    endless: bool = False
    asked: int = 0
    notes: tuple[str, ...] = ()
    shown: tuple[str, ...] = ()

    @abstractmethod
    def __init__(self, params: Entry, *, folder: Path, seed: int) -> None:
        """Open the source.

        Args:
            params: The kind's own fields.
            folder: Where relative paths start: the study's folder.
            seed: For a source that draws its images.

        Raises:
            ImagesNotHere: There is nothing at its path, with what to do.
            EnvironmentProblem: It is empty or unreadable, or something else is missing, with what to do.
        """

    @classmethod
    def is_local(cls, params: Mapping[str, Any]) -> bool:
        """Whether opening it stays on this machine, given its fields in a study."""
        return True

    @abstractmethod
    def __len__(self) -> int:
        """Number of images."""

    @abstractmethod
    def id(self, index: int) -> str:
        """A stable name of an image, such as its path relative to the folder."""

    def content(self, index: int) -> str:
        """What decides the pixels of an image, found without decoding it where that can be.

        The content hash unless overridden; a source that draws its images says what it draws them from.
        """
        return self.load(index).sha256

    @abstractmethod
    def label(self, index: int) -> int | None:
        """An image's label, without decoding it."""

    def has_labels(self, images: Iterable[int] = ()) -> bool:
        """Whether there are classes, and each of these images has one."""
        return self.classes is not None and all(self.label(index) is not None for index in images)

    def in_words(self) -> str:
        """What its images are, in a few plain words: what stands before the first colon of its kind's page."""
        said = summary(type(self)).rstrip(".").partition(":")[0]
        return said[:1].lower() + said[1:]

    def facts(self, index: int) -> Mapping[str, str | float]:
        """What else is known of an image, without decoding it: further columns of a run's `images.csv`."""
        return {}

    @abstractmethod
    def load(self, index: int) -> Item:
        """Decode one image.

        Raises:
            EnvironmentProblem: It is unreadable (VD402), with its path.
        """


SOURCES: Registry[Source] = Registry("sources", "vitdsl.runtime.data.sources", Source, field="source")
