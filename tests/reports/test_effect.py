"""Effects: what stands along the depth, what stands in a list, and the level that numbers are compared with."""

import re

import numpy as np
import pytest
import xarray as xr

from vitdsl.reports.canvas import Drawing, draw_svg, style
from vitdsl.reports.figures import effect
from vitdsl.reports.figures._base import Plot
from vitdsl.reports.figures._changes import MeanEffect
from vitdsl.reports.figures.effect import Effect
from vitdsl.reports.figures.series import Series
from vitdsl.reports.parts import Part
from vitdsl.reports.theme import LIGHT, SERIES

NAMES = {"long_name": "top-1 accuracy", "baseline_label": "chance"}


def part(model: str, values: list[float], depths: list[float], chance: float = 0.1, hue: int = 0) -> Part:
    """The intact model, and a condition for each depth."""
    names = ["baseline", *(f"cut@b{i}" for i in range(len(depths)))]
    here = np.asarray(values)
    attrs = NAMES | {"baseline_line": chance}
    data = xr.Dataset(
        {"v": ("condition", here, attrs), "v_low": ("condition", here - 0.02), "v_high": ("condition", here + 0.02)},
        {
            "condition": names, "ablation": ("condition", ["", *["cut"] * len(depths)]),
            "ablated_depth": ("condition", [np.nan, *depths]), "ablated_site": ("condition", ["", *names[1:]]),
            "model": model,
        },
    )  # fmt: skip
    return Part(f"accuracy/{model}", data, "v", hue=hue)


def drawn(plot: Plot) -> Drawing:
    (panel,) = plot.panels
    with style():
        return draw_svg(panel.draw, 860, panel.height, True)


def test_the_accuracy_of_intact_models_is_drawn_with_intervals_and_chance() -> None:
    parts = [part("vit", [0.9], []), part("resnet", [0.5], [], hue=1)]
    plot = Effect().plot("id", parts)
    assert plot.caption == "One row for each model. Bars and bands are 95 % intervals over images."
    found = drawn(plot)
    (x_vit, y_vit, said), (x_resnet, y_resnet, _) = found.marks["p"]
    assert said == "vit: intact: 0.900 [0.880, 0.920]" and y_resnet > y_vit
    assert ">chance<" in found.svg
    dashes = re.findall(r'<path d="M ([\d.]+) [\d.]+ L ([\d.]+) [^"]*"[^>]*stroke-dasharray', found.svg)
    assert len(dashes) == 2, "one piece of the level in each row"
    at = x_resnet - (x_vit - x_resnet) * (0.5 - 0.1) / (0.9 - 0.5)
    assert [float(x) for ends in dashes for x in ends] == pytest.approx([at] * 4, abs=0.2)


@pytest.mark.parametrize("without", [False, True])
def test_each_row_has_the_level_of_its_model_and_none_speaks_for_all(without: bool) -> None:
    parts = [part("vit", [0.9], [], 0.1), part("resnet", [0.5], [], 0.3, hue=1)]
    if without:
        del parts[0].array.attrs["baseline_line"]
    plot = Effect().plot("id", parts)
    svg = drawn(plot).svg
    found = re.findall(r'<path d="M ([\d.]+) [^"]*"[^>]*stroke-dasharray[^>]*stroke: (#\w+)', svg)
    own = [LIGHT[SERIES[i]] for i in range(without, 2)]
    assert [colour for _, colour in found] == own and ">chance<" not in svg
    assert sorted(found, key=lambda one: float(one[0])) == found
    assert "Dashed levels, each in its model's colour: chance." in plot.caption


