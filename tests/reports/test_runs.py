"""Runs of every shape: what is missing, undefined, odd or large breaks no page and leaves no empty figure."""

import dataclasses
import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import xarray as xr

from vitdsl.reports.figures._base import figure_of
from vitdsl.reports.figures._changes import effect_lines
from vitdsl.reports.parts import Part
from vitdsl.reports.render import render
from vitdsl.reports.sections import plots, sections
from vitdsl.runtime.results.folder import Run
from vitdsl.runtime.results.manifest import Manifest
from vitdsl.runtime.results.record import as_json

PATHS = ("accuracy/vit", "across/vit~resnet", "drift/vit", "ratio/vit", "distance/vit")


def _only(run: Run, groups: dict[str, xr.Dataset], **manifest: Any) -> Run:
    names = {path.partition("/")[0] for path in groups}
    metrics = {name: entry for name, entry in run.manifest.metrics.items() if name in names}
    return dataclasses.replace(
        run, groups=groups, manifest=run.manifest.updated(**{"metrics": metrics, "claims": {}, **manifest})
    )


def _figures(page: str) -> int:
    return page.count('<div class="cell">') + page.count('<div class="wide">')


def test_shapes_follow_from_dimensions(run: Run) -> None:
    shapes = {path: figure_of(Part(path, run.groups[path], name)).name for path, name in zip(
        PATHS, ("drop", "cka", "cka", "ratio", "distance"), strict=True
    )}  # fmt: skip
    assert list(shapes.values()) == ["effect", "matrix", "paired", "tokens", "heads"]


def test_comparable_groups_stand_together(run: Run) -> None:
    assert [section.metrics for section in sections(run)] == [
        ("accuracy",), ("within_vit", "within_res", "across"), ("drift",), ("ratio",), ("distance",)
    ]  # fmt: skip
    assert next(iter(sections(run)[0].values)) == "drop"


def test_kinds_of_units_are_drawn_apart(run: Run) -> None:
    group = run.groups["accuracy/vit"].isel(condition=slice(0, 7))
    ends = ["attn", "mlp"] * 3
    at = ["", *(f"blocks.{i // 2}.{end}" for i, end in enumerate(ends))]
    part = Part("accuracy/vit", group.assign_coords(ablated_site=("condition", at)), "drop")
    assert [line.label for line in effect_lines([part])] == ["attn", "mlp"]
    counted = Part("accuracy/resnet", run.groups["accuracy/resnet"], "drop")
    assert [line.label for line in effect_lines([counted])] == ["resnet"]


def test_one_condition_only(run: Run) -> None:
    groups = {path: group.isel(condition=[0]) for path, group in run.groups.items()}
    assert _figures(render(_only(run, groups))) >= 8


def test_no_claims_and_a_bare_manifest(run: Run) -> None:
    whole = as_json(run.manifest)
    fields = Manifest.model_fields.items()
    bare = {name: whole[name] for name, field in fields if field.is_required()}
    page = render(dataclasses.replace(run, manifest=Manifest.model_validate_json(json.dumps(bare))))
    assert '<section id="claims"' not in page and "recorded no trust checks" in page


def test_no_groups_at_all(run: Run) -> None:
    assert "<h1>" in render(_only(run, {}))


def test_no_intervals(made: ModuleType, tmp_path: Path) -> None:
    page = render(made.sample(tmp_path, vit=3, resnet=4, intervals=False))
    assert "are 95 % intervals over image blocks" not in page.split("How it was measured")[0]


@pytest.mark.parametrize("path", PATHS)
def test_undefined_cells(run: Run, path: str) -> None:
    group = run.groups[path].copy(deep=True)
    for name in group.data_vars:
        values = group[name].values
        values[(0,) * values.ndim] = np.nan
        values[(-1,) * values.ndim] = np.nan
    group.attrs["undefined"] = '["blocks.0: constant over the images"]'
    page = render(_only(run, {path: group}))
    assert "blocks.0: constant over the images" in page
    assert _figures(page) > 0


