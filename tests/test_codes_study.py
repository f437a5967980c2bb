"""Studies that are wrong in what only binding can know: each gives the text beside it, at the exact place.

Run this file as a script to rewrite the texts.
"""

import os
from pathlib import Path

import pytest

from studies import TINY_RESNET, TINY_VIT, bound, changed, study
from vitdsl.commands._kinds import registries
from vitdsl.dsl.code import Code
from vitdsl.dsl.codes import CATALOGUE
from vitdsl.dsl.diagnostics import VitdslError
from vitdsl.dsl.load import load_source
from vitdsl.dsl.render import render
from vitdsl.runtime.plan.bind import bind

BOUND = Path(__file__).parent / "dsl" / "errors" / "bound"
CASES = sorted(path.stem for path in BOUND.glob("*.yaml"))


def diagnose(case: str) -> VitdslError:
    """The error of one bad study, checked from its own folder so that paths are short."""
    before = Path.cwd()
    os.chdir(BOUND)
    try:
        bind(load_source(f"{case}.yaml"))
    except VitdslError as error:
        return error
    finally:
        os.chdir(before)
    raise AssertionError(f"{case} is accepted")


def text(error: VitdslError) -> str:
    """All of it, free of this machine, of timm's version, and of which kinds there are."""
    import timm

    found = render(error.diagnostics, everything=True) + "\n"
    for section, registry in registries().items():
        found = found.replace(f"{section}: {', '.join(registry.kinds())}\n", f"{section}: ALL THERE ARE\n")
    return found.replace(str(BOUND), "HERE").replace(f"timm {timm.__version__}", "timm X.Y.Z")


@pytest.mark.parametrize("case", CASES)
def test_text_of_a_bad_study(case: str) -> None:
    error = diagnose(case)
    assert text(error) == (BOUND / f"{case}.txt").read_text()
    assert case.partition("_")[0] in {one.code for one in error.diagnostics}
    lines = (BOUND / f"{case}.yaml").read_text().splitlines()
    for one in error.diagnostics:
        assert one.code in CATALOGUE and one.span is not None
        assert one.message[-1] not in ".:" and one.help
        assert one.span.file == f"{case}.yaml" and one.span.line > 2
        assert lines[one.span.line - 1][one.span.column - 1] not in " ,:"


def test_a_study_that_this_machine_cannot_run_says_so() -> None:
    assert {case: diagnose(case).exit_code for case in CASES if case.startswith("VD401")} == {
        "VD401_checkpoints": 3,
        "VD401_folders": 3,
    }
    assert diagnose("VD404_classes").exit_code == 2


SWEPT = study(
    "swept",
    data={
        "probe": "{source: digits, split: test, images: 8, batch: 8}",
        "noise": "{source: noise, total: 8, size: 32, batch: 8}",
        "more": "{source: noise, total: 8, size: 32, batch: 8}",
    },
    models={"vit": changed(TINY_VIT, vary="{VARY}"), "res": TINY_RESNET},
)


@pytest.mark.parametrize(
    ("vary", "sections", "wanted"),
    [
        # what is wrong with every variant, once
        ("seed: [0, 1]", "layers: {l: {of: vit, at: bloks}}\nmetrics: {c: {kind: cka, x: l}}", ["VD210"]),
        (
            "options.depth: [1, 2]",
            "layers: {l: {of: vit, at: bloks}}\nmetrics: {c: {kind: cka, x: l}}",
            ["VD210"],
        ),
        ("options.dept: [1, 2]", "metrics: {a: {kind: accuracy, of: vit}}", ["VD231"]),
        ("seed: [0, 1], options.foo: [1]", "metrics: {a: {kind: accuracy, of: vit}}", ["VD231"]),
        (
            "seed: [0, 1, 2]",
            "metrics: {d: {kind: attention_distance, of: [res, vit], at: 'blocks.*'}}",
            ["VD302"],
        ),
        # values of an axis, each
        ("options.drop_rate: [x, true]", "metrics: {a: {kind: accuracy, of: vit}}", ["VD231"] * 2),
        ("options.num_heads: [5, 7]", "metrics: {a: {kind: accuracy, of: vit}}", ["VD231"] * 2),
        (
            "options.num_heads: [5, 7], options.embed_dim: [24, 26]",
            "metrics: {a: {kind: accuracy, of: vit}}",
            ["VD231"] * 4,
        ),
        (
            "options.num_classes: [7, 8]",
            "metrics: {a: {kind: accuracy, of: vit, data: probe}}",
            ["VD404"] * 2,
        ),
        # two models under one selector
        ("seed: [0, 1]", "metrics: {r: {kind: skip_ratio, of: [vit, res], at: 'x.*'}}", ["VD210"] * 2),
        # two metrics
        (
            "seed: [0, 1]",
            "metrics: {a: {kind: accuracy, of: vit, data: noise}, b: {kind: accuracy, of: vit, data: noise}}",
            ["VD241"] * 2,
        ),
        # two data entries
        (
            "seed: [0, 1]",
            "metrics: {a: {kind: accuracy, of: vit, data: noise}, b: {kind: accuracy, of: vit, data: more}}",
            ["VD241"] * 2,
        ),
    ],
)
def test_mistakes_are_shown_once_each(vary: str, sections: str, wanted: list[str]) -> None:
    data = "" if "data:" in sections else "data: probe, "
    text = SWEPT.replace("VARY", vary) + sections.replace("{kind:", f"{{{data}kind:") + "\n"
    with pytest.raises(VitdslError) as caught:
        bound(text)
    assert [one.code for one in caught.value.diagnostics] == wanted


BASE = """\
vitdsl: 1
study: base
data: {images: {source: digits, split: test}}
models: {some_model: {arch: vit_tiny_patch16_224, options: {num_classes: 10}, weights: random}}
layers: {some_layers: {of: some_model, at: "blocks.*"}}
metrics: {some_metric: {kind: accuracy, of: some_model, data: images}}
"""
PAGES = [one for one in CATALOGUE.values() if "VD2" < one.code < "VD4" and one.wrong and one.code != "VD232"]
"""Codes whose page shows a study; what a hub repository holds (VD232) only the network knows."""


@pytest.mark.parametrize("one", PAGES, ids=lambda one: one.code)
def test_examples_of_the_pages_do_what_they_say(one: Code, tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(BASE)
    path = tmp_path / "study.yaml"
    path.write_text(f"extends: ./base.yaml\n{one.wrong}\n")
    with pytest.raises(VitdslError) as caught:
        bind(load_source(path))
    assert {found.code for found in caught.value.diagnostics} == {one.code}
    path.write_text(f"extends: ./base.yaml\n{one.right}\n")
    bind(load_source(path))


if __name__ == "__main__":
    for name in CASES:
        (BOUND / f"{name}.txt").write_text(text(diagnose(name)))
