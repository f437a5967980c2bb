"""Intervals over images, trainings and units, against the textbook formulas."""

from typing import Any

import numpy as np
import pytest
import xarray as xr
from scipy import stats

from vitdsl.dsl.study import Claim
from vitdsl.runtime.results.claims import judge, judge_all
from vitdsl.runtime.results.differences import Difference, moves
from vitdsl.runtime.results.quantities import read

PARTS = 16
SIZES = np.full(PARTS, 8.0)


def group(
    model: str, numbers: list[float], noise: float = 0.0, seed: int | None = None, **attrs: Any
) -> xr.Dataset:
    """A metric's results at some sites; `seed` is one of a swept one."""
    rng = np.random.default_rng([len(model), seed or 0])
    parts = np.asarray(numbers) + noise * rng.normal(size=(PARTS, len(numbers)))
    values = parts.mean(0)
    without = (parts.sum(0) - parts) / (PARTS - 1)
    coords: dict[str, Any] = {
        "site": ("site", [f"s{i}" for i in range(len(numbers))]),
        "depth": ("site", np.linspace(0, 1, len(numbers))),
        "data": "probe",
        "model": model if seed is None else f"{model}[seed={seed}]",
    }
    if seed is not None:
        coords["seed"] = ((), seed, {"training": 1})
    return xr.Dataset(
        {
            "v": ("site", values, {"units": "1", "relative": 0, **attrs}),
            "v_replicates": (("replicate", "site"), without),
        },
        coords,
        {"left_out": SIZES},
    )


def claim(take: str = "mean", left: str = "a*", right: Any = "b*", **more: Any) -> Claim:
    def side(model: str) -> dict[str, Any]:
        return {"metric": "m", "value": "v", "take": take, "where": {"model": model}}

    other = side(right) if isinstance(right, str) else right
    return Claim.model_validate({"say": "so", "left": side(left), "is": "greater", "right": other, **more})


def difference(one: Claim, groups: dict[str, xr.Dataset]) -> Difference:
    assert not isinstance(one.right, float)
    return Difference(read(one.left, groups), read(one.right, groups))  # type: ignore[arg-type]


def test_units_are_compared_as_two_samples_are() -> None:
    a, b = [1.0, 2.0, 4.0, 3.5], [0.5, 1.0, 0.7]
    found = difference(claim(), {"m/a": group("a", a), "m/b": group("b", b)})
    wanted = stats.ttest_ind(a, b, equal_var=False).confidence_interval(0.95)
    np.testing.assert_allclose(found.ends(("units",)), (wanted.low, wanted.high), rtol=1e-12)


def test_seeds_of_two_models_are_two_samples() -> None:
    a, b = [1.0, 1.3, 0.9], [0.2, 0.3, 0.6, 0.1]
    groups = {f"m/a{i}": group("a", [v, v + 1], seed=i) for i, v in enumerate(a)}
    groups |= {f"m/b{i}": group("b", [v, v + 1], seed=i) for i, v in enumerate(b)}
    found = difference(claim(), groups)
    wanted = stats.ttest_ind(a, b, equal_var=False).confidence_interval(0.95)
    np.testing.assert_allclose(found.ends(("seeds",)), (wanted.low, wanted.high), rtol=1e-12)
    assert found.trainings == 3 and found.value == pytest.approx(np.mean(a) - np.mean(b))


def test_two_sides_of_the_same_trainings_are_pairs() -> None:
    """What a training has in common between two sites cancels."""
    first, second = np.array([1.0, 5.0, 3.0]), np.array([0.5, 4.4, 2.6])
    groups = {f"m/a{i}": group("a", list(v), seed=i) for i, v in enumerate(zip(first, second, strict=True))}
    sides = {
        name: {"metric": "m", "value": "v", "where": {"site": site}}
        for name, site in (("left", "s0"), ("right", "s1"))
    }
    found = difference(Claim.model_validate({"say": "so", "is": "greater", **sides}), groups)
    wanted = stats.ttest_1samp(first - second, 0).confidence_interval(0.95)
    np.testing.assert_allclose(found.ends(("seeds",)), (wanted.low, wanted.high), rtol=1e-12)


def test_reaches_over_images_and_seeds_add_as_independent_errors_do() -> None:
    groups = {f"m/{model}{i}": group(model, [1.0, 2.0], 0.5, seed=i) for model in "ab" for i in range(4)}
    found = difference(claim(), groups)
    images, seeds, both = (found.ends(over) for over in (("images",), ("seeds",), ("images", "seeds")))
    reach = np.hypot(images[1] - found.value, seeds[1] - found.value)
    assert both[1] - found.value == pytest.approx(reach, rel=1e-12)


