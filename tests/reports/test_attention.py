"""Pictures of attention: which blocks, heads and images are drawn, on which scale, and what is said of them."""

import re

import numpy as np
import pytest
import xarray as xr

from vitdsl.reports.canvas import draw_svg, style
from vitdsl.reports.figures._attention import some, tight_scale
from vitdsl.reports.figures._base import Plot, figure_of
from vitdsl.reports.parts import Part


def group_of(
    sites: int = 3, heads: int = 3, images: int = 2, *, query: str = "class token", model: str = "vit"
) -> xr.Dataset:
    """Maps of 4 x 6 patches of 8 pixels, and images of 16 x 24 cells."""
    rng = np.random.default_rng(0)
    some = rng.dirichlet(np.full(24, 0.5), (1, sites, heads, images)).reshape(1, sites, heads, images, 4, 6)
    means = {"long_name": "mean attention", "units": "1"}
    return xr.Dataset(
        {
            "map": (("condition", "site", "head", "row", "col"), some.mean(3), means),
            "example": (
                ("condition", "site", "head", "image", "row", "col"),
                some,
                {**means, "long_name": "attention of images"},
            ),
            "seen": (
                ("condition", "image", "pixel_row", "pixel_col", "rgb"),
                rng.random((1, images, 16, 24, 3)),
                {**means, "long_name": "images"},
            ),
        },
        {
            "condition": ["baseline"], "site": [f"blocks.{i}.attn" for i in range(sites)],
            "head": range(heads), "image": range(images), "row": np.arange(4) * 8, "col": np.arange(6) * 8,
            "query": [query], "model": model,
        },
        {"metric": "looks"},
    )  # fmt: skip


def drawn(value: str, *groups: xr.Dataset, panel: int = 0, wide: bool = True) -> tuple[Plot, str]:
    parts = [Part(f"looks/{group['model'].item()}", group, value) for group in groups]
    figure = figure_of(parts[0])
    assert figure.name == "attention"
    plot = figure.plot("id", parts)
    one = plot.shown[panel]
    with style():
        svg = draw_svg(one.draw, *((860, one.height) if wide else (380, one.narrow_height)), wide).svg
    return plot, svg


def bar(plot: Plot) -> str:
    """The colour scale above the first panel."""
    assert plot.panels[0].bar
    with style():
        return draw_svg(plot.panels[0].draw, 860, plot.panels[0].height, True).svg


def texts(svg: str) -> list[str]:
    return re.findall(r"<text [^>]*>([^<]*)</text>", svg)


def named(svg: str, word: str) -> list[int]:
    return [int(text.split()[1]) for text in texts(svg) if text.startswith(word)]


@pytest.mark.parametrize(("wide", "heads"), [(True, [0, 2, 3, 5, 6, 8, 9, 11]), (False, [0, 4, 7, 11])])
def test_blocks_and_heads_are_evenly_spaced_with_the_ends(wide: bool, heads: list[int]) -> None:
    plot, svg = drawn("map", group_of(12, 12), wide=wide)
    assert named(svg, "head") == heads and named(svg, "block") == [0, 2, 4, 7, 9, 11]
    assert svg.count("<image") == 6 * len(heads)
    said = "Drawn: 6 of 12 blocks and 8 of 12 heads (4 on a narrow page), evenly spaced; the data has all."
    assert said in plot.caption and "Query: class token." in plot.caption
    assert some(3, 6) == [0, 1, 2] and some(1, 6) == [0]


def test_few_blocks_and_heads_are_all_drawn() -> None:
    plot, svg = drawn("map", group_of(3, 3))
    assert named(svg, "head") == [0, 1, 2] and named(svg, "block") == [0, 1, 2]
    assert "Drawn" not in plot.caption


