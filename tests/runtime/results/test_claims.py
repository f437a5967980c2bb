"""Claims: the truth table of verdicts, and the interval of a difference."""

from typing import Any

import numpy as np
import pytest
import xarray as xr

from vitdsl.dsl.study import Claim, Quantity
from vitdsl.runtime.results.claims import (
    REFUTED,
    SUPPORTED,
    UNDECIDED,
    claim_problems,
    in_words,
    judge,
    verdict_of,
)
from vitdsl.runtime.results.intervals import interval
from vitdsl.runtime.results.record import as_json
from vitdsl.runtime.results.verdicts import Verdict

S, R, U = SUPPORTED, REFUTED, UNDECIDED


@pytest.mark.parametrize(
    ("relation", "by", "low", "high", "wanted"),
    [
        # Without a margin, a difference of exactly 0 is not greater, and not less.
        ("greater", 0, 0.1, 0.3, S), ("greater", 0, -0.3, -0.1, R), ("greater", 0, -0.1, 0.1, U),
        ("greater", 0, 0.0, 0.2, U), ("greater", 0, -0.2, 0.0, R), ("greater", 0, 0.0, 0.0, R),
        ("less", 0, -0.3, -0.1, S), ("less", 0, 0.1, 0.3, R), ("less", 0, -0.1, 0.1, U),
        ("less", 0, -0.2, 0.0, U), ("less", 0, 0.0, 0.2, R), ("less", 0, 0.0, 0.0, R),
        # With a margin: by at least so much.
        ("greater", 0.1, 0.2, 0.3, S), ("greater", 0.1, 0.1, 0.3, S), ("greater", 0.1, 0.05, 0.3, U),
        ("greater", 0.1, 0.0, 0.05, R), ("greater", 0.1, 0.0, 0.1, U), ("greater", 0.1, 0.1, 0.1, S),
        ("greater", 0.1, -0.3, -0.2, R),
        ("less", 0.1, -0.3, -0.2, S), ("less", 0.1, -0.3, -0.1, S), ("less", 0.1, -0.3, -0.05, U),
        ("less", 0.1, -0.05, 0.0, R), ("less", 0.1, -0.1, 0.0, U), ("less", 0.1, -0.1, -0.1, S),
        ("less", 0.1, 0.2, 0.3, R),
        # By at most so much, either way.
        ("close", 0.1, -0.05, 0.05, S), ("close", 0.1, -0.1, 0.1, S), ("close", 0.1, 0.05, 0.15, U),
        ("close", 0.1, -0.15, -0.05, U), ("close", 0.1, -0.2, 0.2, U), ("close", 0.1, 0.15, 0.2, R),
        ("close", 0.1, -0.2, -0.15, R), ("close", 0.1, 0.1, 0.2, U), ("close", 0.1, 0.0, 0.0, S),
        # Trends are of the left side alone.
        ("increasing", 0, 0.1, 0.3, S), ("increasing", 0, -0.1, 0.3, U), ("increasing", 0, -0.3, -0.1, R),
        ("increasing", 0.5, 0.1, 0.3, R), ("increasing", 0, 0.0, 0.0, R),
        ("decreasing", 0, -0.3, -0.1, S), ("decreasing", 0, -0.1, 0.3, U), ("decreasing", 0, 0.1, 0.3, R),
        ("decreasing", 0.2, -0.3, -0.1, U), ("decreasing", 0.2, -0.4, -0.3, S), ("decreasing", 0, 0.0, 0.0, R),
    ],
)  # fmt: skip
def test_truth_table(relation: str, by: float, low: float, high: float, wanted: str) -> None:
    verdict, reason = verdict_of(relation, by, (low + high) / 2, low, high)
    assert verdict == wanted
    assert bool(reason) == (wanted == U)


@pytest.mark.parametrize("relation", ["greater", "less", "close", "increasing", "decreasing"])
def test_without_a_number_or_an_interval_nothing_is_decided(relation: str) -> None:
    nan, inf = float("nan"), float("inf")
    for difference, low, high, says in (
        (nan, nan, nan, "undefined"),
        (inf, nan, nan, "infinite"),
        (1.0, nan, nan, "no interval"),
    ):
        verdict, reason = verdict_of(relation, 0.1, difference, low, high)
        assert verdict == U and says in reason


def test_rounding_is_no_difference() -> None:
    """0.9 - 0.8 is 0.09999999999999998, and a sum in another order differs from itself by 1e-17."""
    difference = 0.9 - 0.8
    assert difference < 0.1
    assert verdict_of("greater", 0.1, difference, difference, difference)[0] == R
    assert verdict_of("greater", 0.1, difference, difference, difference, noise=1e-12)[0] == S
    assert verdict_of("greater", 0.0, 1e-17, 1e-17, 1e-17, noise=1e-12)[0] == R
    assert verdict_of("less", 0.0, -1e-17, -1e-17, -1e-17, noise=1e-12)[0] == R
    assert verdict_of("close", 0.1, 0.1 + 1e-16, 0.1 + 1e-16, 0.1 + 1e-16, noise=1e-12)[0] == S