@pytest.mark.parametrize("chances", [(0.1, 0.1), (0.1, 0.3), (0.1, 0.2, 0.3, 0.15)])
def test_lines_along_the_depth_have_the_level_of_each_model(chances: tuple[float, ...]) -> None:
    parts = [
        part(f"m{i}", [0.9 + i / 100, 0.4, 0.5], [0.5, 0.6], chance, hue=i)
        for i, chance in enumerate(chances)
    ]
    plot = Effect().plot("id", parts)
    svg, differ = drawn(plot).svg, len(set(chances)) > 1
    own = [LIGHT[SERIES[i]] for i in range(len(chances))] if differ else [LIGHT["muted"]]
    levels = {
        colour: float(y)
        for y, colour in re.findall(
            r'<path d="M [\d.]+ ([\d.]+) [^"]*"[^>]*stroke-dasharray: 4\.8,[^>]*stroke: (#\w+)', svg
        )
    }
    assert list(levels) == own, "each in the colour of its model; one where they agree"
    assert sorted(levels, key=lambda c: -levels[c]) == sorted(own, key=lambda c: chances[own.index(c)])
    named = [f"m{i}, chance" for i in range(len(chances))] if differ else ["chance"]
    assert all((f">{name}<" in svg) is (len(chances) <= 3) for name in named)
    assert ("Dashed levels, each in its model's colour: chance." in plot.caption) is differ


def test_single_points_of_depth_are_a_list_and_several_are_lines() -> None:
    one = [part("vit", [0.9, 0.4], [0.5]), part("resnet", [0.8, 0.7], [0.3], hue=1)]
    plot = Effect().plot("id", one)
    assert [panel.title for panel in plot.panels] == ["By condition"]
    assert [text.partition(":")[0] for *_, text in drawn(plot).marks["p"]] == [
        "vit",
        "vit",
        "resnet",
        "resnet",
    ]
    two = [part("vit", [0.9, 0.4, 0.5], [0.5, 0.6]), part("resnet", [0.8, 0.7], [0.3], hue=1)]
    assert [panel.title for panel in Effect().plot("id", two).panels] == ["Against depth"]


def test_panels_of_one_scale_hold_the_level_of_each_model() -> None:
    def lines(model: str, level: float, hue: int) -> Part:
        values = np.array([[[0.4, 0.5], [0.45, 0.55]]])
        dims = ("condition", "site", "region")
        bounds = {f"v_{end}": (dims, values) for end in ("low", "high")}
        data = xr.Dataset(
            {"v": (dims, values, {"long_name": "share", "baseline_line": level, "baseline_label": "even"}), **bounds},
            {"condition": ["baseline"], "site": ["b0", "b1"], "depth": ("site", [0.0, 1.0]), "region": ["a", "b"],
             "model": model},
        )  # fmt: skip
        return Part(f"share/{model}", data, "v", hue=hue)

    plot = Series().plot("id", [lines("vit", 0.45, 0), lines("resnet", 2.0, 1)])
    with style():
        drawings = [draw_svg(panel.draw, 860, panel.height, True).svg for panel in plot.panels]
    assert [">even<" in svg for svg in drawings] == [True, True]


def test_lines_against_a_swept_field_have_the_levels_of_their_own_models() -> None:
    """A model that was not swept stands in the list, and its level there."""
    swept = part("vit", [0.9, 0.4, 0.5, 0.6], [np.nan] * 3, 0.1)
    swept.dataset.coords["blur.strength"] = ("condition", [np.nan, 1.0, 2.0, 3.0])
    swept.dataset.coords["ablated_site"] = ("condition", ["", "b0", "b0", "b0"])
    plot = Effect().plot("id", [swept, part("resnet", [0.5], [], 0.3, hue=1)])
    (panel,) = (one for one in plot.panels if one.title == "Against strength")
    with style():
        svg = draw_svg(panel.draw, 860, panel.height, True).svg
    levels = re.findall(
        r'<path d="M [\d.]+ [\d.]+ L [^"]*"[^>]*stroke-dasharray: 4\.8,[^>]*stroke: (#\w+)', svg
    )
    assert levels == [LIGHT["muted"]] and ">chance<" in svg and "resnet" not in svg


def test_a_change_that_a_line_is_called_by_is_named_once(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [
        MeanEffect(0.5, "0.5", "vit, cut, by 0.75", "cut, by 0.75"),
        MeanEffect(0.4, "0.4", "resnet", "cut"),
    ]
    monkeypatch.setattr(effect, "mean_effects", lambda parts: found)
    (said,) = Effect().findings([part("vit", [0.9], [])])
    assert said == "Top-1 accuracy: 0.5 for vit, cut, by 0.75 and 0.4 for resnet with cut alone."
