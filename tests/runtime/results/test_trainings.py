"""Several trainings as one: what is joined, and with which interval."""

import numpy as np
import pytest
import xarray as xr
from scipy import stats

from vitdsl.runtime.results.intervals import jackknife
from vitdsl.runtime.results.trainings import joined, width_over_images

PARTS, SITES = 8, 3


def group(model: str, seed: int | None, sites: int = SITES, **coords: object) -> xr.Dataset:
    rng = np.random.default_rng(seed or 0)
    parts = rng.normal(size=(PARTS, sites))
    values, without = parts.mean(0), (parts.sum(0) - parts) / (PARTS - 1)
    low, high = jackknife(values, without, np.full(PARTS, 4.0))
    found = xr.Dataset(
        {
            "v": ("site", values), "v_low": ("site", low), "v_high": ("site", high),
            "v_replicates": (("replicate", "site"), without),
        },
        {"site": [f"s{i}" for i in range(sites)], "model": model, "data": "probe", **coords},
        {"left_out": np.full(PARTS, 4.0)},
    )  # fmt: skip
    return found if seed is None else found.assign_coords(seed=((), seed, {"training": 1}))


def test_seeds_of_one_model_become_their_mean() -> None:
    each = [group(f"vit[seed={i}]", i) for i in range(4)]
    found = joined({f"m/vit[seed={i}]": one for i, one in enumerate(each)})
    assert list(found) == ["m/vit"] and found["m/vit"]["model"].item() == "vit"
    one = found["m/vit"]
    values = np.stack([data["v"].values for data in each])
    np.testing.assert_allclose(one["v"], values.mean(0), rtol=1e-14)
    without = np.stack([data["v_replicates"].values for data in each]).mean(0)
    low, high = jackknife(values.mean(0), without, np.full(PARTS, 4.0))
    seeds = stats.t.ppf(0.975, 3) * values.std(0, ddof=1) / 2
    np.testing.assert_allclose(one["v_high"] - one["v"], np.hypot((high - low) / 2, seeds), rtol=1e-12)
    np.testing.assert_allclose(one["v"] - one["v_low"], np.hypot((high - low) / 2, seeds), rtol=1e-12)
    assert one.attrs["trainings"] == 4
    wanted = np.median((high - low) / (one["v_high"] - one["v_low"]))
    assert width_over_images(one, "v") == pytest.approx(wanted)


def test_other_swept_fields_stay_apart() -> None:
    groups = {
        f"m/vit[depth={d},seed={i}]": group(f"vit[depth={d},seed={i}]", i, depth_swept=d)
        for d in (4, 8)
        for i in (0, 1)
    }
    found = joined(groups)
    assert list(found) == ["m/vit[depth=4]", "m/vit[depth=8]"]
    assert [one["model"].item() for one in found.values()] == ["vit[depth=4]", "vit[depth=8]"]


def test_what_has_no_seeds_or_other_sites_stays_as_it_is() -> None:
    groups = {
        "m/res": group("res", None),
        "m/vit[seed=0]": group("vit[seed=0]", 0, 3),
        "m/vit[seed=1]": group("vit[seed=1]", 1, 2),
    }
    found = joined(groups)
    assert list(found) == list(groups) and all(found[path] is groups[path] for path in groups)


def test_pairs_are_joined_over_the_seeds_of_either_side() -> None:
    groups = {
        f"m/a[seed={i}]~b[seed={j}]": group("a", None)
        .drop_vars("model")
        .assign_coords(
            model_x=f"a[seed={i}]", model_y=f"b[seed={j}]",
            seed_x=((), i, {"training": 1}), seed_y=((), j, {"training": 1}),
        )
        for i in (0, 1)
        for j in (0, 1)
    }  # fmt: skip
    (path,) = joined(groups)
    assert path == "m/a~b"
