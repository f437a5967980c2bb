"""What conditions change: numbers against loops in float64, and the maps that show them, for any dimensions."""

from dataclasses import replace

import numpy as np
import pytest
import xarray as xr
from scipy import stats

from vitdsl.reports.canvas import draw_svg, style
from vitdsl.reports.changed import change_of, compares
from vitdsl.reports.figures._base import Plot, figure_of, told_apart
from vitdsl.reports.figures._conditions import MOST_LABELS, intact, plot_of
from vitdsl.reports.figures._scales import scale_of_changes
from vitdsl.reports.figures._tiles import MOST_TILES
from vitdsl.reports.labels import estimate
from vitdsl.reports.parts import Part
from vitdsl.reports.tables import records, to_table

PARTS = 5


def _part(
    sizes: dict[str, int], conditions: int = 4, *, baseline: bool = True, seed: int = 0, **attrs
) -> Part:
    """A part of random numbers with so many conditions, the first the intact model."""
    rng = np.random.default_rng(seed)
    dims, shape = ("condition", *sizes), (conditions, *sizes.values())
    values = rng.standard_normal(shape)
    without = values + 0.1 * rng.standard_normal((PARTS, *shape))
    ids = ["baseline" if baseline and not i else f"cut@blocks.{i}" for i in range(conditions)]
    data = xr.Dataset(
        {
            "v": (dims, values, {"long_name": "size", "units": "px", **attrs}),
            "v_replicates": (("replicate", *dims), without),
        },
        {
            "condition": ids,
            "ablation": ("condition", ["" if one == "baseline" else "cut" for one in ids]),
            "ablated_site": ("condition", ["" if one == "baseline" else one[4:] for one in ids]),
            "ablated_depth": (
                "condition",
                [np.nan if one == "baseline" else i / 9 for i, one in enumerate(ids)],
            ),
            "model": "vit",
            **{dim: [f"blocks.{i}" for i in range(size)] for dim, size in sizes.items() if "site" in dim},
            **({"token": ["cls", "spatial", "registers", "x"][: sizes["token"]]} if "token" in sizes else {}),
        },
        {"metric": "m", "kind": "k", "left_out": [8] * PARTS},
    )
    return Part("m/vit", data, "v")


def _plot(*parts: Part) -> Plot:
    return plot_of(figure_of(parts[0]), "id", told_apart(parts))


def _maps(plot: Plot) -> list:
    """Marks of every map of conditions."""
    with style():
        drawn = [
            draw_svg(p.draw, 430, p.height, False).marks
            for p in plot.panels
            if p.title.startswith("Change in")
        ]
    return [marks["g"] for marks in drawn]


def test_the_change_is_the_difference_on_the_same_images() -> None:
    part = _part({"site": 3, "head": 2})
    values, without = part.array.values, part.dataset["v_replicates"].values
    change, low, high = change_of(part, ["head"])
    for c in range(4):
        for s in range(3):
            here = np.mean([values[c, s, h] - values[0, s, h] for h in range(2)])
            each = [np.mean([w[c, s, h] - w[0, s, h] for h in range(2)]) for w in without]
            pseudo = [PARTS * here - (PARTS - 1) * one for one in each]
            error = np.std(pseudo, ddof=1) / np.sqrt(PARTS)
            reach = stats.t.ppf(0.975, PARTS - 1) * error
            assert change[c, s] == pytest.approx(here, abs=1e-12)
            assert (low[c, s], high[c, s]) == pytest.approx((here - reach, here + reach), abs=1e-9)


def test_sizes_do_not_cancel_and_have_no_interval() -> None:
    part = _part({"site": 2, "row": 3, "col": 3})
    change, low, _ = change_of(part, ["row", "col"], size=True)
    expected = np.abs(part.array.values - part.array.values[:1]).mean((2, 3))
    assert change == pytest.approx(expected, abs=1e-12) and np.isnan(low).all()


def test_undefined_numbers_leave_the_mean_of_the_others() -> None:
    part = _part({"site": 2, "head": 2})
    part.dataset["v"].values[1, 0, 0] = np.nan
    part.dataset["v"].values[2, 0, :] = np.nan
    change, *_ = change_of(part, ["head"])
    values = part.dataset["v"].values
    assert change[1, 0] == pytest.approx(values[1, 0, 1] - values[0, 0, 1]) and np.isnan(change[2, 0])