def test_single_images_stand_beside_their_maps_and_below_the_means() -> None:
    group = group_of(5, 12, 8)
    plot, svg = drawn("example", group)
    assert [panel.title for panel in plot.shown] == [f"vit, blocks.{i}.attn" for i in (0, 2, 4)]
    assert named(svg, "image ") == [0, 1, 3, 4, 6, 7] and len(named(svg, "head")) == 7
    assert svg.count("<image") == 6 * (1 + 7)
    assert "3 of 5 blocks, 7 of 12 heads (3 on a narrow page) and 6 of 8 images" in plot.caption
    means, below = drawn("map", group, panel=1)
    assert [panel.title for panel in means.shown] == ["vit", "vit, blocks.4.attn"]
    assert below.count("<image") == svg.count("<image") and "Below: single images" in means.caption
    alone, _ = drawn("map", group.drop_vars(["example", "seen"]))
    assert len(alone.shown) == 1 and "Below" not in alone.caption


def test_images_that_are_not_there_leave_their_place_hatched() -> None:
    group = group_of(1, 2, 3)
    group["example"][:, :, :, 2], group["seen"][:, 2] = np.nan, np.nan
    assert drawn("example", group)[1].count("<image") == 3 * 2 + 2, "an undefined map is drawn as nothing"
    assert drawn("seen", group)[1].count("<image") == 2


def test_the_images_alone_once_for_each_model() -> None:
    plot, svg = drawn("seen", group_of(images=4), group_of(images=4), group_of(images=4, model="deit"))
    assert [panel.title for panel in plot.shown] == ["vit", "deit"]
    assert named(svg, "image") == [0, 1, 2, 3] and svg.count("<image") == 4
    assert plot.takeaway == "The first 4 images of the stream."


def test_a_query_in_the_image_is_outlined_and_named() -> None:
    _, plain = drawn("map", group_of())
    plot, outlined = drawn("map", group_of(query="patch at row 1, column 5"), group_of())
    assert outlined.count("#c04a02") == 9 and "#c04a02" not in plain
    assert "Query: patch at row 1, column 5 and class token. The outlined patch is the query." in plot.caption
    assert [panel.title for panel in plot.shown][::2] == [
        "vit, patch at row 1, column 5",
        "vit, class token",
    ]


def test_what_is_said_is_in_the_numbers() -> None:
    group = group_of(2, 2, 1)
    maps = np.zeros((2, 2, 4, 6))
    maps[0, 0], maps[0, 1, 0, :4] = 1 / 24, 1 / 4
    maps[1, :, 2, 2] = 1.0
    group["map"][0], group["example"][0, :, :, 0] = maps, maps
    assert drawn("map", group)[0].takeaway == (
        "Mean attention: half of what goes to patches lies within this share of the image, from the sharpest head "
        "to the widest.\nvit: 8.3 % to 50 % at blocks.0.attn and 4.2 % to 4.2 % at blocks.1.attn."
    )
    assert drawn("example", group)[0].takeaway.endswith(
        "vit: 29 % at blocks.0.attn and 4.2 % at blocks.1.attn."
    )


def test_a_logarithmic_scale_ends_with_the_largest_weight() -> None:
    group = group_of()
    part = Part("looks/vit", group, "map")
    peaked = np.full((4, 6), 1e-3)
    peaked[0, 0], peaked[0, 1] = 0.3, 1e-6
    scale = tight_scale([peaked], [part])
    assert scale.logarithmic and scale.cut and scale.ends.high == pytest.approx(np.log10(0.3))
    assert scale.ends.high - scale.ends.low == pytest.approx(2.5)
    assert not tight_scale([np.full((4, 6), 0.04)], [part]).logarithmic
    group["map"][:] = peaked
    plot, svg = drawn("map", group)
    assert {"0.001", "0.01", "0.1"} <= set(texts(bar(plot))) and "logarithmic; smaller values" in plot.caption
    assert "0" not in texts(svg) and "1" not in texts(svg)


def test_nothing_defined() -> None:
    group = group_of()
    group["map"][:], group["example"][:] = np.nan, np.nan
    for value in ("map", "example"):
        part = Part("looks/vit", group, value)
        plot = figure_of(part).plot("id", [part])
        assert plot.shown == () and "defined" in plot.takeaway
