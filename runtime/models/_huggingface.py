"""The names of Hugging Face `transformers`, as its files have them and as its modules of version 5 do.

Covers ViT, DeiT, BEiT, DINOv2 (with registers, with a gated MLP), DINOv3, the vision towers of CLIP and SigLIP,
ConvNeXt (1 and 2), Swin (1 and 2) and ResNet. What one table says of several families is taken where timm's model has
it.
"""

from collections.abc import Mapping

from torch import Tensor

from vitdsl.runtime.models.naming import Naming, Rule, thirds


def _qkv(source: str, target: str, names: tuple[str, str, str]) -> list[Rule]:
    """Three projections of an attention that timm has in one; where it has biases apart, these."""
    query, _, value = names
    return [
        *(Rule(f"{source}.{name}", f"{target}.qkv", (place, 3)) for place, name in enumerate(names)),
        Rule(f"{source}.{query}.bias", f"{target}.q_bias"),
        Rule(f"{source}.{value}.bias", f"{target}.v_bias"),
    ]


def _block(source: str, target: str) -> list[Rule]:
    """A transformer block."""
    parts = {
        "layernorm_before": "norm1",
        "layernorm_after": "norm2",
        "layer_norm1": "norm1",
        "layer_norm2": "norm2",
        "norm1": "norm1",
        "norm2": "norm2",
        "attention.output.dense": "attn.proj",
        "attention.o_proj": "attn.proj",
        "self_attn.out_proj": "attn.proj",
        "intermediate.dense": "mlp.fc1",
        "output.dense": "mlp.fc2",
        "mlp.fc1": "mlp.fc1",
        "mlp.fc2": "mlp.fc2",
        "mlp.weights_in": "mlp.fc1",
        "mlp.weights_out": "mlp.fc2",
        "mlp.down_proj": "mlp.fc2",
        "lambda_1": "gamma_1",
        "lambda_2": "gamma_2",
        "layer_scale1.lambda1": "ls1.gamma",
        "layer_scale2.lambda1": "ls2.gamma",
    }
    tables = (
        "attention.attention",
        "attention.self",
        "attention",
        "attention.attention.relative_position_bias",
        "attention.relative_position_bias",
        "relative_position_bias",
    )
    return [
        *(Rule(f"{source}.{theirs}", f"{target}.{ours}") for theirs, ours in parts.items()),
        *_qkv(f"{source}.attention.attention", f"{target}.attn", ("query", "key", "value")),
        *_qkv(f"{source}.attention.self", f"{target}.attn", ("query", "key", "value")),
        *_qkv(f"{source}.attention", f"{target}.attn", ("q_proj", "k_proj", "v_proj")),
        *_qkv(f"{source}.self_attn", f"{target}.attn", ("q_proj", "k_proj", "v_proj")),
        *(
            Rule(
                f"{source}.{table}.relative_position_bias_table",
                f"{target}.attn.relative_position_bias_table",
            )
            for table in tables
        ),
        Rule(f"{source}.attention.self.logit_scale", f"{target}.attn.logit_scale"),
        *(
            Rule(
                f"{source}.attention.self.continuous_position_bias_mlp.{part}",
                f"{target}.attn.cpb_mlp.{part}",
            )
            for part in (0, 2)
        ),
        Rule(f"{source}.layer_scale1.lambda1", f"{target}.gamma_1"),
        Rule(f"{source}.layer_scale2.lambda1", f"{target}.gamma_2"),
        Rule(f"{source}.mlp.up_proj", f"{target}.mlp.fc1_x"),
        Rule(f"{source}.mlp.gate_proj", f"{target}.mlp.fc1_g"),
    ]


_GATED = [
    Rule("encoder.layer.*.mlp.gate_proj", "blocks.{0}.mlp.fc1", (0, 2)),
    Rule("encoder.layer.*.mlp.up_proj", "blocks.{0}.mlp.fc1", (1, 2)),
]
"""DINOv2 in version 5: the halves of what timm has in one."""

_AROUND = {
    "embeddings.cls_token": "cls_token",
    "embeddings.class_embedding": "cls_token",
    "embeddings.distillation_token": "dist_token",
    "embeddings.register_tokens": "reg_token",
    "embeddings.position_embeddings": "pos_embed",
    "embeddings.position_embedding.weight": "pos_embed",
    "embeddings.patch_embeddings.projection": "patch_embed.proj",
    "embeddings.patch_embeddings": "patch_embed.proj",
    "embeddings.patch_embedding": "patch_embed.proj",
    "embeddings.norm": "patch_embed.norm",
    "pre_layrnorm": "norm_pre",
    "post_layernorm": "norm",
    "layernorm": "norm",
    "norm": "norm",
    "pooler.layernorm": "fc_norm",
    "encoder.relative_position_bias.relative_position_bias_table": "rel_pos_bias.relative_position_bias_table",
    "shared_position_bias.relative_position_bias_table": "rel_pos_bias.relative_position_bias_table",
}

