"""Residual units of model families.

Expected numbers are written as timm's own sources make them, not as the program finds them.
"""

import pytest

from vitdsl.dsl.study import Model
from vitdsl.runtime.graph.sites import Sites, sites_of
from vitdsl.runtime.graph.trace import fusable
from vitdsl.runtime.models.loading import skeleton
from vitdsl.runtime.models.preprocessing import preprocessing


def found(arch: str, unfuse: frozenset[str] | None = None, **options: object) -> Sites:
    model = Model(arch=arch, options=options, weights="random")
    module = skeleton(model)
    return sites_of(module, preprocessing(module, model).input_size, unfuse=unfuse)


def kinds(sites: Sites) -> dict[str, int]:
    counts: dict[str, int] = {}
    for unit in sites.units.values():
        counts[unit.branch_kind] = counts.get(unit.branch_kind, 0) + 1
    return counts


TRANSFORMERS = {
    # every block adds attention, then an MLP: depth x 2
    "vit_tiny_patch16_224": 12,
    "deit_tiny_distilled_patch16_224": 12,
    "deit3_small_patch16_224": 12,
    "vit_small_patch14_dinov2": 12,
    "vit_small_patch14_reg4_dinov2": 12,
    "vit_base_patch16_clip_224": 12,
    "vit_small_patch16_dinov3": 12,
    "beit_base_patch16_224": 12,
    "eva02_tiny_patch14_224": 12,
    "aimv2_large_patch14_224": 24,
    "vit_relpos_small_patch16_224": 12,
    "naflexvit_base_patch16_gap": 12,
    "samvit_base_patch16_224": 12,
}


@pytest.mark.parametrize(("arch", "depth"), TRANSFORMERS.items())
def test_plain_transformers_have_two_units_in_each_block(arch: str, depth: int) -> None:
    sites = found(arch)
    assert list(sites.units) == [f"blocks.{i}.{part}" for i in range(depth) for part in ("attn", "mlp")]
    assert kinds(sites) == {"attention": depth, "mlp": depth}
    assert not any(unit.projected for unit in sites.units.values())
    if arch != "samvit_base_patch16_224":  # folds heads into the batch: its weights have no head axis
        attention = [f"blocks.{i}.attn" for i in range(depth)]
        assert sites.names("attention") == sites.names("heads") == attention


SWIN = (2, 2, 6, 2)
RESNET50, RESNET18 = (3, 4, 6, 3), (2, 2, 2, 2)
CONVNEXT = (3, 3, 9, 3)
# blocks of MobileNet-like stages that keep width and resolution: all but the first of each stage,
# and that one too where it has stride 1 and keeps its width
EFFICIENTNET_B0 = (1 - 1) + (2 - 1) + (2 - 1) + (3 - 1) + (3 - 1) + (4 - 1) + (1 - 1)
MOBILENETV3_SMALL = (1 - 1) + (1 - 1 + 2 - 1) + (1 - 1 + 2) + (2 - 1) + (3 - 1)
MAXVIT = (2, 2, 5, 2)
# arch: number of units, first, last, kinds, number of projected skips
OTHERS: dict[str, tuple[int, str, str, dict[str, int], int]] = {
    "resnet18": (sum(RESNET18), "layer1.0", "layer4.1", {"conv": 8}, 3),  # layer1 keeps its width
    "resnet50": (sum(RESNET50), "layer1.0", "layer4.2", {"conv": 16}, 4),
    "resnetv2_50": (sum(RESNET50), "stages.0.blocks.0", "stages.3.blocks.2", {"conv": 16}, 4),
    "res2net50_26w_4s": (sum(RESNET50), "layer1.0", "layer4.2", {"conv": 16}, 4),
    "nf_resnet50": (sum(RESNET50), "stages.0.0", "stages.3.2", {"conv": 16}, 4),
    "resnest14d": (4, "layer1.0", "layer4.0", {"conv": 4}, 4),  # its softmax weighs radix groups, not tokens
    "skresnet18": (sum(RESNET18), "layer1.0", "layer4.1", {"conv": 8}, 3),
    "regnety_002": (1 + 1 + 4 + 7, "s1.b1", "s4.b7", {"conv": 13}, 4),
    "efficientnet_b0": (EFFICIENTNET_B0, "blocks.1.1", "blocks.5.3", {"conv": 9}, 0),
    "mobilenetv3_small_100": (MOBILENETV3_SMALL, "blocks.1.1", "blocks.4.2", {"conv": 6}, 0),
    "convnext_tiny": (sum(CONVNEXT), "stages.0.blocks.0", "stages.3.blocks.2", {"conv": 18}, 0),
    # global response norm adds its input inside a branch; that is no unit
    "convnextv2_atto": (2 + 2 + 6 + 2, "stages.0.blocks.0", "stages.3.blocks.1", {"conv": 12}, 0),
    "swin_tiny_patch4_window7_224": (
        sum(SWIN) * 2, "layers.0.blocks.0.attn", "layers.3.blocks.1.mlp", {"attention": 12, "mlp": 12}, 0
    ),
    "mixer_b16_224": (12 * 2, "blocks.0.mlp_tokens", "blocks.11.mlp_channels", {"mixer": 12, "mlp": 12}, 0),
    "resmlp_12_224": (
        12 * 2, "blocks.0.linear_tokens", "blocks.11.mlp_channels", {"mixer": 12, "mlp": 12}, 0
    ),
    "poolformer_s12": (
        12 * 2, "stages.0.blocks.0.token_mixer", "stages.3.blocks.1.mlp", {"other": 12, "mlp": 12}, 0
    ),
    # weights of norms that the norms are handed are those of its branches, for pooling has none; two stages scale skips
    "poolformerv2_s12": (
        12 * 2, "stages.0.blocks.0.token_mixer", "stages.3.blocks.1.mlp", {"other": 12, "mlp": 12}, 16
    ),
    # each block: a convolution, then attention and MLP in windows, then attention and MLP on a grid
    "maxvit_tiny_tf_224": (
        sum(MAXVIT) * 5, "stages.0.blocks.0.conv", "stages.3.blocks.1.attn_grid.mlp",
        {"conv": 11, "attention": 22, "mlp": 22}, 4,
    ),
    # each block: cross-covariance attention, local patch interaction, MLP; then two class-attention blocks
    "xcit_nano_12_p16_224": (
        12 * 3 + 2 * 2, "blocks.0.attn", "cls_attn_blocks.1.mlp", {"attention": 14, "conv": 12, "mlp": 14}, 0
    ),
    # two class-attention blocks, but the first adds to the class token itself, which no image has touched yet
    "cait_xxs24_224": (
        24 * 2 + 2 * 2 - 1, "blocks.0.attn", "blocks_token_only.1.mlp", {"attention": 25, "mlp": 26}, 0
    ),
    # the attention pooling head ends in a residual MLP of its own
    "vit_base_patch16_siglip_224": (
        12 * 2 + 1, "blocks.0.attn", "attn_pool", {"attention": 12, "mlp": 13}, 0
    ),
    "convit_tiny": (12 * 2, "blocks.0.attn", "blocks.11.mlp", {"attention": 12, "mlp": 12}, 0),
    # a ResNetV2 of 2 + 2 + 2 + 2 post-norm blocks before the transformer, the first of each stage projected
    "vit_small_r26_s32_224": (
        8 + 12 * 2, "patch_embed.backbone.stages.0.blocks.0", "blocks.11.mlp",
        {"conv": 8, "attention": 12, "mlp": 12}, 4,
    ),
    # one bottleneck, 1 x 2, 1 x 3 and 1 x 4 branches of two blocks, then one bottleneck for each output
    "hrnet_w18_small": (1 + 2 * (2 + 3 + 4) + 4, "layer1.0", "incre_modules.3.0", {"conv": 23}, 1 + 4),
    # each block: a mixer and a convolutional MLP; re-parametrised sums are no units
    "fastvit_t8": (
        (2 + 2 + 4 + 2) * 2, "stages.0.blocks.0.token_mixer", "stages.3.blocks.1", {"conv": 20}, 0
    ),
    # blocks of two depthwise, two feed-forward and one attention unit; four units around each downsampling
    "efficientvit_m0": (
        (1 + 2 + 3) * 5 + 2 * 4, "stages.0.blocks.0.dw0", "stages.2.blocks.2.ffn1",
        {"conv": 16, "mlp": 16, "attention": 6}, 0,
    ),
}  # fmt: skip


