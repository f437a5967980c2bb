"""Thumbnails: small pictures of a few images, as a model saw them, kept beside the results. Free of torch.

Owns their file. Does not own which images are kept (`pictured`), how an image becomes a picture
(`vitdsl.runtime.run.thumbnails`), or where they stand on the page. A folder without the file has none: whoever
removes it removes every image from what the report is drawn from.
"""

from pathlib import Path
from typing import Final, Literal

from pydantic import Field

from vitdsl.runtime.results.record import Record, as_json
from vitdsl.runtime.results.writing import write_json

THUMBNAILS = "thumbnails.json"
SCHEMA: Final = "vitdsl.thumbnails/1"


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
