"""Quantities against plain numpy on small results made by hand.

Longer than 300 lines: every way to take a number from one small set of results.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import xarray as xr
from scipy import stats

from vitdsl.dsl.study import Quantity
from vitdsl.runtime.results.quantities import Evaluated, LeftOut, read, select
from vitdsl.runtime.results.select import QuantityProblem

BLOCKS = 6
SIZES = np.asarray([8.0, 8, 8, 8, 8, 3])


def text(*values: str) -> np.ndarray:
    return np.asarray(values, dtype=object)


def without(found: Evaluated, stream: str) -> LeftOut:
    """What a quantity is without each part of a stream's images."""
    (part,) = (part for (name, _), part in found.streams.items() if name == stream)
    return part


def dataset(
    value: str,
    dims: tuple[str, ...],
    data: np.ndarray,
    coords: Mapping[str, Any],
    *,
    relative: bool = False,
    units: str = "1",
    seed: int = 0,
    **single: Any,
) -> xr.Dataset:
    noise = np.random.default_rng(seed).normal(scale=0.01, size=(BLOCKS, *data.shape))
    return xr.Dataset(
        {
            value: (dims, data, {"units": units, "relative": int(relative)}),
            f"{value}_replicates": (("replicate", *dims), data + noise, {"units": units}),
        },
        {"data": "probe", **coords, **single},
        {"paired": 0, "left_out": SIZES, "undefined": "[]"},
    )


CONDITIONS = (
    "baseline",
    "no_skip@blocks.0.attn",
    "no_skip@blocks.0.mlp",
    "no_skip@blocks.1.attn",
    "cut[p=0.5]@head",
)


def conditions() -> dict[str, Any]:
    return {
        "condition": ("condition", text(*CONDITIONS)),
        "ablation": ("condition", text("", "no_skip", "no_skip", "no_skip", "cut")),
        "ablated_model": ("condition", text("", "vit", "vit", "vit", "vit")),
        "ablated_site": ("condition", text("", "blocks.0.attn", "blocks.0.mlp", "blocks.1.attn", "head")),
        "ablated_depth": ("condition", [np.nan, 0.25, 0.5, 0.75, 1.0]),
        "p": ("condition", [np.nan, np.nan, np.nan, np.nan, 0.5]),
    }


DROP = np.asarray([0.0, 0.5, 0.3, 0.4, 0.1])
TOP1 = 0.9 - DROP
MATRIX = np.random.default_rng(1).normal(size=(1, 4, 3))
RATIO = np.random.default_rng(2).normal(size=(1, 4, 2))
DRIFT = np.random.default_rng(3).normal(size=(5, 4))
SITES = ("blocks.0.attn", "blocks.0.mlp", "blocks.1.attn", "blocks.1.mlp")


def made() -> dict[str, xr.Dataset]:
    vit = dataset("drop", ("condition",), DROP, conditions(), relative=True, model="vit")
    top1 = dataset("top1", ("condition",), TOP1, conditions(), model="vit", seed=1)
    accuracy = vit.assign({name: top1[name] for name in top1.data_vars})
    resnet = accuracy.isel(condition=[0, 1]).assign_coords(model="resnet")
    baseline = {"condition": ("condition", text("baseline")), "ablated_depth": ("condition", [np.nan])}
    across = dataset(
        "cka",
        ("condition", "site_x", "site_y"),
        MATRIX,
        baseline
        | {
            "site_x": ("site_x", text("blocks.0", "blocks.1", "blocks.2", "blocks.10")),
            "site_y": ("site_y", text("layer1.0", "layer1.1", "layer2.0")),
            "depth_x": ("site_x", [0.25, 0.5, 0.75, 1.0]),
            "depth_y": ("site_y", [0.3, 0.6, 0.9]),
        },
        model_x="vit",
        model_y="resnet",
    )
    ratio = dataset(
        "ratio",
        ("condition", "site", "token"),
        RATIO,
        baseline
        | {
            "site": ("site", text(*SITES)),
            "depth": ("site", [0.25, 0.5, 0.75, 1.0]),
            "branch_kind": ("site", text("attention", "mlp", "attention", "mlp")),
            "token": ("token", text("cls", "spatial")),
        },
        units="px",
        model="vit",
    )
    drift = dataset(
        "cka",
        ("condition", "site"),
        DRIFT,
        conditions() | {"site": ("site", text(*SITES)), "depth": ("site", [0.25, 0.5, 0.75, 1.0])},
        relative=True,
        model="vit",
    )
    groups = {
        "accuracy/vit": accuracy,
        "accuracy/resnet": resnet,
        "across/vit~resnet": across,
        "ratio/vit": ratio,
        "drift/vit": drift,
    }
    for i, fraction in enumerate((0.1, 0.3, 1.0)):
        name = f"small[train.fraction={fraction}]"
        groups[f"swept/{name}"] = dataset(
            "top1", ("condition",), np.asarray([0.5 + 0.1 * i + 0.01 * i**2]), baseline, seed=i,
            model=name, **{"train.fraction": fraction},
        )  # fmt: skip
    return groups