def test_seeds_count_where_they_vary_and_one_training_is_said_where_not() -> None:
    one = {"m/a": group("a", [1.0, 2.0], 0.01), "m/b": group("b", [0.5, 1.5], 0.01)}
    several = {
        f"m/{m}{i}": group(m, [v, v + 1], 0.01, i) for m, v in (("a", 1), ("b", 0.5)) for i in range(3)
    }
    alone, seeded = judge(claim(), one), judge(claim(), several)
    assert alone.over == ("images",) and alone.trainings == 1
    assert seeded.over == ("images", "seeds") and seeded.trainings == 3
    assert [source.over for source in seeded.sources] == ["images", "seeds", "units"]
    assert judge(claim(over="images"), several).over == ("images",)


def test_seeds_that_disagree_leave_undecided_what_images_would_support() -> None:
    values = {"a": [1.0, 0.2, 1.4], "b": [0.6, 0.5, 0.7]}
    groups = {f"m/{m}{i}": group(m, [v], 0.01, i) for m, some in values.items() for i, v in enumerate(some)}
    assert judge(claim(over="images"), groups).verdict == "supported"
    assert judge(claim(), groups).verdict == "undecided"


def test_a_choice_among_conditions_costs_width() -> None:
    groups = {"m/a": group("a", [0.0] * 12, 1.0)}
    mean, most = (difference_of_one(take, groups) for take in ("first", "max"))
    assert most[1] - most[0] > 1.2 * (mean[1] - mean[0])


def difference_of_one(take: str, groups: dict[str, xr.Dataset]) -> tuple[float, float]:
    return Difference(read(claim(take, right=0.0).left, groups)).ends(("images",))


def test_no_verdict_without_width() -> None:
    """No image moves it: other images might."""
    still = {"m/a": group("a", [1.0, 1.0])}
    assert not moves(read(claim(right=0.0).left, still))
    found = judge(claim(right=0.5), still)
    assert found.verdict == "undecided" and "no width" in found.reason


def test_p_is_where_the_interval_touches_the_margin() -> None:
    groups = {"m/a": group("a", [1.0, 1.2], 0.5)}
    found = judge(claim(right=0.5), groups)
    low, _ = Difference(read(claim(right=0.5).left, groups), None, 0.5).ends(("images",), 1 - found.p)
    assert found.verdict == "supported" and low == pytest.approx(0.0, abs=1e-6)


def test_many_claims_must_each_show_more() -> None:
    """One claim that just holds among many that do not is no finding; in a family of its own it is."""
    groups = {"m/a": group("a", [0.0], 0.5)}
    value = float(groups["m/a"]["v"][0])
    reach = Difference(read(claim(right=0.0).left, groups)).ends(("images",))[1] - value
    weak = claim(right=value - 1.1 * reach)
    others = {f"n{i}": claim(right=value) for i in range(9)}
    assert judge(weak, groups).verdict == "supported"
    found = judge_all({"weak": weak, **others}, groups)["weak"]
    assert (found.verdict, found.raw) == ("undecided", "supported") and "10 claims" in found.reason
    apart = claim(right=value - 1.1 * reach, family="own")
    assert judge_all({"weak": apart, **others}, groups)["weak"].verdict == "supported"


def test_it_says_how_many_images_would_decide() -> None:
    """Four times the images halve the interval: twice too wide, and so many are asked for."""
    groups = {"m/a": group("a", [0.0], 0.5)}
    value = float(groups["m/a"]["v"][0])
    reach = Difference(read(claim(right=0.0).left, groups)).ends(("images",))[1] - value
    found = judge(claim(right=value - reach / 2), groups)
    assert found.verdict == "undecided" and found.images == pytest.approx(4 * SIZES.sum(), abs=2)


def test_pairs_of_shares_are_bonett_and_prices() -> None:
    """Of 256 images 6 are right under one condition alone and 1 under the other; their formula by hand."""
    n, b, c = 256, 6, 1
    right = np.zeros((n, 2))
    right[:200] = 1.0
    right[200 : 200 + b, 0], right[210 : 210 + c, 1] = 1.0, 1.0
    right = np.random.default_rng(0).permutation(right)
    parts = np.stack([right[i::128].mean(0) for i in range(128)])
    without = (parts.sum(0) - parts) / 127
    attrs = {"units": "1", "relative": 0, "share": "images", "valid_min": 0.0, "valid_max": 1.0}
    groups = {
        f"m/{model}": xr.Dataset(
            {"v": ((), right[:, i].mean(), attrs), "v_replicates": ("replicate", without[:, i])},
            {"data": "probe", "model": model},
            {"left_out": np.full(128, 2.0)},
        )
        for i, model in enumerate("ab")
    }
    low, high = difference(claim(), groups).ends(("images",))
    p, q = (b + 1) / (n + 2), (c + 1) / (n + 2)
    reach = stats.t.ppf(0.975, 127) * np.sqrt((p + q - (p - q) ** 2) / (n + 2))
    assert low == pytest.approx(p - q - reach, abs=2e-4) and high == pytest.approx(p - q + reach, abs=2e-3)
