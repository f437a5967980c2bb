"""Scikit-learn's handwritten digits of 8 x 8 pixels: nothing is downloaded.

What it gives
    1,797 grey images of ten classes (the test part of UCI's "Optical Recognition of Handwritten Digits"),
    each enlarged to 32 x 32 pixels (bicubic) and given as RGB. Ids are `digits/0000` to `digits/1796`, the
    index in `sklearn.datasets.load_digits`. The content hash is of the 64 original values. Splits: 1,285
    images to train on and 512 to test on, the same share of each class. Which is which is fixed by a hash
    of the index, so it is the same on every machine and with every version.

Limits
    Small and easy: accuracies are close to their ceiling, and what holds here need not hold for photographs.
    The same 13 people wrote training and test images.

Example:
    data:
      probe: {source: digits, split: test, images: 512, batch: 128}
"""

import gzip
import hashlib
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from PIL import Image
from pydantic import Field

from vitdsl.dsl.study import Entry
from vitdsl.runtime.data.sources._base import Item, Source

SIZE = 32
TEST_IMAGES = 512


class Params(Entry):
    """Which digits."""

    split: Literal["train", "test", "all"] = Field(
        description="`train` (1,285 images), `test` (512) or `all`."
    )


class Digits(Source):
    """The digits of one split, in the order of their index."""

    name = "digits"
    Params = Params
    costly: ClassVar[bool] = False

    def __init__(self, params: Entry, *, folder: Path, seed: int) -> None:
        """Open the split; nothing is read from `folder`, nothing is drawn."""
        assert isinstance(params, Params)
        self.pixels, self.targets = _read()
        test = split(self.targets)
        chosen = {"train": ~test, "test": test, "all": np.ones_like(test)}[params.split]
        self.indices = np.flatnonzero(chosen)
        self.classes = tuple(str(digit) for digit in range(10))

    def __len__(self) -> int:
        return len(self.indices)

    def id(self, index: int) -> str:
        """Such as `digits/0007`."""
        return f"digits/{self.indices[index]:04d}"

    def content(self, index: int) -> str:
        """The hash of the 64 original values."""
        pixels = self.pixels[self.indices[index]]
        return hashlib.sha256(pixels.astype(np.uint8).tobytes()).hexdigest()

    def label(self, index: int) -> int:
        """The digit."""
        return int(self.targets[self.indices[index]])

    def load(self, index: int) -> Item:
        """The enlarged image."""
        pixels = self.pixels[self.indices[index]]
        grey = Image.fromarray(np.round(pixels * (255 / 16)).astype(np.uint8))
        image = grey.resize((SIZE, SIZE), Image.Resampling.BICUBIC).convert("RGB")
        return Item(image, self.label(index), self.content(index))


def split(targets: np.ndarray) -> np.ndarray:
    """Which images are for testing.

    Args:
        targets: Labels, [images].

    Returns:
        [images], true for `TEST_IMAGES` of them: of each class the same share, the ones whose index hashes
        low.
    """
    share = TEST_IMAGES / len(targets)
    members = [np.flatnonzero(targets == label) for label in np.unique(targets)]
    quotas = [int(len(group) * share) for group in members]
    remainders = np.argsort(
        [quota - len(group) * share for group, quota in zip(members, quotas, strict=True)]
    )
    for position in remainders[: TEST_IMAGES - sum(quotas)]:
        quotas[position] += 1
    chosen = np.zeros(len(targets), dtype=bool)
    for group, quota in zip(members, quotas, strict=True):
        chosen[sorted(group, key=lambda i: hashlib.sha256(f"digits/{i:04d}".encode()).digest())[:quota]] = (
            True
        )
    return chosen


@cache
def _read() -> tuple[np.ndarray, np.ndarray]:
    """Pixels [images, 8, 8] and labels, as `sklearn.datasets.load_digits` gives them, which takes long to import."""
    found = find_spec("sklearn")
    folders = found.submodule_search_locations if found else None
    table = Path(folders[0] if folders else "", "datasets", "data", "digits.csv.gz")
    if not table.is_file():
        from sklearn.datasets import load_digits

        bunch = load_digits()
        return bunch.images, bunch.target
    with gzip.open(table, "rt", encoding="ascii") as lines:
        numbers = np.loadtxt(lines, delimiter=",")
    return numbers[:, :-1].reshape(-1, 8, 8), numbers[:, -1].astype(int)