def test_each_token_has_a_map_and_its_cells_say_number_interval_and_unit() -> None:
    part = _part({"site": 3, "token": 2})
    plot = _plot(part)
    assert [p.title for p in plot.shown][1:] == [
        "Change in vit, CLS, cut",
        "Change in vit, spatial, cut",
    ]
    assert sum(p.bar for p in plot.panels) == 1 and plot.parts[0].array.sizes["condition"] == 4
    change, low, high = change_of(part)
    for token, (_, rows, columns, texts) in enumerate(_maps(plot)):
        assert rows == ["cut@blocks.1", "cut@blocks.2", "cut@blocks.3"] and columns == part.names()
        for i in range(3):
            for j in range(3):
                here = (float(one[i + 1, j, token]) for one in (change, low, high))
                assert texts[i][j] == estimate(*here, "px")


@pytest.mark.parametrize(
    "sizes",
    [{"site": 3, "head": 6}, {"site": 3, "token": MOST_LABELS}, {"site": 3}, {"site": 2, "frequency": 5}],
)
def test_no_condition_is_left_out(sizes: dict[str, int]) -> None:
    plot = _plot(_part(sizes, 7))
    assert all(len(rows) == 6 for _, rows, _, _ in _maps(plot))
    assert "first of" not in plot.caption and "on average" in plot.takeaway


def test_many_maps_become_fewer() -> None:
    """Nine tokens' maps are no figure: models with several tokens show their mean."""
    parts = []
    for i in range(5):
        part = _part({"site": 3, "token": 2}, seed=i)
        parts.append(
            replace(part, dataset=part.dataset.assign_coords(model=f"m{i}"), path=f"m/m{i}", label=f"m{i}")
        )
    plot = _plot(*parts)
    assert [p.title for p in plot.panels if p.title.startswith("Change")] == [
        f"Change in m{i}, cut" for i in range(5)
    ]


def test_equal_conditions_have_no_map() -> None:
    part = _part({"site": 3, "token": 2})
    part.dataset["v"].values[:] = part.dataset["v"].values[:1]
    plot = _plot(part)
    assert not _maps(plot) and "no condition changes it" in plot.takeaway


def test_without_the_intact_model_the_numbers_themselves_are_drawn() -> None:
    part = _part({"site": 3, "token": 2}, baseline=False)
    assert intact(part) is None and not compares(part)
    plot = _plot(part)
    assert [p.title for p in plot.shown] == ["vit, CLS, cut", "vit, spatial, cut"]
    assert plot.takeaway == "Size, by condition."


def test_a_lone_condition_is_called_by_its_name() -> None:
    part = _part({"site": 3}, 1, baseline=False)
    found = intact(part)
    assert found is not None and found.label == "vit, cut@blocks.0"


@pytest.mark.parametrize("conditions", [5, MOST_TILES + 2])
def test_matrices_of_many_conditions(conditions: int) -> None:
    """A tile for each condition; where they are too many, a row for each, mean over the sites of y."""
    plot = _plot(_part({"site_x": 4, "site_y": 4}, conditions))
    titles = [p.title for p in plot.shown]
    if conditions == 5:
        assert titles == ["vit", "vit, cut: one map for each condition"]
        with style():
            marks = draw_svg(plot.panels[-1].draw, 860, plot.panels[-1].height, True).marks["p"]
        assert [text.partition(":")[0] for *_, text in marks] == [f"cut@blocks.{i}" for i in range(1, 5)]
    else:
        assert titles == ["vit", "Change in vit, cut"]
        ((_, rows, _, _),) = _maps(plot)
        assert len(rows) == conditions - 1 and "mean over sites of vit" in plot.caption


def test_the_scale_is_about_zero_and_towers_do_not_stretch_it() -> None:
    rng = np.random.default_rng(0)
    plain = scale_of_changes([rng.standard_normal(500)])
    assert plain.low == -plain.high and plain.diverging and not plain.cut
    tower = scale_of_changes([np.append(rng.standard_normal(500), 1e4)])
    assert tower.cut and tower.high < 5 and "beyond the ends" in tower.words
    assert scale_of_changes([np.array([0.2, 0.9])], sizes=True).low == 0


def test_the_data_has_each_change_with_its_interval() -> None:
    part = _part({"site": 2}, 3)
    change, low, high = change_of(part)
    rows = list(records([part]))
    for row in rows:
        c, s = part.conditions.index(row["condition"]), part.names().index(row["site"])
        found = (row["change"], row["change_low"], row["change_high"])
        if c:
            assert found == (change[c, s], low[c, s], high[c, s])
        else:
            assert np.isnan(found).all()
    table = to_table(rows)
    assert table.columns[-2:] == ("change from the intact model", "its 95 % interval")
    assert all(len(row) == len(table.columns) == len(table.numeric) for row in table.rows)