GROUPS = made()


def value(metric: str, name: str, take: str = "mean", along: str | None = None, **where: Any) -> float:
    return read(quantity(metric, name, take, along, **where), GROUPS).value


def quantity(metric: str, name: str, take: str = "mean", along: str | None = None, **where: Any) -> Quantity:
    fields = {"metric": metric, "value": name, "take": take, "along": along, "where": where}
    return Quantity.model_validate(fields)


MATRIX_TAKES = {
    "mean": np.mean, "median": np.median, "min": np.min, "max": np.max, "sum": np.sum, "spread": np.ptp,
    "first": lambda v: v.ravel()[0], "last": lambda v: v.ravel()[-1],
}  # fmt: skip


@pytest.mark.parametrize("take", MATRIX_TAKES)
def test_takes_of_many_numbers(take: str) -> None:
    found = read(quantity("across", "cka", take), GROUPS)
    assert found.value == pytest.approx(MATRIX_TAKES[take](MATRIX), rel=1e-14)
    replicates = GROUPS["across/vit~resnet"]["cka_replicates"].values
    wanted = [MATRIX_TAKES[take](one) for one in replicates]
    np.testing.assert_allclose(without(found, "probe").replicates, wanted, rtol=1e-12)
    assert (without(found, "probe").sizes == SIZES).all() and found.cells == 12 and found.undefined == 0


X = np.asarray([0.25, 0.5, 0.75, 1.0])
ALONG_TAKES = {
    "slope": lambda x, y: stats.linregress(x, y).slope,
    "spearman": lambda x, y: stats.spearmanr(x, y).statistic,
    "argmin": lambda x, y: x[np.argmin(y)],
    "argmax": lambda x, y: x[np.argmax(y)],
}


@pytest.mark.parametrize("take", ALONG_TAKES)
def test_takes_along_depth(take: str) -> None:
    found = read(quantity("ratio", "ratio", take, token="cls"), GROUPS)
    assert found.value == pytest.approx(ALONG_TAKES[take](X, RATIO[0, :, 0]), rel=1e-12)
    replicates = GROUPS["ratio/vit"]["ratio_replicates"].values[:, 0, :, 0]
    wanted = [ALONG_TAKES[take](X, one) for one in replicates]
    np.testing.assert_allclose(without(found, "probe").replicates, wanted, rtol=1e-10)
    assert found.units == ("px" if take == "slope" else "1")
    over_both = value("ratio", "ratio", take)
    assert over_both == pytest.approx(ALONG_TAKES[take](X, RATIO[0].mean(1)), rel=1e-12)


def test_the_coordinate_that_a_trend_goes_along() -> None:
    """Swept conditions first, then depth; the matrix along its rows; or as told."""
    depths = np.asarray([0.25, 0.5, 0.75, 1.0])
    swept = stats.linregress(depths, DRIFT[1:].mean(1)).slope
    assert value("drift", "cka", "slope") == pytest.approx(swept, rel=1e-12)
    by_depth = stats.linregress(X, DRIFT[1:].mean(0)).slope
    assert value("drift", "cka", "slope", "depth") == pytest.approx(by_depth, rel=1e-12)
    one = stats.linregress(X, DRIFT[2]).slope
    assert value("drift", "cka", "slope", condition="no_skip@blocks.0.mlp") == pytest.approx(one, rel=1e-12)
    rows = stats.linregress(X, MATRIX[0].mean(1)).slope
    assert value("across", "cka", "slope") == pytest.approx(rows, rel=1e-12)
    columns = stats.linregress([0.3, 0.6, 0.9], MATRIX[0].mean(0)).slope
    assert value("across", "cka", "slope", "depth_y") == pytest.approx(columns, rel=1e-12)


def test_conditions_of_many_places_have_no_depth_so_a_trend_goes_along_the_layers() -> None:
    """Without `each`, an ablation's condition has no one place, and all `ablated_depth` are NaN."""
    data = GROUPS["drift/vit"].assign_coords(ablated_depth=("condition", np.full(5, np.nan)))
    wanted = stats.linregress(X, DRIFT[1:].mean(0)).slope
    assert read(quantity("drift", "cka", "slope"), {"drift/vit": data}).value == pytest.approx(
        wanted, rel=1e-12
    )
    assert np.isnan(read(quantity("drift", "cka", "slope", "ablated_depth"), {"drift/vit": data}).value)


