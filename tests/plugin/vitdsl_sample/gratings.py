"""Gratings: sine waves of brightness, each in one of some orientations.

What it gives
    As many images as asked for, grey, of one spatial frequency. The class is the orientation: of `orientations`
    evenly spaced angles, image n has the n-th, over and over. The phase is drawn from the study's seed and n. Ids are
    `gratings/0000` and so on. The content hash is of the pixels.

Limits
    One frequency and full contrast: nothing like photographs.

Example:
    data:
      probe: {source: gratings, total: 256, size: 224, orientations: 8, batch: 64}
"""

import hashlib
from pathlib import Path
from typing import ClassVar

import numpy as np
from PIL import Image
from pydantic import Field

from vitdsl.dsl.study import Entry
from vitdsl.runtime.data.sources._base import Item, Source
from vitdsl.runtime.randomness import seed_of


class Params(Entry):
    """Which gratings."""

    total: int = Field(ge=1, description="How many images there are.")
    size: int = Field(224, ge=8, le=4096, description="Height and width of each image, in pixels.")
    orientations: int = Field(4, ge=2, le=180, description="Number of classes.")
    cycles: float = Field(4.0, gt=0, description="Waves across the image.")


class Gratings(Source):
    """Gratings drawn from the seed."""

    name = "gratings"
    Params = Params
    costly: ClassVar[bool] = False

    def __init__(self, params: Entry, *, folder: Path, seed: int) -> None:
        """Remember what to draw; nothing is read from `folder`."""
        assert isinstance(params, Params)
        self.params, self.seed = params, seed
        self.classes = tuple(f"{180 * i / params.orientations:g} degrees" for i in range(params.orientations))

    def __len__(self) -> int:
        return self.params.total

    def id(self, index: int) -> str:
        """Such as `gratings/0007`."""
        return f"gratings/{index:04d}"

    def label(self, index: int) -> int:
        """The orientation."""
        return index % self.params.orientations

    def load(self, index: int) -> Item:
        """Draw one image."""
        angle = np.pi * self.label(index) / self.params.orientations
        phase = 2 * np.pi * np.random.Generator(np.random.PCG64(seed_of("phase", self.seed, index))).random()
        rows, cols = np.mgrid[: self.params.size, : self.params.size] / self.params.size
        wave = np.sin(2 * np.pi * self.params.cycles * (rows * np.sin(angle) + cols * np.cos(angle)) + phase)
        grey = np.round((wave + 1) * 127.5).astype(np.uint8)
        content = hashlib.sha256(grey.tobytes()).hexdigest()
        return Item(Image.fromarray(grey).convert("RGB"), self.label(index), content)
