"""Maps of single tokens, subsets against what orders them, and lines of sites with one thing more."""

import re

import numpy as np
import pytest
import xarray as xr

from vitdsl.reports.canvas import draw_svg, style
from vitdsl.reports.figures._base import Plot, figure_of, told_apart
from vitdsl.reports.parts import Part

ARROW = "\N{RIGHTWARDS ARROW}"


def part_of(value: str, sites: int = 2, side: int = 3, subsets: int = 4, layers: int = 2) -> Part:
    """A value of one group that has a map, a rate, a similarity of subsets and their order."""
    tokens = [f"{row},{col}" for row in range(side) for col in range(side)]
    maps = np.full((1, sites, side**2, side, side), 0.1)
    for i in range(side**2):
        maps[0, :, i, i // side, i % side] = 0.9
    similarity = np.linspace(0.8, 0.2, subsets)[None, None, :, None] + np.zeros((1, sites, subsets, layers))
    values = {
        "map": (
            ("condition", "site", "token", "row", "col"),
            maps,
            {"long_name": "likeness", "valid_max": 1.0},
        ),
        "control": (("condition", "token", "row", "col"), maps[:, 0], {"long_name": "control"}),
        "rate": (
            ("condition", "site", "region"),
            np.array([[[1.0, 0.5]] * sites]),
            {
                "long_name": "hits",
                "valid_min": 0.0,
                "valid_max": 1.0,
                "baseline_line": 0.02,
                "baseline_label": "chance",
            },
        ),
        "cka": (("condition", "site", "subset", "site_y"), similarity, {"long_name": "similarity"}),
        "reach": (
            ("condition", "site", "subset"),
            np.linspace(10, 90, subsets)[None, None] + np.zeros((1, sites, subsets)),
            {"long_name": "reach", "units": "px"},
        ),
    }
    coords = {
        "site": [f"blocks.{i}" for i in range(sites)],
        "site_y": [f"layer{i}" for i in range(layers)],
        "token": tokens,
        "region": ["interior", "edge"],
        "model_x": "vit",
        "model_y": "resnet",
    }
    return Part("x/vit~resnet", xr.Dataset(values, coords), value)


def drawn(*parts: Part, panel: int = 0) -> tuple[str, Plot, str]:
    """The figure's name, the plot, and one panel of it."""
    figure = figure_of(parts[0])
    plot = figure.plot("id", told_apart(parts))
    with style():
        return figure.name, plot, draw_svg(plot.shown[panel].draw, 420, plot.shown[panel].height, True).svg


def texts(svg: str) -> list[str]:
    return re.findall(r"<text [^>]*>([^<]*)</text>", svg)


@pytest.mark.parametrize(("value", "panels"), [("map", 2), ("control", 1)])
def test_a_map_for_each_token_with_its_place_marked(value: str, panels: int) -> None:
    name, plot, svg = drawn(part_of(value))
    assert name == "places" and len(plot.shown) == panels
    assert [text for text in texts(svg) if text.startswith("(")] == [
        f"({r}, {c})" for r in range(3) for c in range(3)
    ]
    assert svg.count("<image") == 9 and svg.count("stroke: #ffffff; stroke-width: 1.4") == 9
    assert "0.900 at a token's own place, 0.100 beside it, 0.100 elsewhere" in plot.takeaway
    assert "drawn" not in plot.caption


def test_many_tokens_and_sites_are_cut_evenly() -> None:
    _, plot, svg = drawn(part_of("map", sites=7, side=7), panel=1)
    assert [panel.title for panel in plot.shown] == [f"vit and resnet, blocks.{i}" for i in (0, 3, 6)]
    assert svg.count("<image") == 16 and {"(0, 0)", "(2, 4)", "(6, 6)"} <= set(texts(svg))
    assert (
        "Some of up to 49 tokens are drawn" in plot.caption and "3 sites of a model are drawn" in plot.caption
    )


def test_tokens_without_places_are_no_places() -> None:
    part = part_of("control")
    other = part.dataset.assign_coords(token=[f"t{i}" for i in range(9)])
    assert figure_of(Part(part.path, other, "control")).name == "table"


def test_subsets_stand_where_their_order_says() -> None:
    name, plot, svg = drawn(part_of("cka"))
    assert name == "subsets" and [panel.title for panel in plot.shown] == ["vit, blocks.0", "vit, blocks.1"]
    assert {"layer0", "layer1", "reach (px)"} <= set(texts(svg)) and {"20", "80"} <= set(texts(svg))
    assert f"vit, blocks.0: layer0 0.800 {ARROW} 0.200; layer1 0.800 {ARROW} 0.200." in plot.takeaway
    assert "against reach" in plot.caption
    part = part_of("cka", sites=9, layers=8)
    bare = Part(part.path, part.dataset.drop_vars("reach"), "cka")
    _, plot, svg = drawn(bare)
    assert len(plot.shown) == 4 and "subset" in texts(svg)
    assert "4 of 9 sites" in plot.caption and "6 of 8 lines" in plot.caption


def test_a_line_for_each_region_over_the_whole_range() -> None:
    name, plot, svg = drawn(part_of("rate"))
    assert name == "series" and {"interior", "edge", "chance", "0.0", "1.0"} <= set(texts(svg))
    assert f"interior 1.00 {ARROW} 1.00; edge 0.500 {ARROW} 0.500." in plot.takeaway
    assert "a line for each region" in plot.caption
    name, plot, svg = drawn(part_of("reach", subsets=9))
    assert name == "series" and "6 of 9 lines" in plot.caption and "subset 0" in texts(svg)
