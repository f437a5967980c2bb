"""What a model entry says of its weights: a word, a file, or a repository of the hub; and how these are told apart.

Does not own what a file holds and how it is read (the runtime), or the entry around them (`entries`).
"""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Discriminator, Field, Tag

from vitdsl.dsl.entry import Entry
from vitdsl.dsl.words import Words


class WeightsFile(Entry):
    """Weights from a local checkpoint."""

    in_words: ClassVar[Words] = Words("weights from a file")

    file: str = Field(
        description="Path of a .safetensors, .pth, .pt, .bin, .ckpt or .tar file, of an index of shards, or of a "
        "folder with one of them, relative to the study."
    )
    key: str | None = Field(
        default=None,
        description="Where in the file the weights are, such as `state_dict_ema` or `model.teacher`; null: where the "
        "model's names stand, the averaged or teacher's ones where several do.",
    )
    adapter: str | None = Field(
        default=None,
        description="Path of a low-rank adapter (LoRA) as `peft` saves it, a folder or its file, merged into the "
        "weights.",
    )
    head: Literal["own", "fresh"] = Field(
        default="own",
        description="`own`: the file's classifier, which must fit; `fresh`: a new one, drawn at random.",
    )


class WeightsHub(Entry):
    """Weights from a repository of the Hugging Face hub."""

    in_words: ClassVar[Words] = Words("weights from the hub")

    hub: str = Field(description="Repository id, such as `timm/vit_base_patch16_224.augreg_in21k`.")
    adapter: str | None = Field(
        default=None,
        description="Path of a low-rank adapter (LoRA) as `peft` saves it, a folder or its file, merged into the "
        "weights.",
    )


def _weights_form(value: Any) -> str:
    if isinstance(value, (WeightsFile, WeightsHub)):
        return "weights.file" if isinstance(value, WeightsFile) else "weights.hub"
    if isinstance(value, dict):
        return "weights.hub" if "hub" in value and "file" not in value else "weights.file"
    return "weights.name"


Weights = Annotated[
    Annotated[Literal["pretrained", "random"], Tag("weights.name")]
    | Annotated[WeightsFile, Tag("weights.file")]
    | Annotated[WeightsHub, Tag("weights.hub")],
    Discriminator(_weights_form),
]
