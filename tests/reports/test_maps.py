"""Small maps, one for each site: which are drawn, on which scale, under which name, and what is said of them."""

import dataclasses
import re
from types import ModuleType

import numpy as np
import pytest
import xarray as xr

from vitdsl.reports.canvas import draw_svg, style
from vitdsl.reports.figures._base import Plot, figure_of, told_apart
from vitdsl.reports.figures.maps import half_of, in_lines
from vitdsl.reports.parts import Part
from vitdsl.reports.render import render
from vitdsl.reports.sections import plots, sections
from vitdsl.runtime.results.folder import Run


@pytest.fixture(scope="module")
def fields(made: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of receptive fields."""
    built: Run = made.fields(tmp_path_factory.mktemp("fields"))
    return built


def part_of(values: np.ndarray, names: list[str] | None = None, **attrs: object) -> Part:
    sites, rows, cols = values.shape
    coords = {
        "site": names or [f"blocks.{i}" for i in range(sites)],
        "row": np.arange(rows) * 4,
        "col": np.arange(cols) * 4,
        "model": "vit",
    }
    meaning = {"long_name": "gradient", "units": "1", **attrs}
    found = xr.Dataset({"map": (("condition", "site", "row", "col"), values[None], meaning)}, coords)
    return Part("field/vit", found, "map")


def drawn(*parts: Part) -> tuple[Plot, str]:
    """The plot, and its first panel on a wide page."""
    plot = figure_of(parts[0]).plot("id", parts)
    with style():
        return plot, draw_svg(plot.shown[0].draw, 860, plot.shown[0].height, True).svg


def bar(plot: Plot) -> str:
    """The colour scale above the first panel."""
    assert plot.panels[0].bar
    with style():
        return draw_svg(plot.panels[0].draw, 860, plot.panels[0].height, True).svg


def texts(svg: str) -> list[str]:
    return re.findall(r"<text [^>]*>([^<]*)</text>", svg)


def peaked(sites: int, spread: float = 100.0, rows: int = 8, cols: int = 8) -> np.ndarray:
    found = np.ones((sites, rows, cols))
    found[:, rows // 2, cols // 2] = spread
    return found


def test_a_metric_of_maps_has_a_section_of_maps_and_profiles(fields: Run) -> None:
    (section,) = sections(fields)
    assert section.title == "What the centre of each layer depends on"
    found = {plot.id: plot for plot in plots(section)}
    names = {name: figure_of(parts[0]).name for name, parts in section.values.items()}
    assert names.pop("map") == "maps" and set(names.values()) == {"profile"}
    assert [plot.title for plot in found.values()] == [
        "Mean absolute gradient of the centre",
        "Gradient in the centre's own patch",
        "Radius that holds half of the gradient",
        "Radius that holds 90 % of the gradient",
        "Pixels of an even field as concentrated",
        "Root of the pixels above 4.55 % of the largest",
    ]
    assert [panel.title for panel in found["field-map"].shown] == ["vit", "resnet"]
    page = render(fields)
    assert len(page.encode()) < 1_500_000 and page.count('data-marks="field-map-') == 4


@pytest.mark.parametrize(("sites", "first"), [(1, [0]), (5, [0, 1, 2, 3, 4]), (12, list(range(12)))])
def test_all_of_few_sites_are_drawn(sites: int, first: list[int]) -> None:
    plot, svg = drawn(part_of(peaked(sites)))
    assert [text for text in texts(svg) if text.startswith("blocks")] == [f"blocks.{i}" for i in first]
    assert "are drawn" not in plot.caption and svg.count("<image") == sites


def test_of_many_sites_twelve_are_drawn_the_ends_among_them() -> None:
    plot, svg = drawn(part_of(peaked(25)))
    names = [int(text.partition(".")[2]) for text in texts(svg) if text.startswith("blocks")]
    assert len(names) == 12 and (names[0], names[-1]) == (0, 24)
    assert set(np.diff(names)) <= {2, 3}
    assert "12 of 25 sites are drawn, evenly spaced; the data has all." in plot.caption


def test_colours_are_logarithmic_where_few_values_tower() -> None:
    plot, _ = drawn(part_of(peaked(2, 100.0)))
    assert "One colour scale for all maps, logarithmic." in plot.caption
    assert {"1", "10", "100"} <= set(texts(bar(plot)))
    plot, _ = drawn(part_of(peaked(2, 3.0)))
    assert "One colour scale for all maps." in plot.caption and "gradient" in texts(bar(plot))
    small = peaked(2, 100.0) * 1e-6
    small[0, 0] = 0.0
    plot, _ = drawn(part_of(small))
    assert "logarithmic; smaller values, zero among them, have the darkest colour." in plot.caption
    assert {"10⁻⁶", "10⁻⁵", "10⁻⁴"} <= set(texts(bar(plot)))


def test_all_groups_share_one_scale() -> None:
    low, high = part_of(peaked(2, 3.0) * 1e-3), part_of(peaked(2, 3.0))
    plot = figure_of(low).plot("id", [low, high])
    with style():
        scales = [
            [t for t in texts(draw_svg(panel.draw, 860, panel.height, True).svg) if "blocks" not in t]
            for panel in plot.shown
        ]
    assert scales[0] == scales[1] and len(scales[0]) > 3


def test_pixels_and_proportions() -> None:
    plot, svg = drawn(part_of(peaked(3, rows=6, cols=12)))
    assert {"48 px", "24"} <= set(texts(svg))
    square, _ = drawn(part_of(peaked(3, rows=12, cols=12)))
    assert square.shown[0].height > plot.shown[0].height


def test_names_are_never_cut() -> None:
    long = [f"stages.{i}.transformer_blocks.0.attention_window" for i in range(12)]
    for wide, width in ((True, 860), (False, 380)):
        plot = figure_of(part_of(peaked(12), long)).plot("id", [part_of(peaked(12), long)])
        height = plot.shown[0].height if wide else plot.shown[0].narrow_height
        with style():
            svg = draw_svg(plot.shown[0].draw, width, height, wide).svg
        assert "".join(t for t in texts(svg) if not re.fullmatch(r"[\d.]*\d( px)?|gradient", t)) == "".join(
            long
        )
    assert in_lines("blocks.0.attn", 9) == ["blocks.0.", "attn"]
    assert in_lines("abcdefgh.x", 5) == ["abcde", "fgh.", "x"]
    assert in_lines("a.transformer_blocks.0.attn", 14) == ["a.transformer_", "blocks.0.attn"]
    assert in_lines("blocks.0", 20) == ["blocks.0"]


def test_what_is_said_is_in_the_numbers() -> None:
    values = np.zeros((3, 10, 10))
    values[0, 5, 5] = 1.0
    values[1] = 1.0
    values[2, :5] = 1.0
    plot, _ = drawn(part_of(values))
    assert plot.takeaway == (
        "Gradient: half of it lies within this share of the image.\n"
        "vit: 1.0 % at blocks.0 and 25 % at blocks.2; most, 50 %, at blocks.1."
    )
    assert half_of(np.full((4, 4), 2.0)) == 0.5
    assert np.isnan(half_of(np.zeros((4, 4)))) and np.isnan(half_of(np.full((4, 4), np.nan)))


def test_negative_and_undefined_values() -> None:
    values = peaked(2, 3.0)
    values[0, 0] = -1.0
    values[1] = np.nan
    plot, svg = drawn(part_of(values))
    assert plot.takeaway.endswith(f"vit: {chr(0x2212)}1.00 to 3.00.") and "logarithmic" not in plot.caption
    assert svg.count("<image") == 2 and "not defined" in texts(bar(plot))
    nothing = figure_of(part_of(values)).plot("id", [part_of(np.full((2, 4, 4), np.nan))])
    assert nothing.shown == () and "defined" in nothing.takeaway


def test_two_metrics_of_one_model_are_told_apart(fields: Run) -> None:
    both = [Part(f"{name}/vit", fields.groups["field/vit"].assign_attrs(metric=name), "map") for name in "ab"]
    plot = figure_of(both[0]).plot("id", told_apart(both))
    assert [panel.title for panel in plot.shown] == ["vit, a", "vit, b"]
    assert "\nvit, a: " in plot.takeaway and "\nvit, b: " in plot.takeaway


def test_a_condition_beside_the_first_is_a_map_of_sizes(fields: Run) -> None:
    """Changes of a map cancel over its pixels: their sizes are drawn, on a scale from 0."""
    group = fields.groups["field/vit"]
    moved = group.assign_coords(condition=["no_skip@blocks.3"], ablation=("condition", ["no_skip"]))
    moved = moved.assign(map=moved["map"] * 1.5)
    text = render(dataclasses.replace(fields, groups={"field/vit": xr.concat([group, moved], "condition")}))
    assert "first of 2 conditions" not in text and "Change in vit" in text
    assert "size of the change of mean absolute gradient" in text
    assert "mean over places" in text
