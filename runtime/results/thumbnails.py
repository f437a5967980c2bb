"""Thumbnails: small pictures of a few images, as a model saw them, kept beside the results. Free of torch.

Owns their file, and which images a result names strongest. Does not own how an image becomes a picture
(`vitdsl.runtime.run.thumbnails`), or where they stand on the page. A folder without the file has none: whoever
removes it removes every image from what the report is drawn from.
"""

from pathlib import Path
from typing import Final, Literal

import numpy as np
import xarray as xr
from pydantic import Field

from vitdsl.runtime.results.record import Record, as_json
from vitdsl.runtime.results.writing import write_json

THUMBNAILS = "thumbnails.json"
SCHEMA: Final = "vitdsl.thumbnails/1"
MOST_PICTURED = 8
"""So many images of one group are pictured at most."""


class Thumbnail(Record):
    """The image at a position of a stream as some models saw it, as a file in base64."""

    data: str
    row: int
    models: tuple[str, ...]
    format: Literal["png", "jpeg"]
    content: str

    @property
    def source(self) -> str:
        """The picture as a part of a page."""
        return f"data:image/{self.format};base64,{self.content}"


class Thumbnails(Record):
    """The pictures of a run.

    Attributes:
        first: Of each stream, the positions of the images that stand for it.
        labels: Of each stream, the labels of the images that stand for it; null without labels.
        images: All pictures.
    """

    schema_: Literal["vitdsl.thumbnails/1"] = Field(
        default=SCHEMA, validation_alias="schema", serialization_alias="schema"
    )
    first: dict[str, tuple[int, ...]] = Field(default_factory=dict)
    labels: dict[str, tuple[int | None, ...]] = Field(default_factory=dict)
    images: tuple[Thumbnail, ...] = ()

    def of(self, data: str, model: str, row: int) -> Thumbnail | None:
        """An image as a model saw it; as another model did, where it is not kept of this one; None where of none."""
        found = [one for one in self.images if (one.data, one.row) == (data, row)]
        return next((one for one in found if model in one.models), next(iter(found), None))


def read_thumbnails(folder: Path) -> Thumbnails:
    """The pictures in a run folder; none where it has no file of them.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is none of pictures.
    """
    path = folder / THUMBNAILS
    if not path.is_file():
        return Thumbnails()
    return Thumbnails.model_validate_json(path.read_text("utf-8"))


def write_thumbnails(folder: Path, thumbnails: Thumbnails) -> None:
    """Write the pictures of a run, where it has any."""
    if thumbnails.images:
        write_json(folder / THUMBNAILS, as_json(thumbnails))


def pictured(group: xr.Dataset) -> list[tuple[int, int]]:
    """The images that a group names strongest: condition and rank of each, the strongest first.

    A value that names images by their position says in `pictured_by` which other one says how strongly. An image that
    several conditions name stands once, where it is strongest; of equal ones the earlier image, then the earlier
    condition.
    """
    named = [str(name) for name, array in group.data_vars.items() if array.attrs.get("pictured_by")]
    if not named:
        return []
    ordered = [
        group[one].transpose("condition", "rank") for one in (named[0], group[named[0]].attrs["pictured_by"])
    ]
    rows, strength = (np.asarray(one.values, np.float64) for one in ordered)
    every = sorted(
        (-strength[at], rows[at], *at)
        for at in np.ndindex(rows.shape)
        if np.isfinite(rows[at]) and np.isfinite(strength[at])
    )
    found: dict[float, tuple[int, int]] = {}
    for _, row, condition, rank in every:
        found.setdefault(row, (int(condition), int(rank)))
    return list(found.values())[:MOST_PICTURED]
