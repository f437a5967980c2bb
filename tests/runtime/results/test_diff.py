"""Two runs beside each other: numbers against a reference written from the formula, facts, fields, and nothing."""

import dataclasses
import json
from typing import Any

import numpy as np
import pytest
import xarray as xr
from scipy import stats

from vitdsl.runtime.results import diff as diffs
from vitdsl.runtime.results.diff_facts import why_another
from vitdsl.runtime.results.diff_fields import field_changes
from vitdsl.runtime.results.diff_numbers import Matched, alone, matched
from vitdsl.runtime.results.folder import Run
from vitdsl.runtime.results.intervals import interval, scale_of
from vitdsl.runtime.results.manifest import Manifest
from vitdsl.runtime.results.record import as_json

PARTS = 8


def group(images: np.ndarray, sites: list[str], **attrs: Any) -> xr.Dataset:
    """Means over images `[image, site]`, with what they are without every 8th image."""
    parts = np.arange(len(images)) % PARTS
    without = np.stack([images[parts != part].mean(0) for part in range(PARTS)])
    sizes = np.bincount(parts, minlength=PARTS).astype(float)
    low, high = interval(images.mean(0), without, sizes, scale_of(attrs))
    dims = ["site"]
    return xr.Dataset(
        {
            "v": (dims, images.mean(0), {"long_name": "value", "units": "1", **attrs}),
            "v_low": (dims, low),
            "v_high": (dims, high),
            "v_replicates": (["replicate", "site"], without),
        },
        coords={"site": sites, "model": "vit", "data": "probe"},
        attrs={"left_out": sizes, "metric": "m"},
    )


def reference(x: np.ndarray) -> tuple[float, float, float, float]:
    """Mean of `x [image]`, its 95 % jackknife interval with Student's t over equal parts, and its p-value."""
    parts = np.array([x[np.arange(len(x)) % PARTS == part].mean() for part in range(PARTS)])
    error = parts.std(ddof=1) / np.sqrt(PARTS)
    reach = stats.t.ppf(0.975, PARTS - 1) * error
    return x.mean(), x.mean() - reach, x.mean() + reach, 2 * stats.t.sf(abs(x.mean()) / error, PARTS - 1)


def one(found: list[Matched]) -> Matched:
    assert len(found) == 1
    return found[0]


def test_what_is_read_off_single_images_is_no_number_to_compare() -> None:
    rng = np.random.default_rng(0)
    a, b = ({"m/vit": group(rng.normal(size=(64, 2)), list("xy"), single=single)} for single in (1, 1))
    assert matched(a, b, {"probe": False}) == []
    for data in (*a.values(), *b.values()):
        data["v"].attrs["single"] = 0
    assert one(matched(a, b, {"probe": False})).compared == 2


def test_the_same_images_give_the_interval_of_the_paired_difference() -> None:
    rng = np.random.default_rng(0)
    a = rng.normal(size=(64, 3))
    b = a + np.array([0.0, 0.05, 0.3]) + 0.1 * rng.normal(size=(64, 3))
    found = one(matched({"m/vit": group(a, list("xyz"))}, {"m/vit": group(b, list("xyz"))}, {"probe": True}))
    assert found.how == "paired"
    for site in range(3):
        mean, low, high, p = reference(b[:, site] - a[:, site])
        assert found.difference[:, site] == pytest.approx([mean, low, high], rel=1e-9)
        assert found.p[site] == pytest.approx(p if p < 0.05 else 1.0, rel=1e-6)
    order = np.argsort(found.p)
    wanted = np.minimum(1, np.maximum.accumulate(found.p[order] * np.array([3, 2, 1])))
    assert found.p_adjusted[order] == pytest.approx(wanted)


def test_other_images_give_the_reaches_of_both_as_independent() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(64, 1)), rng.normal(1.0, size=(48, 1))
    found = one(matched({"m/vit": group(a, ["x"])}, {"m/vit": group(b, ["x"])}, {"probe": False}))
    assert found.how == "both"
    (left, low_a, high_a, _), (right, low_b, high_b, _) = reference(a[:, 0]), reference(b[:, 0])
    assert found.difference[:, 0] == pytest.approx(
        [
            right - left,
            right - left - np.hypot(right - low_b, high_a - left),
            right - left + np.hypot(high_b - right, left - low_a),
        ],
        rel=1e-9,
    )
    assert found.moved.all() and found.p[0] < 0.001


def test_by_chance_hardly_any_number_moves_among_many() -> None:
    rng = np.random.default_rng(2)
    sites = [f"s{i}" for i in range(400)]
    a, b = rng.normal(size=(64, 400)), rng.normal(size=(64, 400))
    found = one(matched({"m/vit": group(a, sites)}, {"m/vit": group(b, sites)}, {"probe": False}))
    assert not found.moved.any()
    assert 0 < found.alone.sum() < 40


def test_numbers_are_matched_by_their_labels_and_not_by_their_order() -> None:
    rng = np.random.default_rng(3)
    images = rng.normal(size=(64, 3))
    other = images[:, [2, 0, 1]]
    left, right = {"m/vit": group(images, list("xyz"))}, {"m/vit": group(other, list("zxw"))}
    found = one(matched(left, right, {"probe": True}))
    assert list(found.labels["site"]) == ["x", "z"]
    assert not found.differs.any() and found.p.tolist() == [1, 1]
    only = {(part.run, part.what): part.labels for part in alone(left, right)}
    assert only == {("A", "site"): ("y",), ("B", "site"): ("w",)}