@pytest.mark.parametrize("take", ["slope", "spearman", "argmax", "first", "last"])
def test_along_a_swept_field_of_the_models(take: str) -> None:
    x, y = np.asarray([0.1, 0.3, 1.0]), np.asarray([0.5, 0.61, 0.74])
    wanted = {"first": 0.5, "last": 0.74}.get(take)
    wanted = ALONG_TAKES[take](x, y) if wanted is None else wanted
    found = read(quantity("swept", "top1", take, "train.fraction"), GROUPS)
    assert found.value == pytest.approx(wanted, rel=1e-12)
    assert without(found, "probe").replicates.shape == (BLOCKS,)


def test_ends_along_a_coordinate_are_those_of_the_coordinate() -> None:
    shuffled = {"ratio/vit": GROUPS["ratio/vit"].isel(site=[2, 0, 3, 1])}
    for take, place in (("first", 0), ("last", 3)):
        found = read(quantity("ratio", "ratio", take, "depth", token="cls"), shuffled)
        assert found.value == RATIO[0, place, 0]
    assert read(quantity("ratio", "ratio", "first", token="cls"), shuffled).value == RATIO[0, 2, 0]


@pytest.mark.parametrize(
    ("where", "kept"),
    [
        ({}, DROP[1:]),
        ({"condition": "baseline"}, DROP[:1]),
        ({"condition": "no_skip@blocks.0.mlp"}, DROP[2:3]),
        ({"condition": "no_skip@blocks.*.attn"}, DROP[[1, 3]]),
        ({"condition": "no_skip@blocks[-1].attn"}, DROP[3:4]),
        ({"condition": ["no_skip@blocks.0.*", "cut[p=0.5]@head"]}, DROP[[1, 2, 4]]),
        ({"ablation": "no_skip"}, DROP[1:4]),
        ({"ablation": ["no_skip", "cut"]}, DROP[1:]),
        ({"ablated_site": "blocks.*.attn"}, DROP[[1, 3]]),
        ({"ablated_site": "**.mlp"}, DROP[[2]]),
        ({"ablated_depth": {"from": 0.5}}, DROP[2:]),
        ({"ablated_depth": {"from": 0.5, "to": 0.75}}, DROP[2:4]),
        ({"ablated_depth": {"to": 0.5}}, DROP[1:3]),
        ({"ablated_depth": 0.75}, DROP[3:4]),
        ({"p": 0.5}, DROP[4:]),
    ],
)
def test_where_on_conditions(where: dict[str, Any], kept: np.ndarray) -> None:
    assert value("accuracy", "drop", "mean", model="vit", **where) == pytest.approx(kept.mean(), rel=1e-14)
    assert read(quantity("accuracy", "drop", model="vit", **where), GROUPS).cells == kept.size


@pytest.mark.parametrize(
    ("where", "rows", "columns"),
    [
        ({"site_x": "blocks.1"}, [1], [0, 1, 2]),
        ({"site_x": "blocks.*", "site_y": "layer1.*"}, [0, 1, 2, 3], [0, 1]),
        ({"site_x": "blocks[0:2]"}, [0, 1], [0, 1, 2]),
        ({"site_x": "blocks[-1]"}, [3], [0, 1, 2]),
        ({"site_y": "layer[2-3].*"}, [0, 1, 2, 3], [2]),
        ({"site_y": ["layer1.0", "layer2.{0,1}"]}, [0, 1, 2, 3], [0, 2]),
        ({"depth_x": {"from": 0.5, "to": 0.75}, "depth_y": {"to": 0.6}}, [1, 2], [0, 1]),
        ({"depth_x": {"to": 0.5 - 1e-12}}, [0, 1], [0, 1, 2]),
        ({"model_y": "resnet"}, [0, 1, 2, 3], [0, 1, 2]),
        ({"model": "resnet"}, [0, 1, 2, 3], [0, 1, 2]),
    ],
)
def test_where_on_sites(where: dict[str, Any], rows: list[int], columns: list[int]) -> None:
    wanted = MATRIX[0][np.ix_(rows, columns)].mean()
    assert value("across", "cka", **where) == pytest.approx(wanted, rel=1e-13)


def test_where_on_models() -> None:
    assert value("accuracy", "drop", model="resnet") == DROP[1]
    both = read(quantity("accuracy", "drop"), GROUPS)
    assert both.cells == 5 and both.value == pytest.approx((DROP[1:].sum() + DROP[1]) / 5, rel=1e-14)
    assert value("swept", "top1", model="small") == pytest.approx(np.mean([0.5, 0.61, 0.74]), rel=1e-14)
    assert value("swept", "top1", model="small[train.fraction=0.3]") == 0.61
    assert value("swept", "top1", **{"train.fraction": 0.3}) == 0.61
    assert value("swept", "top1", **{"train.fraction": {"from": 0.2}}) == pytest.approx((0.61 + 0.74) / 2)
    assert value("ratio", "ratio", branch_kind="mlp", token="cls") == pytest.approx(
        RATIO[0, [1, 3], 0].mean()
    )


