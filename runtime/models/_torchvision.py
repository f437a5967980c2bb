"""The names of torchvision's models, where they are not timm's: ViT, Swin, ConvNeXt, EfficientNet (1 and 2) and RegNet.

Its ResNets have timm's names and need no table.
"""

from vitdsl.runtime.models.naming import Naming, Rule, thirds

_VIT_BLOCK = "encoder.layers.encoder_layer_*."
_VIT = {
    "class_token": "cls_token",
    "conv_proj": "patch_embed.proj",
    "encoder.pos_embedding": "pos_embed",
    "encoder.ln": "norm",
    _VIT_BLOCK + "ln_1": "blocks.{0}.norm1",
    _VIT_BLOCK + "ln_2": "blocks.{0}.norm2",
    _VIT_BLOCK + "self_attention.in_proj_weight": "blocks.{0}.attn.qkv.weight",
    _VIT_BLOCK + "self_attention.in_proj_bias": "blocks.{0}.attn.qkv.bias",
    _VIT_BLOCK + "self_attention.out_proj": "blocks.{0}.attn.proj",
    _VIT_BLOCK + "mlp.0": "blocks.{0}.mlp.fc1",
    _VIT_BLOCK + "mlp.3": "blocks.{0}.mlp.fc2",
    _VIT_BLOCK + "mlp.linear_1": "blocks.{0}.mlp.fc1",
    _VIT_BLOCK + "mlp.linear_2": "blocks.{0}.mlp.fc2",
}

_SWIN = {
    "features.0.0": "patch_embed.proj",
    "features.0.2": "patch_embed.norm",
    "norm": "norm",
    "features.*.norm": "layers.{0/2}.downsample.norm",
    "features.*.reduction": "layers.{0/2}.downsample.reduction",
    **{
        f"features.*.*.{theirs}": f"layers.{{0-1/2}}.blocks.{{1}}.{ours}"
        for theirs, ours in {
            "norm1": "norm1",
            "norm2": "norm2",
            "attn.qkv": "attn.qkv",
            "attn.proj": "attn.proj",
            "attn.relative_position_bias_table": "attn.relative_position_bias_table",
            "attn.logit_scale": "attn.logit_scale",
            "attn.cpb_mlp.0": "attn.cpb_mlp.0",
            "attn.cpb_mlp.2": "attn.cpb_mlp.2",
            "mlp.0": "mlp.fc1",
            "mlp.3": "mlp.fc2",
        }.items()
    },
}

_SWIN_BIASES = [  # of version 2: keys have none
    Rule(
        "features.*.*.attn.qkv.bias",
        f"layers.{{0-1/2}}.blocks.{{1}}.attn.{ours}",
        change=thirds(first, first + 1),
    )
    for ours, first in (("q_bias", 0), ("v_bias", 2))
]

_CONVNEXT = {
    "features.0.0": "stem.0",
    "features.0.1": "stem.1",
    "classifier.0": "head.norm",
    "features.*.*": "stages.{0/2}.downsample.{1}",
    **{
        f"features.*.*.{theirs}": f"stages.{{0-1/2}}.blocks.{{1}}.{ours}"
        for theirs, ours in {
            "block.0": "conv_dw",
            "block.2": "norm",
            "block.3": "mlp.fc1",
            "block.5": "mlp.fc2",
            "layer_scale": "gamma",
        }.items()
    },
}

_EFFICIENTNET = {
    "features.0.0": "conv_stem",
    "features.0.1": "bn1",
    "features.8.0": "conv_head",
    "features.8.1": "bn2",
    **{
        f"features.*.*.block.{theirs}": f"blocks.{{0-1}}.{{1}}.{ours}"
        for theirs, ours in {
            "0.0": "conv_pw",
            "0.1": "bn1",
            "1.0": "conv_dw",
            "1.1": "bn2",
            "2.fc1": "se.conv_reduce",
            "2.fc2": "se.conv_expand",
            "3.0": "conv_pwl",
            "3.1": "bn3",
        }.items()
    },
    **{
        f"features.1.*.block.{theirs}": f"blocks.0.{{0}}.{ours}"  # the first stage does not widen
        for theirs, ours in {
            "0.0": "conv_dw",
            "0.1": "bn1",
            "1.fc1": "se.conv_reduce",
            "1.fc2": "se.conv_expand",
            "2.0": "conv_pw",
            "2.1": "bn2",
        }.items()
    },
}

_FUSED = [  # of EfficientNetV2: one convolution where others have two
    *(
        Rule(
            f"features.*.*.block.{theirs}",
            f"blocks.{{0-1}}.{{1}}.{ours}",
            beside="blocks.{0-1}.{1}.conv_exp.weight",
        )
        for theirs, ours in {"0.0": "conv_exp", "0.1": "bn1", "1.0": "conv_pwl", "1.1": "bn2"}.items()
    ),
    *(
        Rule(f"features.1.*.block.{theirs}", f"blocks.0.{{0}}.{ours}", beside="blocks.0.{0}.conv.weight")
        for theirs, ours in {"0.0": "conv", "0.1": "bn1"}.items()
    ),
    Rule("features.7.0", "conv_head", beside="blocks.5.0.conv_pw.weight"),
    Rule("features.7.1", "bn2", beside="blocks.5.0.conv_pw.weight"),
]

_REGNET = {
    "stem.0": "stem.conv",
    "stem.1": "stem.bn",
    **{
        f"trunk_output.block*.block*-*.{theirs}": f"s{{0}}.b{{2+1}}.{ours}"
        for theirs, ours in {
            "proj.0": "downsample.conv",
            "proj.1": "downsample.bn",
            "f.a.0": "conv1.conv",
            "f.a.1": "conv1.bn",
            "f.b.0": "conv2.conv",
            "f.b.1": "conv2.bn",
            "f.c.0": "conv3.conv",
            "f.c.1": "conv3.bn",
            "f.se.fc1": "se.fc1",
            "f.se.fc2": "se.fc2",
        }.items()
    },
}

TORCHVISION = Naming(
    "torchvision",
    rules=[
        *(
            Rule(theirs, ours)
            for table in (_VIT, _SWIN, _CONVNEXT, _EFFICIENTNET, _REGNET)
            for theirs, ours in table.items()
        ),
        *_SWIN_BIASES,
        *_FUSED,
    ],
    heads=[
        Rule("heads.head", "head"),
        Rule("head", "head.fc"),
        Rule("classifier.2", "head.fc"),
        Rule("classifier.1", "classifier"),
        Rule("fc", "head.fc"),
    ],
    ignored=["features.*.*.attn.relative_position_index", "features.*.*.attn.relative_coords_table"],
)
