"""Images of noise: the null control, which holds nothing to see.

What it gives
    As many images as asked for, each pixel drawn on its own: `gaussian` around mid-grey (standard deviation
    0.25 of the range, clipped) or `uniform` over the range. The n-th image depends on the study's seed (the
    entry's `seed` where it has one) and on n only: more images leave the first ones as they were. `classes`
    adds labels drawn at random, which no model can predict beyond chance.

Limits
    Far from anything a model was trained on: similarity between representations of noise says how much is
    due to the architecture, not what is seen in images.

Example:
    data:
      control: {source: noise, images: 256, size: 224, batch: 64}
"""

import hashlib
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from PIL import Image
from pydantic import Field

from vitdsl.dsl.study import Entry
from vitdsl.runtime.data.sources._base import Item, Source
from vitdsl.runtime.randomness import seed_of


class Params(Entry):
    """Which noise."""

    total: int | None = Field(
        None, ge=1, description="How many images there are; null: as many as `images` asks for."
    )
    size: int = Field(224, ge=1, le=4096, description="Height and width of each image, in pixels.")
    distribution: Literal["gaussian", "uniform"] = Field("gaussian", description="Of each pixel.")
    classes: int | None = Field(None, ge=2, description="Labels drawn from so many classes; null: no labels.")


class Noise(Source):
    """Images drawn from the seed."""

    name = "noise"
    Params = Params
    costly: ClassVar[bool] = False
    drawn: ClassVar[bool] = True
    endless = True

    def __init__(self, params: Entry, *, folder: Path, seed: int) -> None:
        """Remember what to draw; nothing is read from `folder`."""
        assert isinstance(params, Params)
        self.params, self.seed = params, seed
        self.endless = params.total is None
        self.classes = tuple(f"class {i}" for i in range(params.classes)) if params.classes else None

    def __len__(self) -> int:
        return self.asked if self.params.total is None else self.params.total

    def id(self, index: int) -> str:
        """Such as `noise/gaussian/000007`."""
        return f"noise/{self.params.distribution}/{index:06d}"

    def content(self, index: int) -> str:
        """What the image is drawn from."""
        return f"noise {self.version} {self.params.distribution} {self.params.size} {self.seed} {index}"

    def label(self, index: int) -> int | None:
        """A class drawn at random, or None."""
        if self.params.classes is None:
            return None
        return seed_of("label", self.seed, index) % self.params.classes

    def load(self, index: int) -> Item:
        """Draw one image."""
        draw = np.random.Generator(np.random.PCG64(seed_of("noise", self.seed, index)))
        shape = (self.params.size, self.params.size, 3)
        unit = draw.random(shape) if self.params.distribution == "uniform" else draw.normal(0.5, 0.25, shape)
        pixels = np.round(unit.clip(0, 1) * 255).astype(np.uint8)
        return Item(Image.fromarray(pixels), self.label(index), hashlib.sha256(pixels.tobytes()).hexdigest())
