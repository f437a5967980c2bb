"""Passes: each after those that it needs, one for each stream and way of walking, fits once for all that need them."""

from typing import Any

import pytest

from vitdsl.dsl.diagnostics import StudyError
from vitdsl.dsl.load import load_text
from vitdsl.runtime.plan.bind import bind

STUDY = """
vitdsl: 1
study: passes
data:
  probe: {source: digits, split: test, images: 16, batch: 8}
  train: {source: digits, split: train, images: 16, batch: 8}
models:
  vit: {arch: vit_tiny_patch16_224, weights: random,
        options: {img_size: 32, patch_size: 8, embed_dim: 24, num_heads: 3, depth: 2, num_classes: 10}}
layers: {blocks: {of: vit, at: "blocks.*"}}
ablations:
ABLATIONS
metrics:
  accuracy: {kind: accuracy, of: vit, data: probe}
  drift: {kind: cka, x: blocks, against: baseline, data: probe}
METRICS
"""
NO_SKIP = '  no_skip: {kind: remove_skip, of: vit, at: "blocks.*.attn", each: true}'
HERE = '  here: {kind: mean_ablate, of: vit, at: "blocks.*.attn", each: true}'
THERE = '  there: {kind: mean_ablate, of: vit, at: "blocks.*.mlp", over: train, role: ROLE}'


def passes(ablations: str = NO_SKIP, metrics: str = "") -> list[tuple[str, list[str]]]:
    plan = bind(load_text(STUDY.replace("ABLATIONS", ablations).replace("METRICS", metrics)))
    return [(one.title, [group.path for group in one.groups]) for one in plan.passes]


def test_one_stream_is_one_pass() -> None:
    assert passes() == [("probe", ["accuracy/vit", "drift/vit"])]


def test_gradients_have_a_pass_of_their_own() -> None:
    found = passes(metrics="  field: {kind: receptive_field, x: blocks, under: baseline, data: probe}")
    assert found == [("probe", ["accuracy/vit", "drift/vit"]), ("probe, gradients", ["field/vit"])]


def test_a_fit_comes_before_what_needs_it_and_is_made_once_for_all_places() -> None:
    plan = bind(load_text(STUDY.replace("ABLATIONS", HERE).replace("METRICS", "")))
    fits, results = plan.passes
    assert (fits.title, results.title) == ("probe, fits", "probe")
    (group,) = fits.groups
    assert [site.name for site in group.x.sites] == ["blocks.0.attn", "blocks.1.attn"]
    assert [view.id for view in group.views] == ["baseline"]


def test_fits_of_other_images_roles_and_models_are_fits_of_their_own() -> None:
    found = passes(f"{HERE}\n{THERE.replace('ROLE', 'stream')}")
    assert found == [
        ("probe, fits", ["mean_of_images/vit/branch@probe"]),
        ("train, fits", ["mean_of_images/vit/stream@train"]),
        ("probe", ["accuracy/vit", "drift/vit"]),
    ]


def test_a_condition_that_no_metric_looks_at_needs_no_fit() -> None:
    text = STUDY.replace("ABLATIONS", f"{HERE}\n{NO_SKIP}").replace("METRICS", "")
    text = text.replace("of: vit, data: probe}", "of: vit, data: probe, under: no_skip}")
    text = text.replace("against: baseline, data: probe}", "against: baseline, data: probe, under: baseline}")
    assert [one.title for one in bind(load_text(text)).passes] == ["probe"]


def test_a_stream_that_only_a_fit_reads_is_seen_by_its_model() -> None:
    plan = bind(load_text(STUDY.replace("ABLATIONS", THERE.replace("ROLE", "branch")).replace("METRICS", "")))
    assert plan.models_on("train") == ["vit"] and plan.groups_on("train") == []


@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        (THERE.replace("train", "trian").replace("ROLE", "stream"), "VD201", "did you mean `train`"),
        (NO_SKIP.replace("each: true", "role: stream"), "VD221", "acts on `skip`, not on `stream`"),
        (HERE.replace("each: true", "tokens: [40]"), "VD242", "it has 17 tokens"),
        (HERE.replace("attn", "mpl"), "VD210", "nearest"),
        (
            HERE.replace('at: "blocks.*.attn", each: true', 'mean: all, role: output, at: "head"'),
            "VD302",
            "mean: position",
        ),
    ],
)
def test_wrong_ablations_are_told_at_their_place(line: str, code: str, words: str) -> None:
    with pytest.raises(StudyError) as raised:
        passes(line)
    (problem,) = raised.value.diagnostics
    assert problem.code == code and problem.span is not None
    said: Any = " ".join((problem.message, *problem.help))
    assert words in said