def test_rounding_does_not_move_a_number_and_an_interval_of_no_width_tells_nothing() -> None:
    images = np.random.default_rng(4).normal(1.0, size=(64, 2))
    rounded = images + np.array([1e-8, 0.5])
    found = one(
        matched({"m/vit": group(images, ["x", "y"])}, {"m/vit": group(rounded, ["x", "y"])}, {"probe": True})
    )
    assert found.differs.tolist() == [False, True]
    assert not found.moved.any() and found.untold.tolist() == [False, True]
    bare = {"m/vit": group(images, ["x", "y"]).drop_vars("v_replicates")}
    shifted = {"m/vit": group(rounded, ["x", "y"]).drop_vars("v_replicates")}
    without = one(matched(bare, shifted, {"probe": True}))
    assert without.how == "" and without.untold.tolist() == [False, True] and not without.moved.any()


def changed(run: Run, change: Any, **more: Any) -> Run:
    """The run with a manifest that somebody changed."""
    manifest = as_json(run.manifest)
    change(manifest)
    return dataclasses.replace(run, manifest=Manifest.model_validate_json(json.dumps(manifest)), **more)


@pytest.fixture
def run(request: pytest.FixtureRequest) -> Run:
    """The run of the report's tests."""
    import importlib.util
    from pathlib import Path

    spec = importlib.util.spec_from_file_location(
        "reports_sample", Path(__file__).parents[2] / "reports" / "sample.py"
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    import sys

    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    found: Run = module.sample(request.getfixturevalue("tmp_path"))
    return found


def test_a_run_beside_itself_is_the_same(run: Run) -> None:
    found = diffs.diff(run, run)
    assert found.answer == "same" and diffs.verdict(found) == "The same run: nothing differs."
    answer = diffs.as_json(found)
    assert (
        answer["study"]
        == answer["environment"]
        == answer["only"]
        == answer["claims"]
        == answer["differs"]
        == []
    )
    assert answer["numbers"]["moved"] == [] and answer["numbers"]["compared"] > 100
    json.dumps(answer, allow_nan=False)


def test_what_differs_stands_in_the_first_sentence(run: Run) -> None:
    def change(manifest: dict[str, Any]) -> None:
        manifest["dtype"] = "bf16"
        manifest["models"]["vit"]["weights"]["sha256"] = "f" * 64

    found = diffs.diff(run, changed(run, change))
    assert diffs.verdict(found) == (
        "Comparable: same data, same preprocessing, same kinds; differs in: weights, dtype."
    )
    assert "Other weights of `vit`" in diffs.cautions(found)[0]


def test_a_metric_of_another_version_is_not_compared(run: Run) -> None:
    def one_metric(manifest: dict[str, Any]) -> None:
        manifest["metrics"]["accuracy"]["version"] += 1

    found = diffs.diff(run, changed(run, one_metric))
    assert found.answer == "comparable in part" and list(found.others) == ["accuracy"]
    assert not any(value.path.startswith("accuracy/") for value in found.values)

    def all_metrics(manifest: dict[str, Any]) -> None:
        for metric in manifest["metrics"].values():
            metric["version"] += 1

    found = diffs.diff(run, changed(run, all_metrics))
    assert found.answer == "not comparable" and diffs.verdict(found).startswith(
        "Not comparable: metric `accuracy`"
    )


def test_parameters_make_another_number(run: Run) -> None:
    metric = run.manifest.metrics["accuracy"]
    other = metric.updated(params={**metric.params, "k": 5})
    assert why_another(metric, metric) == "" and "k: 5 in B" in why_another(metric, other)


def test_verdicts_that_changed_and_claims_of_one_run(run: Run) -> None:
    name = next(iter(run.manifest.claims))
    gone = list(run.manifest.claims)[1]

    def change(manifest: dict[str, Any]) -> None:
        manifest["claims"][name]["verdict"] = "undecided"
        del manifest["claims"][gone]

    found = {one.name: (one.a, one.b) for one in diffs.diff(run, changed(run, change)).claims}
    assert found[name] == (run.manifest.claims[name].verdict, "undecided")
    assert found[gone] == (run.manifest.claims[gone].verdict, None) and len(found) == 2


def test_fields_have_the_place_of_each_and_who_wrote_it(run: Run) -> None:
    a = "vitdsl: 1  # s.yaml:1\nfolder: x\ndata:\n  probe:\n    images: 512  # s.yaml:4\n    at: [a, b]  # default\n"
    b = "vitdsl: 1  # s.yaml:1\nfolder: y\ndata:\n  probe:\n    at: [a, c]  # --set\n    images: 512  # s.yaml:9\n"
    b += "    labels: {}  # s.yaml:7\n    newer: null  # default\n"
    left, right = (dataclasses.replace(run, resolved=text) for text in (a, b))
    found = {one.path: one for one in field_changes(left, right)}
    assert list(found) == ["data.probe.at", "data.probe.labels"]
    at = found["data.probe.at"]
    assert at.a and at.b
    assert (at.a.text, at.a.origin, at.a.place) == ("[a, b]", "default", "spec.resolved.yaml:6")
    assert (at.b.text, at.b.origin, at.b.place) == ("[a, c]", "--set", "spec.resolved.yaml:5")
    labels = found["data.probe.labels"]
    assert labels.a is None and labels.b is not None and labels.b.text == "{}"