@pytest.mark.parametrize("arch", OTHERS)
def test_units_of_other_families(arch: str) -> None:
    number, first, last, expected, projected = OTHERS[arch]
    sites = found(arch)
    names = list(sites.units)
    assert (len(names), names[0], names[-1]) == (number, first, last)
    assert kinds(sites) == expected
    assert sum(unit.projected for unit in sites.units.values()) == projected
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("arch", ["repvgg_a0", "densenet121", "vgg11", "mobilenetv1_100", "mobileone_s0"])
def test_networks_without_residual_units_have_none(arch: str) -> None:
    sites = found(arch)
    assert not sites.units
    assert sites.names("branch") == sites.names("stream") == []
    assert sites.names("output")


@pytest.mark.parametrize(
    "arch",
    ["vit_tiny_patch16_224", "swin_tiny_patch4_window7_224", "beit_base_patch16_224", "maxvit_tiny_tf_224"],
)
def test_fusing_attention_changes_no_unit_and_no_heads(arch: str) -> None:
    open_, fused = found(arch), found(arch, unfuse=frozenset())
    assert list(open_.units) == list(fused.units)
    assert kinds(open_) == kinds(fused)
    assert open_.names("heads") == fused.names("heads")
    assert not set(fused.names("attention")) & set(fusable(open_.model))


@pytest.mark.parametrize("arch", ["vit_tiny_patch16_224", "resnet50", "convnext_tiny", "repvgg_a0"])
def test_depth_grows_along_the_model_from_0_to_1(arch: str) -> None:
    sites = found(arch)
    depths = [sites.depth(name, "output") for name in sites.names("output")]
    assert depths == sorted(depths)
    assert depths[0] >= 0
    assert depths[-1] == pytest.approx(1, abs=0.02)
    units = [unit.depth for unit in sites.units.values()]
    assert units == [(i + 1) / len(units) for i in range(len(units))]


def test_blocks_that_timm_marks_as_not_to_be_traced_show_their_units() -> None:
    sites = found("tiny_vit_5m_224")
    assert kinds(sites) == {"conv": 2, "attention": 2 + 6 + 2, "mlp": 2 + 6 + 2}
    sites = found("mobilevit_xxs")  # 2 + 4 + 3 transformer layers between three inverted bottlenecks
    assert kinds(sites) == {"conv": 3, "attention": 9, "mlp": 9}
    assert len(sites.names("attention")) == 9
