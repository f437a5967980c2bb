"""Drawn objects on a ground: as many images as asked for, 32 to 224 pixels, and all that is true of each.

What it gives
    Images of one object on a ground, with as much clutter and as many distractors around it as wanted. The object
    has a shape, a texture, a colour, a size, a place and a rotation; `label` says which of these is the class. It is
    whole, and nothing lies over it. Its shape is one of the first `shapes` of disc, square, triangle, cross, star,
    ring, heart, bar, crescent, arrow, pentagon, dome; its texture one of the first `textures` of solid, stripes,
    checks, dots, waves, speckle; each is drawn with equal chances. Distractors are smaller objects, whose shapes are
    no class. Ids are `shapes/train/0000000` and so on; how many images there are, `images` of the entry says.

    The n-th image depends on the seed (the entry's `seed`, else the study's), the split, the other fields and on n
    only: more images leave the first ones as they were. No image of `test` has the random numbers of one of `train`.
    What is beside the object leaves it as it was: the n-th image of `difficulty: easy` and of the same with
    `clutter: 0.5` have the same object in the same place.

    What is true of each image is in `images.csv` of a run: shape, texture, colour, centre, cell of the grid,
    diameter, rotation, box. In Python, `truth` gives it.

Difficulty
    `difficulty` is a number in 0..1, or `easy` (0), `medium` (0.5), `hard` (1). It sets every field below that is
    not given:

    | field         | as a function of d                     | easy  | medium   | hard     |
    |---------------|----------------------------------------|-------|----------|----------|
    | `shapes`      | 4 + 2 d, rounded                       | 4     | 5        | 6        |
    | `textures`    | 2                                      | 2     | 2        | 2        |
    | `rotation`    | `free` above 0.5                       | none  | none     | free     |
    | `ground`      | `textured` above 0                     | plain | textured | textured |
    | `clutter`     | d / 2                                  | 0     | 0.25     | 0.5      |
    | `distractors` | 2 d, rounded                           | 0     | 1        | 2        |
    | `similarity`  | 0.3 d                                  | 0     | 0.15     | 0.3      |

Position
    The centre lies anywhere where the largest object is whole: at least half the largest `diameter` from every edge.
    `grid` divides the square of these places into cells of equal chances. `label: position` makes the cell the class.

Cost
    One core draws several thousand images of 32 pixels in a second, and about a thousand of 224. Drawn images stay in
    memory up to 256 MiB (87,000 images of 32 pixels, 1,780 of 224), in each process that draws; an image beyond that
    is drawn again when it is read again.

Limits
    Drawings are not photographs: what holds here need not hold there. Shapes differ in area at one diameter, so
    that a model may tell some apart without their outline. At 32 pixels a stripe is 2 to 3.5 pixels wide.

Example:
    data:
      test: {source: shapes, split: test, images: 2000}
      where: {source: shapes, split: test, images: 2000, label: position, grid: 4, difficulty: hard}
"""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from PIL import Image
from pydantic import Discriminator, Field, Tag

from vitdsl.dsl.diagnostics import Diagnostic, StudyError
from vitdsl.dsl.hashing import canonical
from vitdsl.dsl.study import Entry
from vitdsl.runtime.data.sources._base import Item, Source
from vitdsl.runtime.data.sources._shape_drawing import paint
from vitdsl.runtime.data.sources._shape_forms import OUTLINES
from vitdsl.runtime.data.sources._shape_scenes import Look, Truth, class_name, classes, scene, truth
from vitdsl.runtime.randomness import seed_of

KEPT_BYTES = 256 << 20
"""Drawn images stay in memory up to here, so that they are drawn once for several epochs."""
LEVELS = {"easy": 0.0, "medium": 0.5, "hard": 1.0}
AS_SAID = "null: as `difficulty` says."

Difficulty = Annotated[
    Annotated[Literal["easy", "medium", "hard"], Tag("name")]
    | Annotated[float, Field(ge=0, le=1), Tag("number")],
    Discriminator(lambda value: "name" if isinstance(value, str) else "number"),
]


class Params(Entry):
    """Which drawings."""

    split: Literal["train", "test"] = Field(description="Of disjoint random streams.")
    size: int = Field(32, ge=32, le=224, description="Height and width of each image, in pixels.")
    label: Literal["shape", "texture", "colour", "position", "shape+texture"] = Field(
        "shape+texture", description="What of the object is the class."
    )
    difficulty: Difficulty = Field(
        "easy",
        description="Sets all fields that may be null as a whole; a number in 0..1, or a name for one.",
    )
    shapes: int | None = Field(
        None, ge=4, le=12, description=f"Kinds of shapes that the object may have; {AS_SAID}"
    )
    textures: int | None = Field(
        None, ge=1, le=6, description=f"Kinds of textures that the object may have; {AS_SAID}"
    )
    rotation: Literal["none", "free"] | None = Field(
        None, description=f"Whether objects stand upright or are turned by any angle; {AS_SAID}"
    )
    ground: Literal["plain", "textured"] | None = Field(None, description=f"What objects lie on; {AS_SAID}")
    clutter: float | None = Field(
        None, ge=0, le=1, description=f"Small bars and discs behind the object, 16 of them at 1; {AS_SAID}"
    )
    distractors: int | None = Field(
        None,
        ge=0,
        le=8,
        description=f"Smaller objects behind the object, of shapes that are no class; {AS_SAID}",
    )
    similarity: float | None = Field(
        None,
        ge=0,
        le=0.8,
        description=f"How far every outline is drawn towards a disc, and both colours of a texture together; {AS_SAID}",
    )
    colour: Literal["free", "fixed"] = Field(
        "free", description="Of objects: any of six hues, unevenly bright, or the same for all."
    )
    diameter: tuple[float, float] = Field(
        (0.45, 0.6),
        strict=False,
        description="Range of the object's diameter, as a share of the image's side.",
    )
    grid: int = Field(3, ge=2, le=8, description="Rows and columns of the cells that a position may be in.")


