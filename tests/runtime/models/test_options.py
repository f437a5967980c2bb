"""Options that do not go together: the error names those without which the model can be built or takes its images."""

from typing import Any

import pytest

from studies import flow
from studies import study as text_of
from vitdsl.dsl.diagnostics import Diagnostic, StudyError
from vitdsl.dsl.load import load_text
from vitdsl.dsl.study import Model
from vitdsl.runtime.models.loading import skeleton
from vitdsl.runtime.models.options import clashing
from vitdsl.runtime.plan.bind import bind

VIT = "vit_tiny_patch16_224"


@pytest.mark.parametrize(
    ("arch", "options", "named", "timm"),
    [
        (VIT, {"embed_dim": 25, "num_heads": 3}, "embed_dim: 25", "dim should be divisible by num_heads"),
        (VIT, {"num_heads": 5, "num_classes": 10}, "num_heads: 5", "dim should be divisible by num_heads"),
        (VIT, {"class_token": False, "global_pool": "token"}, "class_token: false", "needs the class token"),
        ("resnet18", {"num_classes": 3, "output_stride": 7}, "output_stride: 7", ""),
        ("convnext_tiny", {"depths": [1, 2]}, "depths: [1, 2]", ""),
    ],
)
def test_the_option_that_clashes_is_named(arch: str, options: dict[str, Any], named: str, timm: str) -> None:
    with pytest.raises(StudyError) as caught:
        skeleton(Model(arch=arch, options=options, weights="random"))
    (one,) = caught.value.diagnostics
    assert one.code == "VD231" and one.message == f"`{arch}` cannot be built with `{named}`"
    assert one.help == ("without it, it can be built",) and one.about[0][:2] == (
        "options",
        named.partition(":")[0],
    )
    assert timm in " ".join(one.notes) if timm else one.notes == ()


def bound(options: dict[str, Any]) -> Diagnostic:
    models = flow({"vit": {"arch": VIT, "options": options, "weights": "random"}})
    data = "{probe: {source: digits, split: test}}"
    text = text_of("s", data=data, models=models, metrics="{right: {kind: accuracy, of: vit}}")
    with pytest.raises(StudyError) as caught:
        bind(load_text(text))
    (one,) = caught.value.diagnostics
    return one


def test_images_that_do_not_go_with_the_patches() -> None:
    found = bound({"num_classes": 10, "img_size": 30, "dynamic_img_size": True})
    assert found.code == "VD233"
    assert found.message == f"`{VIT}` does not take its images with `img_size: 30, dynamic_img_size: true`"
    assert (
        found.help == ("without any one of these, it does",) and "divisible by patch size" in found.notes[0]
    )
    found = bound({"num_classes": 10, "patch_size": 300})
    assert found.message == f"`{VIT}` does not take its images with `patch_size: 300`"


def test_none_is_named_where_no_one_is_the_reason() -> None:
    def works(model: Model) -> None:
        if {"depth", "drop_rate"} & set(model.options):
            raise ValueError

    model = Model(arch=VIT, options={"depth": 1, "drop_rate": 2, "num_classes": 3}, weights="random")
    assert clashing(model, works) == []
    assert clashing(model.model_copy(update={"options": {"depth": 1, "num_classes": 3}}), works) == ["depth"]