@pytest.mark.parametrize("path", PATHS)
def test_nothing_defined(run: Run, path: str) -> None:
    group = run.groups[path].map(lambda a: a * np.nan, keep_attrs=True)
    page = render(_only(run, {path: group}))
    assert _figures(page) == 0 and "No number of this figure is defined" in page


def test_what_is_nowhere_defined_is_left_out_and_said_once(run: Run) -> None:
    groups = {path: run.groups[path].copy(deep=True) for path in ("accuracy/vit", "accuracy/resnet")}
    for group in groups.values():
        group["top5"].values[:] = np.nan
    groups["accuracy/vit"]["loss"].values[:] = np.nan
    (section,) = sections(_only(run, groups))
    found = list(plots(section))
    said = [plot for plot in found if "left out: top-5 accuracy." in plot.caption]
    assert said == found[:1] and all(plot.parts[0].value != "top5" for plot in found)
    (loss,) = (plot for plot in found if plot.parts[0].value == "loss")
    assert "Not defined for vit." in loss.caption and [part.label for part in loss.parts] == ["resnet"]


@pytest.mark.parametrize("path", PATHS)
def test_a_single_site(run: Run, path: str) -> None:
    group = run.groups[path]
    one = {dim: [0] for dim in ("site", "site_x", "site_y") if dim in group.dims}
    assert "<table" in render(_only(run, {path: group.isel(one)}))


def test_all_sites_at_once(run: Run) -> None:
    group = run.groups["accuracy/vit"].isel(condition=[0, 1, 2])
    group = group.assign_coords(ablated_depth=("condition", [np.nan] * 3))
    page = render(_only(run, {"accuracy/vit": group}))
    assert ">intact<" in page and _figures(page) >= 1


def test_an_unknown_metric_with_odd_dimensions(run: Run) -> None:
    odd = xr.Dataset(
        {"mass": (("row", "col", "angle"), np.arange(12.0).reshape(2, 3, 2), {"long_name": "gradient mass"})},
        {"row": [0, 1], "model": "vit"},
        {"metric": "odd", "kind": "odd", "title": "An odd one"},
    )
    entry = run.manifest.metrics["drift"].model_copy(update={"kind": "odd", "groups": ("odd/vit",)})
    page = render(_only(run, {"odd/vit": odd}, metrics={"odd": entry}))
    assert "An odd one" in page and "12 numbers" in page and _figures(page) == 0


def test_a_profile_without_conditions(run: Run) -> None:
    group = run.groups["drift/vit"].isel(condition=1, drop=True).assign_attrs(paired=0)
    assert _figures(render(_only(run, {"drift/vit": group}))) == 1


def test_long_names(run: Run) -> None:
    long = "a_model_with_" + "a_very_" * 12 + "long_name"
    group = run.groups["drift/vit"].assign_coords(model=long).assign_attrs(title=long)
    group = group.assign_coords(site=("site", [f"{long}.{i}.{long}" for i in range(group.sizes["site"])]))
    assert _figures(render(_only(run, {"drift/vit": group}))) == 3, "a colour bar, a map, lines"


def test_deep_models(made: ModuleType, tmp_path: Path) -> None:
    study = made.Study(vit=120, resnet=120, heads=16)
    groups = {
        "within_vit/vit": study.matrix("within_vit", "vit", "vit", "Within"),
        "across/vit~resnet": study.matrix("across", "vit", "resnet", "Across"),
        "distance/vit": study.distance(),
    }
    page = render(Run(tmp_path, made.manifest(groups), groups, "", ""))
    assert len(page.encode()) < 3_000_000
    assert "The first 200 of 28,800 rows" in page
    assert page.count("<tr>") < 1_500 and len(re.findall(r"<[a-zA-Z]", page)) < 20_000
