"""Frames: what identifies a group of results is a coordinate, and goes through netCDF."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from studies import TINY_RESNET, bound, changed, study
from vitdsl.dsl.study import Quantity
from vitdsl.runtime.plan.frames import frame
from vitdsl.runtime.results.groups import RESULTS, read_groups, write_groups
from vitdsl.runtime.results.select import kept

STUDY = study(
    "swept",
    data="{probe: {source: noise, batch: 8, vary: {total: [16, 32]}}}",
    models={
        "net": changed(TINY_RESNET, vary="{seed: [0, 1], options.block_args: [{attn_layer: se}]}"),
        "other": changed(TINY_RESNET, vary="{seed: [0, 1]}"),
        "plain": TINY_RESNET,
    },
    layers={
        "a": '{of: net, at: "layer*.*"}',
        "b": '{of: plain, at: "layer*.*"}',
        "c": '{of: other, at: "layer1.*"}',
    },
    metrics={
        "within": "{kind: cka, x: a}",
        "across": "{kind: cka, x: a, y: b}",
        "swept": "{kind: cka, x: a, y: c}",
    },
)


@pytest.fixture(scope="module")
def groups() -> dict[str, xr.Dataset]:
    plan = bound(STUDY)
    return {group.path: frame(plan, group) for group in plan.groups}


def single(group: xr.Dataset) -> dict[str, object]:
    return {str(name): coord.item() for name, coord in group.coords.items() if not coord.ndim}


def test_what_identifies_a_group_is_a_coordinate(groups: dict[str, xr.Dataset]) -> None:
    net = 'net[seed=1,options.block_args={"attn_layer":"se"}]'
    shared = {"data": "probe[total=32]", "options.block_args": '{"attn_layer":"se"}', "total": 32}
    assert single(groups[f"within/{net}@probe[total=32]"]) == {"model": net, "seed": 1} | shared
    found = groups[f"across/{net}~plain@probe[total=32]"]
    assert single(found) == {"model_x": net, "model_y": "plain", "seed": 1} | shared
    for group in groups.values():
        assert not set(group.attrs) & {"model", "model_x", "model_y", "data", "seed", "total"}


def test_a_field_that_both_models_vary_is_of_each_side(groups: dict[str, xr.Dataset]) -> None:
    seeds = {
        (group["seed_x"].item(), group["seed_y"].item())
        for path, group in groups.items()
        if path.startswith("swept/")
    }
    assert seeds == {(0, 0), (0, 1), (1, 0), (1, 1)}


@pytest.mark.parametrize(
    ("metric", "where", "count"),
    [
        ("within", {"model": "net"}, 4), ("within", {"seed": 1}, 2), ("within", {"total": {"from": 20}}, 2),
        ("within", {"data": "probe[total=16]"}, 2), ("within", {"data": "probe"}, 4),
        ("across", {"model": "plain"}, 4), ("across", {"model": "net"}, 4), ("across", {"model_y": "plain"}, 4),
        ("swept", {"seed": 1}, 6), ("swept", {"seed_x": 1, "seed_y": 0}, 2), ("swept", {"seed": [0, 1]}, 8),
        ("within", {"options.block_args": '{"attn_layer":"se"}'}, 4),
    ],
)  # fmt: skip
def test_claims_reach_them_before_and_after_they_are_written(
    groups: dict[str, xr.Dataset], tmp_path: Path, metric: str, where: dict[str, object], count: int
) -> None:
    quantity = Quantity.model_validate({"metric": metric, "value": "cka", "where": where})
    written = read_groups(tmp_path / RESULTS, write_groups(tmp_path / RESULTS, groups))
    assert len(kept(quantity, groups)) == len(kept(quantity, written)) == count


def test_they_are_read_back_as_they_were(groups: dict[str, xr.Dataset], tmp_path: Path) -> None:
    written = read_groups(tmp_path / RESULTS, write_groups(tmp_path / RESULTS, groups))
    for path, group in groups.items():
        assert single(written[path]) == single(group)
        assert list(written[path].coords) == list(group.coords)
        assert {type(value) for value in single(written[path]).values()} <= {str, int, float}
        assert np.isnan(written[path]["cka"].values).all()
