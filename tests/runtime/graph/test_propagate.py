"""Shapes and work of a graph, found without computing."""

import pytest

from vitdsl.dsl.diagnostics import StudyError
from vitdsl.dsl.study import Model
from vitdsl.runtime.graph.functional import functionalise
from vitdsl.runtime.graph.propagate import FLOPS, PROBE, VALUE, propagate, shape_of
from vitdsl.runtime.graph.trace import Traced, trace
from vitdsl.runtime.models.loading import skeleton


def annotated(arch: str, size: tuple[int, ...], **options: object) -> Traced:
    module = skeleton(Model(arch=arch, options=options, weights="random"))
    traced = trace(module, size)
    functionalise(traced.graph, dict(module.named_modules()))
    propagate(module, traced.graph, size)
    return traced


def test_shapes_of_one_image() -> None:
    traced = annotated("resnet18", (3, 64, 96))
    assert shape_of(traced.outputs["layer2.0"]) == (128, 8, 12)
    assert shape_of(traced.output) == (1000,)
    assert traced.output.meta[VALUE].shape[0] == PROBE
    assert all(node.meta[VALUE].is_meta for node in traced.outputs.values())


def test_windows_have_no_shape_of_one_image() -> None:
    traced = annotated("swin_tiny_patch4_window7_224", (3, 224, 224))
    assert shape_of(traced.outputs["layers.0.blocks.0.attn"]) is None
    assert shape_of(traced.outputs["layers.0.blocks.0"]) == (56, 56, 96)


def test_work_is_that_of_the_products_of_one_image() -> None:
    """Two operations for a multiplication and an addition, weights and both products of attention."""
    size, depth, width, tokens = 48, 2, 24, 10
    traced = annotated(
        "vit_tiny_patch16_224",
        (3, size, size),
        img_size=size,
        embed_dim=width,
        num_heads=3,
        depth=depth,
        num_classes=7,
    )
    patches = 2 * 9 * (3 * 16 * 16) * width
    block = 2 * tokens * width * width * (3 + 1 + 4 + 4) + 2 * 2 * tokens * tokens * width
    total = sum(node.meta[FLOPS] for node in traced.graph.nodes)
    assert total == pytest.approx(patches + depth * block + 2 * width * 7)


def test_images_of_another_size_are_refused_with_the_models_own_reason() -> None:
    with pytest.raises(StudyError) as raised:
        annotated("vit_tiny_patch16_224", (3, 96, 96))
    (problem,) = raised.value.diagnostics
    assert problem.code == "VD233"
    assert "96 x 96" in problem.message
    assert "img_size" in problem.help[0]