_ATTENTION_POOL = [
    Rule("head.probe", "attn_pool.latent"),
    Rule("head.attention.out_proj", "attn_pool.proj"),
    Rule("head.layernorm", "attn_pool.norm"),
    Rule("head.mlp.fc1", "attn_pool.mlp.fc1"),
    Rule("head.mlp.fc2", "attn_pool.mlp.fc2"),
    *(
        Rule(f"head.attention.in_proj_{leaf}", f"attn_pool.{ours}.{leaf}", change=thirds(*rows))
        for leaf in ("weight", "bias")
        for ours, rows in (("q", (0, 1)), ("kv", (1, 3)))
    ),
]
"""SigLIP's."""

_CONVNEXT_BLOCK = "encoder.stages.*.layers.*."
_CONVNEXT = {
    "embeddings.patch_embeddings": "stem.0",
    "embeddings.layernorm": "stem.1",
    "layernorm": "head.norm",
    "encoder.stages.*.downsampling_layer.*": "stages.{0}.downsample.{1}",
    _CONVNEXT_BLOCK + "layer_scale_parameter": "stages.{0}.blocks.{1}.gamma",
    _CONVNEXT_BLOCK + "dwconv": "stages.{0}.blocks.{1}.conv_dw",
    _CONVNEXT_BLOCK + "layernorm": "stages.{0}.blocks.{1}.norm",
    _CONVNEXT_BLOCK + "pwconv1": "stages.{0}.blocks.{1}.mlp.fc1",
    _CONVNEXT_BLOCK + "pwconv2": "stages.{0}.blocks.{1}.mlp.fc2",
    _CONVNEXT_BLOCK + "grn": "stages.{0}.blocks.{1}.mlp.grn",
}

_RESNET_BLOCK = "encoder.stages.*.layers.*."
_RESNET = {
    "embedder.embedder.convolution": "conv1",
    "embedder.embedder.normalization": "bn1",
    _RESNET_BLOCK + "layer.*.convolution": "layer{0+1}.{1}.conv{2+1}",
    _RESNET_BLOCK + "layer.*.normalization": "layer{0+1}.{1}.bn{2+1}",
    _RESNET_BLOCK + "shortcut.convolution": "layer{0+1}.{1}.downsample.0",
    _RESNET_BLOCK + "shortcut.normalization": "layer{0+1}.{1}.downsample.1",
}

_SWIN_MERGING = [
    Rule(f"encoder.layers.*.downsample.{part}", "layers.{0+1}.downsample." + part)
    for part in ("norm", "reduction")
]


def _add_class_position(found: dict[str, Tensor], own: Mapping[str, Tensor]) -> None:
    """DINOv2 with registers: timm's class token carries its position, and the grid of positions has none for it."""
    if "reg_token" in found and "pos_embed" in found and "cls_token" in found:
        positions = found["pos_embed"]
        found["cls_token"] = found["cls_token"] + positions[:, :1]
        found["pos_embed"] = positions[:, 1:]


TRANSFORMERS = Naming(
    "transformers",
    rules=[
        *(Rule(theirs, ours) for theirs, ours in _AROUND.items()),
        *_block("encoder.layer.*", "blocks.{0}"),
        *_block("encoder.layers.*", "blocks.{0}"),
        *_block("layers.*", "blocks.{0}"),
        *_block("layer.*", "blocks.{0}"),
        *_block("model.layer.*", "blocks.{0}"),
        *(Rule(f"{above}layer.*.mlp.up_proj", "blocks.{0}.mlp.fc1") for above in ("", "model.")),
        *_GATED,
        *_ATTENTION_POOL,
        *_block("encoder.layers.*.blocks.*", "layers.{0}.blocks.{1}"),
        *_SWIN_MERGING,
        *(Rule(theirs, ours) for theirs, ours in {**_CONVNEXT, **_RESNET}.items()),
    ],
    heads=[
        *(
            Rule(theirs, ours)
            for theirs in ("classifier", "cls_classifier", "classifier.1", "visual_projection")
            for ours in ("head", "head.fc", "fc")
        ),
        Rule("distillation_classifier", "head_dist"),
    ],
    ignored=[
        "pooler.dense",
        "embeddings.mask_token",
        "embeddings.position_ids",
        "encoder.layer.*.attention.attention.relative_position_bias.relative_position_index",
        "encoder.layers.*.blocks.*.attention.self.relative_position_index",
        "encoder.layers.*.blocks.*.attention.self.relative_coords_table",
    ],
    finish=_add_class_position,
)
