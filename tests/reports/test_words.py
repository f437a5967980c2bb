"""Numbers, names, colours and verdict strips, one by one."""

import math
import re
from typing import Any

import pytest

from vitdsl.reports import claims, labels, sentences, theme
from vitdsl.reports.pages import page_blocks
from vitdsl.runtime.results.verdicts import Verdict


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"), (1.0, "1.00"), (0.12345, "0.123"), (-12.34, "\u221212.3"), (1234.5, "1,234"),
        (0.00012, "1.20e\u22124"), (float("nan"), "not defined"), (None, "not defined"), (412170, "412,170"),
        (float("inf"), "\u221e"),
    ],
)  # fmt: skip
def test_numbers(value: float | None, text: str) -> None:
    assert labels.number(value) == text


@pytest.mark.parametrize(
    ("numbers", "text"),
    [
        ((0.59012, 0.5777, 0.6023), "0.590 [0.578, 0.602]"),
        ((16.7, 12.0, 21.0), "16.7 [12.0, 21.0]"),
        ((1523.0, 1400.0, 1650.0), "1,523 [1,400, 1,650]"),
        ((0.5, math.nan, math.nan), "0.500"),
        ((1.0, 1.0, 1.0), "1.00 [1.00, 1.00]"),
        ((-0.0001, -0.02, 0.02), "0.000 [\u22120.020, 0.020]"),
    ],
)
def test_an_interval_sets_the_digits(numbers: tuple[float, float, float], text: str) -> None:
    assert labels.estimate(*numbers) == text


def test_nothing_has_no_sign() -> None:
    assert labels.short(-0.0) == labels.short(0.0) == "0" and labels.short(-0.05) == "\N{MINUS SIGN}0.05"


def test_sites_are_shortened_by_what_they_share() -> None:
    names = [f"blocks.{i}.attn" for i in range(24)]
    at, short, pattern = labels.ticks(names, 12)
    assert (at[1], short[1], pattern) == (2, "2", "blocks.*.attn")
    assert labels.shorten(["layer1.0", "layer2.1"]) == (["layer1.0", "layer2.1"], "")


@pytest.mark.parametrize("text", ["net[options.depth=2,options.embed_dim=24]", "a b" * 20, "x" * 99, ""])
def test_folding_loses_nothing(text: str) -> None:
    folded = labels.fold(text, 12)
    assert re.sub(r"\s", "", folded) == re.sub(r"\s", "", text)
    breaks = [line for line in folded.split("\n") if len(line) > 12]
    assert not any(re.search(r"[ ,.@=].", line) for line in breaks)


@pytest.mark.parametrize("tokens", [theme.LIGHT, theme.DARK])
def test_contrast(tokens: dict[str, str]) -> None:
    for name in (*theme.TEXT_TOKENS, *theme.SERIES):
        for ground in ("paper", "surface"):
            assert theme.contrast(tokens[name], tokens[ground]) >= 4.5, (name, ground)
    assert len(set(tokens.values())) == len(tokens)


def test_both_themes_have_the_same_tokens() -> None:
    assert theme.LIGHT.keys() == theme.DARK.keys()
    assert theme.contrast("#000000", "#ffffff") == pytest.approx(21)


def verdict(relation: str, by: float, left: Any, right: Any, difference: Any) -> Verdict:
    sides = [side and {"text": "", "units": "1"} | side for side in (left, right)]
    fields = {"is": relation, "by": by, "left": sides[0], "right": sides[1], "difference": difference}
    return Verdict.model_validate(
        {"say": "so", "verdict": "undecided", "raw": "undecided", "reason": ""} | fields
    )


def test_a_claim_in_words() -> None:
    entry = verdict(
        "greater", 0.1, {"value": 0.3, "low": 0.28, "high": 0.32, "text": "mean drop"},
        {"value": 0.1, "low": 0.1, "high": 0.1, "text": "0.1"},
        {"value": 0.2, "low": 0.18, "high": 0.22},
    )  # fmt: skip
    assert sentences.claim(entry) == (
        "Mean drop is 0.300 [0.280, 0.320], against 0.1. The difference is 0.200 [0.180, 0.220]; "
        "the claim needs its whole interval above 0.1."
    )


@pytest.mark.parametrize("relation", ["greater", "less", "close", "increasing", "decreasing"])
def test_a_strip_keeps_order_and_stays_inside(relation: str) -> None:
    number = {"value": 0.2, "low": 0.15, "high": 0.25}
    strip = claims.strip(verdict(relation, 0.05, number, None, number))
    assert strip is not None
    assert 0 <= strip.low < strip.value < strip.high <= claims.WIDTH
    assert strip.holds[0] < strip.holds[1]


def test_an_undefined_claim_has_no_strip() -> None:
    undefined = {"value": None, "low": None, "high": None}
    entry = verdict("greater", 0.0, undefined, undefined, undefined)
    assert claims.strip(entry) is None
    assert "not defined" in sentences.claim(entry)


def test_a_page_of_a_kind_is_split_at_its_headings() -> None:
    blocks = page_blocks("One line.\n\nFormula\n    a = b\n      + c\n\nLimits:\n    It is\n    small.\n")
    assert [(b.tag, b.text) for b in blocks] == [
        ("h", "Formula"), ("pre", "a = b\n  + c"), ("h", "Limits"), ("p", "It is small."),
    ]  # fmt: skip