BLOCKS, SIZES = 16, np.full(16, 32.0)


def group(name: str, replicates: np.ndarray, value: float | None = None, data: str = "probe") -> xr.Dataset:
    """One number for each model, with its leave-one-out estimates."""
    mean = float(replicates.mean()) if value is None else value
    return xr.Dataset(
        {
            "v": (("condition",), [mean], {"units": "px", "relative": 0}),
            "v_replicates": (("replicate", "condition"), replicates[:, None]),
        },
        {"condition": ("condition", np.asarray(["baseline"], dtype=object))},
        {"left_out": np.full(len(replicates), 32.0)},
    ).assign_coords(model=name, data=data)


def claim(relation: str, right: Any = "b", by: float = 0.0, take: str = "mean", **fields: Any) -> Claim:
    left = {"metric": "m", "value": "v", "where": {"model": "a"}, "take": take}
    if right == "b":
        right = {"metric": "m", "value": "v", "where": {"model": "b"}}
    return Claim.model_validate(
        {"say": "so", "left": left, "is": relation, "right": right, "by": by} | fields
    )


def sides(seed: int = 0, shift: float = 0.3, data: str = "probe") -> dict[str, xr.Dataset]:
    """Two models whose numbers move together from block to block."""
    rng = np.random.default_rng(seed)
    shared = rng.normal(size=BLOCKS) / 10
    own = rng.normal(size=(2, BLOCKS)) / 1000
    return {
        "m/a": group("a", 1 + shift + shared + own[0]),
        "m/b": group("b", 1 + shared + own[1], data=data),
    }


def width(found: Verdict) -> float:
    return float(found.difference.high - found.difference.low)


def test_the_same_images_make_the_difference_sharper() -> None:
    paired = judge(claim("greater"), sides())
    apart = judge(claim("greater"), sides(data="other"))
    assert paired.difference.value == apart.difference.value == pytest.approx(0.3, abs=1e-2)
    assert width(paired) < width(apart) / 20
    assert (paired.verdict, apart.verdict) == (S, U)
    groups = sides()
    a, b = (groups[f"m/{name}"]["v_replicates"].values[:, 0] for name in "ab")
    wanted = interval(float(a.mean() - b.mean()), a - b, SIZES)
    np.testing.assert_allclose((paired.difference.low, paired.difference.high), wanted, rtol=1e-9)


def test_different_images_add_their_variances() -> None:
    found = judge(claim("greater"), sides(data="other"))
    reach = [(side.high - side.low) / 2 for side in (found.left, found.right)]
    assert width(found) / 2 == pytest.approx(float(np.hypot(*reach)), rel=1e-12)


def test_streams_may_have_different_numbers_of_blocks() -> None:
    groups = sides()
    groups["m/b"] = group("b", np.linspace(0.9, 1.1, 5), data="other")
    found = judge(claim("greater"), groups)
    assert np.isfinite(found.difference.low)


def test_a_quantity_and_itself_differ_by_nothing() -> None:
    groups = {"m/a": sides()["m/a"]}
    itself = {"metric": "m", "value": "v", "where": {"model": "a"}}
    assert judge(claim("close", itself, by=1e-9), groups).verdict == S
    for relation in ("greater", "less"):
        found = judge(claim(relation, itself), groups)
        assert found.verdict == R and as_json(found.difference) == {"value": 0.0, "low": 0.0, "high": 0.0}


def test_against_a_number() -> None:
    groups = sides()
    for right, relation, by, wanted in (
        (1.0, "greater", 0.0, U),
        (-9.0, "greater", 5.0, S),
        (9.0, "less", 5.0, S),
        (9.0, "greater", 0.0, R),
        (1.3, "close", 2.0, S),
    ):
        found = judge(claim(relation, right, by), groups)
        assert found.verdict == wanted, (right, relation)
        assert as_json(found.right) == {
            "value": right,
            "low": None,
            "high": None,
            "text": f"{right:g}",
            "metric": "",
            "quantity": "",
            "units": "px",
        }
        assert found.difference.value == found.left.value - right
        left = found.left.high - found.left.low
        assert width(found) == pytest.approx(left, rel=1e-9)


