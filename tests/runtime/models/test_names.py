"""Names of architectures of other libraries: the first suggestion is the one that is meant."""

import pytest
import timm

from vitdsl.dsl.diagnostics import StudyError
from vitdsl.dsl.study import Model
from vitdsl.runtime.models.architectures import check
from vitdsl.runtime.models.names import alike

KNOWN = [*timm.list_models(), *timm.list_models(pretrained=True)]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("vit_b_16", "vit_base_patch16_224"),
        ("vit_l_32", "vit_large_patch32_224"),
        ("ViT-B/32", "vit_base_patch32_224"),
        ("dinov2_vits14", "vit_small_patch14_dinov2"),
        ("dinov2_vitb14", "vit_base_patch14_dinov2"),
        ("facebook/dino-vits16", "vit_small_patch16_224.dino"),
        ("google/vit-base-patch16-224", "vit_base_patch16_224"),
        ("facebook/dinov2-small", "vit_small_patch14_dinov2"),
        ("microsoft/swin-tiny-patch4-window7-224", "swin_tiny_patch4_window7_224"),
        ("microsoft/resnet-50", "resnet50"),
        ("facebook/convnext-tiny-224", "convnext_tiny"),
        ("facebook/deit-base-patch16-224", "deit_base_patch16_224"),
        ("openai/clip-vit-base-patch32", "vit_base_patch32_clip_224"),
        ("efficientnet_v2_s", "efficientnetv2_s"),
        ("mobilenet_v3_large", "mobilenetv3_large_100"),
        ("densenet_121", "densenet121"),
        ("timm/resnet18.a1_in1k", "resnet18.a1_in1k"),
    ],
)
def test_names_of_other_libraries(name: str, meant: str) -> None:
    assert alike(name, KNOWN)[0].removesuffix(".openai") == meant
    with pytest.raises(StudyError) as caught:
        check(Model(arch=name, weights="random"))
    assert caught.value.diagnostics[0].help[0].startswith("did you mean `")


@pytest.mark.parametrize("name", ["my_own_network", "", "///", "net_of_mine_17"])
def test_nothing_is_suggested_where_a_part_is_nowhere(name: str) -> None:
    assert alike(name, KNOWN) == []


def test_every_name_of_timms_is_its_own_best() -> None:
    for name in timm.list_models()[::40]:
        assert alike(name, KNOWN)[0] == name
