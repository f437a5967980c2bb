"""What a data entry says of changes to its images: their kind and strength.

Does not own what a change does to pixels (the runtime), or the entry around it (`entries`).
"""

from typing import ClassVar, Literal

from pydantic import Field

from vitdsl.dsl.entry import Entry
from vitdsl.dsl.words import Words


class Transform(Entry):
    """A change of every image of a data entry."""

    in_words: ClassVar[Words] = Words(
        "`transform`", home="`data.<name>.transform`", example="{kind: blur, strength: 0.02}"
    )

    kind: Literal["blur", "noise", "occlusion", "crop", "colour", "jpeg"] = Field(
        description="What changes. Strength is a share of: the side (`blur`), the range (`noise`), the area "
        "(`occlusion`, `crop`); of the strongest (`colour`, `jpeg`)."
    )
    strength: float = Field(ge=0, le=1, description="How much; 0 leaves images as they are.")
