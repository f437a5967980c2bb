"""Errors of an entry that know nothing of files: the field that they are about takes the caret."""

from typing import Any

import pytest

from vitdsl.dsl.diagnostics import Diagnostic, EnvironmentProblem, Span, StudyError
from vitdsl.dsl.load import load_text
from vitdsl.dsl.source import SourceMap, placing
from vitdsl.dsl.sweeps import sweep_places, variants

TEXT = """\
vitdsl: 1
study: places
data: {probe: {source: noise, total: 8}}
models:
  vit: {arch: vit_tiny_patch16_224, options: {depth: 2, num_heads: 3}, weights: random}
  one: {arch: resnet18, options: {block: basic}, weights: random}
  some: {arch: resnet18, weights: random, vary: {options.block: [a, bb], seed: [0, 1]}}
  many: {arch: resnet18, weights: random, vary: {options.block: [a, bb], options.layers: [c, d]}}
metrics: {acc: {kind: accuracy, of: vit}}
"""
ARCH, OPTIONS = ("arch",), ("options",)


def under(diagnostic: Diagnostic) -> str:
    """The text that the caret marks."""
    span = diagnostic.span
    assert span is not None
    return TEXT.splitlines()[span.line - 1][span.column - 1 : span.end_column - 1]


def placed(name: str, *about: Any, variant: int = 0, at_key: bool = False) -> Diagnostic:
    loaded = load_text(TEXT)
    entry = loaded.study.models[name]
    source = loaded.source.moved(
        sweep_places(("models", name), entry, variants(name, entry)[variant]) if entry.vary else {}
    )
    return source.placed(Diagnostic("VD231", "wrong", about=about, at_key=at_key), ("models", name))


@pytest.mark.parametrize(
    ("name", "about", "at_key", "marked"),
    [
        ("vit", (ARCH,), False, "vit_tiny_patch16_224"),
        ("vit", (ARCH,), True, "arch"),
        ("vit", (("options", "depth"), ARCH), False, "2"),
        ("vit", (("options", "depth"), ARCH), True, "depth"),
        ("vit", (("options", "img_size"), ARCH), False, "vit_tiny_patch16_224"),
        ("vit", (("options", "img_size"), OPTIONS), True, "options"),
        ("vit", (), False, "vit"),
        ("vit", (("train",),), False, "vit"),
        ("one", (OPTIONS, ARCH), True, "block"),
        ("one", (OPTIONS, ARCH), False, "options"),
        ("some", (OPTIONS, ARCH), True, "a"),
        ("some", (("options", "block"),), False, "a"),
        ("some", (("options", "block"),), True, "options.block"),
        ("many", (OPTIONS, ARCH), False, "resnet18"),
    ],
)
def test_the_first_field_that_was_written_takes_the_caret(
    name: str, about: Any, at_key: bool, marked: str
) -> None:
    assert under(placed(name, *about, at_key=at_key)) == marked


def test_a_part_that_a_sweep_varies_is_meant() -> None:
    assert [under(placed("some", OPTIONS, variant=one)) for one in range(4)] == ["a", "a", "bb", "bb"]


def test_what_has_a_place_keeps_it() -> None:
    span = Span("other.yaml", 3, 1, 3, 4)
    assert load_text(TEXT).source.placed(Diagnostic("VD230", "wrong", span), ("models", "vit")).span == span


def test_a_study_that_was_never_text_has_no_places() -> None:
    found = SourceMap().placed(Diagnostic("VD230", "wrong", about=(ARCH,)), ("models", "vit"))
    assert found.span is None


def test_an_error_stays_what_it_is_on_its_way_through_an_entry() -> None:
    source = load_text(TEXT).source
    with pytest.raises(EnvironmentProblem) as caught, placing(source, ("models", "vit")):
        try:
            raise EnvironmentProblem(
                [Diagnostic("VD401", "gone", about=(("depth",),)), Diagnostic("VD402", "bad")]
            )
        except EnvironmentProblem as error:
            raise error.inside("options") from error.__cause__
    assert [under(one) for one in caught.value.diagnostics] == ["2", "vit"]
    with pytest.raises(StudyError), placing(source, ("models", "vit")):
        raise StudyError(Diagnostic("VD230", "wrong"))