def depths(y: np.ndarray, seed: int = 0) -> dict[str, xr.Dataset]:
    noise = np.random.default_rng(seed).normal(scale=0.005, size=(BLOCKS, 1, len(y)))
    return {
        "m/a": xr.Dataset(
            {
                "v": (("condition", "site"), y[None], {"units": "px", "relative": 0}),
                "v_replicates": (("replicate", "condition", "site"), y[None, None] + noise),
            },
            {
                "condition": ("condition", np.asarray(["baseline"], dtype=object)),
                "site": ("site", np.asarray([f"s{i}" for i in range(len(y))], dtype=object)),
                "depth": ("site", np.linspace(0, 1, len(y))),
            },
            {"left_out": SIZES},
        ).assign_coords(model="a", data="probe")
    }


@pytest.mark.parametrize("take", ["mean", "slope", "spearman"])
def test_trends(take: str) -> None:
    up = np.asarray([0.0, 1.0, 2.0, 3.0])
    for relation, y, wanted in (
        ("increasing", up, S), ("decreasing", up, R), ("decreasing", -up, S), ("increasing", -up, R),
    ):  # fmt: skip
        found = judge(claim(relation, None, take=take), depths(y))
        assert found.verdict == wanted and found.right is None
        assert found.left.text.startswith("spearman of" if take == "spearman" else "slope of m.v")
    flat = judge(claim("increasing", None, take=take), depths(np.zeros(4)))
    assert flat.verdict != S


def test_a_trend_of_a_number_that_is_no_trend_is_refused_before_the_run() -> None:
    frames = depths(np.zeros(4))

    class Study:
        """A study with one claim, and where its problems are noted."""

        claims: dict[str, Claim] = {}

    class Loaded:
        study = Study

        @staticmethod
        def problem(
            code: str, path: tuple[str, ...], message: str, **_: Any
        ) -> tuple[str, tuple[str, ...], str]:
            return code, path, message

    for take, wanted in (("max", 1), ("mean", 0), ("slope", 0), ("spearman", 0), ("argmax", 1)):
        Study.claims = {"up": claim("increasing", None, take=take)}
        found: Any = claim_problems(Loaded, frames)  # type: ignore[arg-type]
        assert len(found) == wanted, take
        if found:
            assert (
                found[0][:2] == ("VD250", ("claims", "up", "left", "take"))
                and "asks for a trend" in found[0][2]
            )
    Study.claims = {"up": claim("increasing", None, left={"metric": "m", "value": "w"})}
    found = claim_problems(Loaded, frames)  # type: ignore[arg-type]
    assert found[0][:2] == ("VD250", ("claims", "up", "left", "value"))


def test_undefined_cells_leave_a_claim_undecided_and_say_how_many() -> None:
    groups = depths(np.asarray([0.0, 1.0, np.nan, 3.0]))
    found = judge(claim("increasing", None), groups)
    assert (found.verdict, found.reason) == (U, "1 of the 4 numbers on the left are undefined")
    first = judge(claim("less", 9.0, take="first"), groups)
    assert first.verdict == U, "even where the number itself is defined"
    on_the_right = {"metric": "m", "value": "v", "where": {"model": "a"}}
    ok = {"metric": "m", "value": "v", "where": {"site": "s0"}}
    found = judge(claim("less", on_the_right, left=ok), groups)
    assert found.reason == "1 of the 4 numbers on the right are undefined"


def test_one_image_block_leaves_a_claim_undecided() -> None:
    data = group("a", np.empty(0), 3.0)
    data.attrs["left_out"] = [64.0]
    found = judge(claim("greater", 1.0), {"m/a": data})
    assert found.verdict == U and "fewer than two image blocks" in found.reason
    assert found.left.value == 3.0 and np.isnan(found.left.low)


def test_a_number_that_needs_one_block_has_no_interval() -> None:
    replicates = np.linspace(0.9, 1.1, BLOCKS)
    replicates[3] = np.nan
    found = judge(claim("greater", 0.0), {"m/a": group("a", replicates, 1.0)})
    assert found.verdict == U and "undefined without some images" in found.reason


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ({}, "mean of m.v"),
        ({"where": {"model": "vit"}}, "mean of m.v where model = vit"),
        (
            {"where": {"model": ["vit", "resnet"], "depth": {"from": 0.25, "to": 0.5}}, "take": "max"},
            "max of m.v where model = vit or resnet, depth 0.25 to 0.5",
        ),
        ({"where": {"depth": {"from": 0.5}}}, "mean of m.v where depth from 0.5"),
        ({"where": {"depth": {"to": 0.5}}}, "mean of m.v where depth up to 0.5"),
        ({"take": "slope", "along": "depth"}, "slope of m.v along depth"),
        ({"where": {"head": 3, "swept": True}}, "mean of m.v where head = 3, swept = True"),
    ],
)
def test_in_words(fields: dict[str, Any], wanted: str) -> None:
    assert in_words(Quantity.model_validate({"metric": "m", "value": "v"} | fields)) == wanted