def test_conditions_that_nobody_named() -> None:
    """Comparisons with the intact model: over the ablations. All else: the intact model, if it is there."""
    assert value("accuracy", "drop", model="vit") == pytest.approx(DROP[1:].mean(), rel=1e-14)
    assert value("accuracy", "top1", model="vit") == TOP1[0]
    assert value("accuracy", "top1", model="vit", condition="no_skip@*.*.*") == pytest.approx(
        TOP1[1:4].mean()
    )
    ablated = {"accuracy/vit": GROUPS["accuracy/vit"].isel(condition=[1, 2])}
    assert read(quantity("accuracy", "top1"), ablated).value == pytest.approx(TOP1[1:3].mean(), rel=1e-14)
    assert value("drift", "cka") == pytest.approx(DRIFT[1:].mean(), rel=1e-14)
    intact = {"accuracy/vit": GROUPS["accuracy/vit"].isel(condition=[0])}
    with pytest.raises(QuantityProblem, match="there is no ablation here"):
        select(quantity("accuracy", "drop"), intact)


@pytest.mark.parametrize(
    ("made", "path", "says"),
    [
        (quantity("accuracy", "dorp"), ("value",), "no value `dorp`"),
        (quantity("accuracy", "drop", site="a"), ("where", "site"), "no coordinate `site`"),
        (quantity("accuracy", "drop", model="vti"), ("where", "model"), "`model: vti`"),
        (quantity("accuracy", "drop", condition="no_skip@[["), ("where", "condition"), "no result has"),
        (quantity("accuracy", "drop", condition="other@blocks.*"), ("where", "condition"), "no result has"),
        (quantity("ratio", "ratio", depth={"from": 2.0}), ("where", "depth"), "{from: 2}"),
        (quantity("ratio", "ratio", "slope", "site"), ("along",), "`site` is not a numeric coordinate"),
        (quantity("ratio", "ratio", "last", "token"), ("along",), "`token` is not a numeric coordinate"),
        (quantity("accuracy", "top1", "slope"), ("along",), "not a numeric coordinate"),
        (quantity("swept", "top1", "slope", "model"), ("along",), "not a numeric coordinate"),
    ],
)
def test_what_the_results_do_not_have(made: Quantity, path: tuple[str, ...], says: str) -> None:
    with pytest.raises(QuantityProblem) as caught:
        select(made, GROUPS)
    assert caught.value.path == path and says in caught.value.message and any(caught.value.help)


def test_undefined_numbers_are_counted_and_spread() -> None:
    holed = GROUPS["across/vit~resnet"].copy(deep=True)
    holed["cka"][0, 1, 1] = np.nan
    groups = {"across/vit~resnet": holed}
    for take in (*MATRIX_TAKES, *ALONG_TAKES):
        found = read(quantity("across", "cka", take), groups)
        assert (found.cells, found.undefined) == (12, 1)
        assert np.isnan(found.value) or take in ("first", "last"), take
    clear = read(quantity("across", "cka", site_x=["blocks.0", "blocks.2"]), groups)
    assert clear.undefined == 0 and np.isfinite(clear.value)


def test_one_image_block_gives_a_value_and_no_replicates() -> None:
    data = GROUPS["ratio/vit"].isel(replicate=slice(0, 0))
    data.attrs["left_out"] = [43.0]
    for take in (*MATRIX_TAKES, *ALONG_TAKES):
        found = read(quantity("ratio", "ratio", take), {"ratio/vit": data})
        assert np.isfinite(found.value) and without(found, "probe").replicates.size == 0


def test_several_streams_are_left_out_one_at_a_time() -> None:
    one, other = (GROUPS["ratio/vit"].copy(deep=True) for _ in range(2))
    other = other.isel(replicate=slice(0, 4)).assign_coords(data="noise")
    other.attrs |= {"left_out": SIZES[:4]}
    other["ratio"] = other["ratio"] + 1
    found = read(quantity("ratio", "ratio"), {"ratio/vit@probe": one, "ratio/vit@noise": other})
    assert [name for name, _ in found.streams] == ["probe", "noise"]
    assert without(found, "probe").replicates.shape == (6,) and without(found, "noise").replicates.shape == (
        4,
    )
    left = one["ratio_replicates"].values.reshape(6, -1).mean(1)
    np.testing.assert_allclose(
        without(found, "probe").replicates, (left + other["ratio"].values.mean()) / 2, rtol=1e-12
    )
    kept = read(quantity("ratio", "ratio", data="noise"), {"ratio/a": one, "ratio/b": other})
    assert kept.value == pytest.approx(float(other["ratio"].mean()), rel=1e-13)
