"""The list of flipped images: what is drawn, in which words, and what is left to the table."""

import dataclasses
from typing import Any

import pytest
import xarray as xr

from vitdsl.reports.canvas import draw_svg, style
from vitdsl.reports.figures._base import figure_of
from vitdsl.reports.figures.flips import MOST_CONDITIONS, flips_of
from vitdsl.reports.parts import Part
from vitdsl.reports.render import render
from vitdsl.runtime.results.folder import Run

NAN = float("nan")


def group(conditions: int = 2, shares: Any = (0.0, 0.25)) -> xr.Dataset:
    """The intact model, and conditions with three flips of each direction and an empty line."""
    rows = {
        "image": [12, 1034, 7, NAN],
        "label": [3, 8, 1, NAN],
        "before": [3, 5, 2, NAN],
        "after": [8, 8, 4, NAN],
        "confidence_before": [0.91, 0.5, 0.4, NAN],
        "confidence_after": [0.62, 0.75, 0.3, NAN],
    }
    values: dict[str, Any] = {
        name: (("condition", "rank"), [[NAN] * 4, *[row] * (conditions - 1)], {"long_name": name})
        for name, row in rows.items()
    }
    values["flips"] = (("condition",), list(shares), {"long_name": "flips"})
    names = ["baseline", *(f"cut@blocks.{i}.mlp" for i in range(1, conditions))]
    coords = {
        "condition": names,
        "rank": [1, 2, 3, 4],
        "ablation": ("condition", ["", *["cut"] * (conditions - 1)]),
        "ablated_site": ("condition", ["", *(f"blocks.{i}.mlp" for i in range(1, conditions))]),
        "model": "vit",
    }
    attrs = {"metric": "flips", "kind": "prediction_flips", "title": "Flips"}
    return xr.Dataset(values, coords, attrs)


def part(value: str = "image", **fields: Any) -> Part:
    return Part("flips/vit", group(**fields), value)


def drawing(one: Part, wide: bool) -> Any:
    plot = figure_of(one).plot("flips-image", [one])
    (panel,) = plot.panels
    name, width, height = panel.sizes[0 if wide else 1]
    assert name == ("wide" if wide else "narrow")
    with style():
        return draw_svg(panel.draw, width, height, wide)


@pytest.mark.parametrize("wide", [True, False])
def test_the_list_holds_every_flip_in_words_and_marks(wide: bool) -> None:
    drawn = drawing(part(), wide)
    for text in ("1,034", "3 → 8", "5 → 8", "2 → 4", "cut@blocks.1.mlp: 25 % flip"):
        assert text in drawn.svg, text
    for text in ("right, then wrong", "wrong, then right", "wrong both times"):
        assert text in drawn.svg, text
    said = [text for _, _, text in drawn.marks["p"]]
    assert len(said) == 6
    assert said[0] == ("cut@blocks.1.mlp: image 12, label 3: 3 with confidence 0.91 → 8 with 0.62")


def test_words_name_the_condition_with_most_flips() -> None:
    one = part(conditions=7, shares=(0.0, 0.1, 0.5, 0.2, 0.3, 0.4, 0.15))
    plot = figure_of(one).plot("x", [one])
    assert "vit: 50.0 % of the images flip under cut@blocks.2.mlp; the strongest is image 12" in plot.takeaway
    assert f"The {MOST_CONDITIONS} conditions with most flips of 6 are drawn" in plot.caption
    drawn = drawing(one, True).svg
    assert [f"blocks.{i}.mlp" in drawn for i in range(1, 7)] == [False, True, True, True, True, False]
    assert drawn.index("blocks.2.mlp") < drawn.index("blocks.5.mlp") < drawn.index("blocks.3.mlp")


def test_what_is_listed_beside_has_a_table_alone() -> None:
    plot = figure_of(part("after")).plot("x", [part("after")])
    assert not plot.panels and "3 numbers between 4.00 and 8.00" in plot.takeaway
    alone = Part("odd/vit", group()[["image"]], "image")
    assert figure_of(alone).name == "flips" and not figure_of(alone).plot("x", [alone]).panels


def test_without_a_flip_there_is_nothing_to_draw() -> None:
    one = part(conditions=1, shares=(0.0,))
    plot = figure_of(one).plot("x", [one])
    assert not plot.panels and "no image changes its answer" in plot.takeaway
    assert flips_of(one, 0) == [] and not plot.open


def test_it_stands_on_the_page(run: Run) -> None:
    record = next(iter(run.manifest.metrics.values())).model_copy(update={"kind": "prediction_flips"})
    manifest = run.manifest.updated(metrics={"flips": record}, claims={})
    page = render(dataclasses.replace(run, groups={"flips/vit": group()}, manifest=manifest))
    folded = page.index('<details class="more">')
    assert page.index('id="flips-image"') < folded < page.index('id="flips-after"')
    assert "the strongest is image 12" in page
