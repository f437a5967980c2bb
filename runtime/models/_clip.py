"""The names of the image tower of OpenAI's CLIP and of `open_clip`, and what the latter puts above a tower of timm."""

from collections.abc import Mapping

import torch
from torch import Tensor

from vitdsl.runtime.models.naming import Naming, Rule

_BLOCK = "transformer.resblocks.*."


def _transposed(tensor: Tensor) -> Tensor:
    return tensor.t()


def _no_bias(found: dict[str, Tensor], own: Mapping[str, Tensor]) -> None:
    """The projection to the space that images share with texts has none; timm's classifier has."""
    if "head.weight" in found and "head.bias" in own:
        found["head.bias"] = torch.zeros(own["head.bias"].shape)


CLIP = Naming(
    "CLIP",
    rules=[
        Rule("class_embedding", "cls_token"),
        Rule("positional_embedding", "pos_embed"),
        Rule("conv1", "patch_embed.proj"),
        Rule("ln_pre", "norm_pre"),
        Rule("ln_post", "norm"),
        Rule("proj", "head.weight", change=_transposed),
        *(
            Rule(_BLOCK + theirs, "blocks.{0}." + ours)
            for theirs, ours in {
                "ln_1": "norm1",
                "ln_2": "norm2",
                "attn.in_proj_weight": "attn.qkv.weight",
                "attn.in_proj_bias": "attn.qkv.bias",
                "attn.out_proj": "attn.proj",
                "mlp.c_fc": "mlp.fc1",
                "mlp.c_proj": "mlp.fc2",
                "ls_1.gamma": "ls1.gamma",
                "ls_2.gamma": "ls2.gamma",
            }.items()
        ),
    ],
    finish=_no_bias,
)

TIMM = Naming("timm", rules=(), heads=[Rule("head.proj", "head"), Rule("head.proj", "head.fc")])
"""timm's own names; `open_clip` puts a projection beside a `trunk` that is timm's."""
