"""What a study says of the images that a model takes, where its checkpoint's differ from its architecture's.

Owns the fields of `preprocess` of a model. Does not own the size (`input_size` and `options` of the model), or what
happens to images (`models/preprocessing` in the runtime).
"""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from vitdsl.dsl.entry import Entry
from vitdsl.dsl.words import Words

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]


class Preprocess(Entry):
    """What happens to an image before a model sees it; what is left out is the architecture's own."""

    in_words: ClassVar[Words] = Words(
        "`preprocess` of a model",
        home="`models.<name>.preprocess`",
        example="{mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5]}",
    )

    mean: tuple[Share, Share, Share] | None = Field(
        default=None, strict=False, description="Subtracted from red, green and blue, in 0..1."
    )
    std: tuple[Positive, Positive, Positive] | None = Field(
        default=None, strict=False, description="Divides red, green and blue afterwards, in 0..1."
    )
    interpolation: Literal["nearest", "bilinear", "bicubic", "box", "hamming", "lanczos"] | None = Field(
        default=None, description="Of the resize."
    )
    crop_pct: float | None = Field(
        default=None, gt=0, le=1, description="Share of the resized image's edge that the crop keeps."
    )
    crop_mode: Literal["center", "squash", "border"] | None = Field(
        default=None,
        description="`center`: resize the shorter side and keep the middle; `squash`: both sides; `border`: resize the "
        "longer side and fill the border.",
    )