class Shapes(Source):
    """Images drawn from the seed."""

    name = "shapes"
    Params = Params
    drawn: ClassVar[bool] = True
    endless = True

    def __init__(self, params: Entry, *, folder: Path, seed: int) -> None:
        """Remember what to draw; nothing is read from `folder`."""
        assert isinstance(params, Params)
        self.params, self.look = params, look_of(params)
        self.classes = classes(self.look, params.label)
        self.seed = seed
        self._start = seed_of("shapes", self.version, seed)
        what = canonical([asdict(self.look), params.label, seed, params.split])
        self._what = f"{self.name} {self.version} {hashlib.sha256(what.encode()).hexdigest()}"
        self._number = {name: label for label, name in enumerate(self.classes)}
        self._labels: dict[int, int] = {}
        self._kept: dict[int, np.ndarray] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_kept": {}}

    def __len__(self) -> int:
        return self.asked

    def id(self, index: int) -> str:
        """Such as `shapes/train/0000007`."""
        return f"shapes/{self.params.split}/{index:07d}"

    def content(self, index: int) -> str:
        """What the image is drawn from: a hash of all fields, and its number."""
        return f"{self._what} {index}"

    def truth(self, index: int) -> Truth:
        """What is true of an image, by construction."""
        return truth(self.look, self._seed(index))

    def facts(self, index: int) -> Mapping[str, str | float]:
        """What is true of an image, as columns of a table."""
        found = asdict(self.truth(index))
        edges = dict(zip(("left", "upper", "right", "lower"), found.pop("box"), strict=True))
        return found | edges

    def label(self, index: int) -> int:
        """The class, as `label` of the entry says."""
        if index not in self._labels:
            self._labels[index] = self._number[class_name(self.truth(index), self.params.label)]
        return self._labels[index]

    def load(self, index: int) -> Item:
        """Draw one image, or find it drawn."""
        pixels = self._kept.get(index)
        if pixels is None:
            pixels = paint(scene(self.look, self._seed(index)), self.look.size, self.look.similarity)
            if (len(self._kept) + 1) * pixels.nbytes <= KEPT_BYTES:
                self._kept[index] = pixels
        digest = hashlib.sha256(pixels.tobytes()).hexdigest()
        return Item(Image.fromarray(pixels.copy()), self.label(index), digest)

    def _seed(self, index: int) -> int:
        """The seed of an image's draws: of a study's seed, no two images of either split share one."""
        return self._start << 64 | index << 1 | (self.params.split == "test")


def look_of(params: Params) -> Look:
    """What images show, with every field that was left open set by the difficulty.

    Raises:
        StudyError: Fields that do not go together (VD221).
    """
    hard = params.difficulty if not isinstance(params.difficulty, str) else LEVELS[params.difficulty]
    low, high = params.diameter
    if not 0.1 <= low <= high <= 0.9:
        raise _refused(
            "diameter", "takes two numbers in 0.1..0.9, the smaller one first", "such as [0.35, 0.55]"
        )
    given = params.model_dump()
    rotation = params.rotation or ("free" if hard > 0.5 else "none")
    ground = params.ground or ("textured" if hard > 0 else "plain")
    defaults: dict[str, Any] = {
        "shapes": 4 + round(2 * hard),
        "textures": 2,
        "clutter": hard / 2,
        "distractors": round(2 * hard),
        "similarity": 0.3 * hard,
    }
    chosen = {name: default if given[name] is None else given[name] for name, default in defaults.items()}
    if chosen["distractors"] and chosen["shapes"] == len(OUTLINES):
        raise _refused(
            "shapes", "leaves no shape for distractors, which are of no class", "at most `shapes: 11`"
        )
    if params.label == "colour" and params.colour == "fixed":
        raise _refused("colour", "gives all images one class, for `label: colour`", "`colour: free`")
    if params.label == "texture" and chosen["textures"] == 1:
        raise _refused(
            "textures", "gives all images one class, for `label: texture`", "`textures: 2` or more"
        )
    return Look(
        size=params.size,
        rotates=rotation == "free",
        coloured=params.colour == "free",
        grounded=ground == "textured",
        diameter=(low, high),
        grid=params.grid,
        **chosen,
    )


def _refused(field: str, why: str, instead: str) -> StudyError:
    return StudyError(
        Diagnostic(
            "VD221",
            f"`{field}` of source `shapes` {why}",
            label="does not fit",
            help=(f"write {instead}",),
            about=((field,),),
        )
    )
