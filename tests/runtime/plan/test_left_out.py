"""What a metric leaves out of a model is said, with its share; answers of a model without a head are refused."""

import pytest

from studies import bound, study
from vitdsl.dsl.diagnostics import StudyError
from vitdsl.runtime.plan.plan import Plan

DATA = {"probe": "{source: digits, split: test, images: 8, batch: 4}"}


def asked(arch: str, kind: str, options: dict[str, object] | None = None, **fields: str) -> Plan:
    model = {"arch": arch, "weights": "random", "options": options or {}}
    return bound(
        study("asked", data=DATA, models={"net": model}, metrics={"m": {"kind": kind, "of": "net", **fields}})
    )


def refusal(arch: str, kind: str, options: dict[str, object] | None = None, **fields: str) -> str:
    with pytest.raises(StudyError) as caught:
        asked(arch, kind, options, **fields)
    return str(caught.value)


def test_attention_inside_a_module_that_is_one_node_is_counted() -> None:
    """ConViT has 10 blocks with gated positional attention, which timm keeps whole, and 2 others."""
    hidden = "10 inside `GPSA` (such as `blocks.0.attn`), which is traced as one piece"
    (said,) = asked("convit_tiny", "attention_distance").notes
    assert said == f"metric `m` reads 2 of 12 attention modules of `net`; the others: {hidden}"
    assert asked("convit_tiny", "attention_distance", at='"blocks.10.**"').notes == ()
    assert not asked("test_vit", "attention_distance").notes


def test_sites_that_are_refused_are_grouped_by_their_reason() -> None:
    options: dict[str, object] = {"img_size": 56, "depths": [2, 2], "embed_dim": 12, "num_heads": [2, 4]}
    (said,) = asked("swin_tiny_patch4_window7_224", "attention_distance", options).notes
    assert (
        "reads 2 of 4 attention modules of `net`; the others: `layers.0.blocks.0.attn` and 1 more: " in said
    )
    assert "windows" in said


def test_where_all_is_refused_there_is_nothing_to_narrow() -> None:
    said = refusal("cait_xxs24_224", "attention_distance", {"img_size": 64, "depth": 2})
    assert "talking heads" in said and "narrow" not in said
    options: dict[str, object] = {"img_size": 56, "depths": [2, 2], "embed_dim": 12, "num_heads": [2, 4]}
    rollout = refusal("swin_tiny_patch4_window7_224", "attention_rollout", options)
    assert "narrow `at:`, such as to `layers.1.blocks.0.attn`" in rollout


@pytest.mark.parametrize("kind", ["accuracy", "answers", "prediction_flips"])
def test_a_model_without_a_head_has_no_answers(kind: str) -> None:
    said = refusal("test_vit", kind, {"num_classes": 0})
    assert "VD302" in said and "gives features" in said and "num_classes: 0" in said
    asked("test_vit", "skip_ratio", {"num_classes": 0})
