"""Labels of lines and levels: none over another, those that moved tied to what they name; strips of units; axes."""

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.text import Text

from vitdsl.reports.canvas import Sheet, draw_svg, style, without_bare_groups
from vitdsl.reports.figures._by_depth import alike, even
from vitdsl.reports.figures._labels import Level, apart, label_inside, label_lines
from vitdsl.reports.figures._lines import Line, log_axis
from vitdsl.reports.figures._strip import draw_strip, end_of, rows_of
from vitdsl.reports.figures.effect import Effect
from vitdsl.reports.labels import plain
from vitdsl.reports.parts import Part

NOTHING = np.full(3, np.nan)


def _line(label: str, end: float, colour: int = 0) -> Line:
    y = np.array([0.2, 0.5, end])
    return Line(label, np.array([0.0, 0.5, 0.94]), y, NOTHING, NOTHING, colour, names=("a", "b", "c"))


def _drawn(lines: list[Line], levels: list[Level], *, direct: bool) -> tuple[list, str]:
    """Boxes of the texts beside the axes, and the drawing."""
    boxes: list = []

    def draw(sheet: Sheet, wide: bool) -> None:
        axes = sheet.subplots()
        axes.set_ylim(0, 1)
        for line in lines:
            axes.plot(line.x, line.y, label=line.label)
        label_lines(sheet, axes, lines, direct=direct, levels=levels)
        sheet.settle()
        found = [text for text in axes.texts if text.get_text()]
        boxes.extend((text.get_text(), Text.get_window_extent(text), text.arrow_patch) for text in found)

    with style():
        return boxes, draw_svg(draw, 860, 350, direct).svg


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0.03, 0.1)), min_size=1, max_size=7))
def test_placed_labels_are_apart_and_in_order(some: list[tuple[float, float]]) -> None:
    at, heights = np.array(some).T
    found = apart(at, heights)
    order = np.argsort(at, kind="stable")
    gaps = np.diff(found[order])
    assert (gaps >= (heights[order][1:] + heights[order][:-1]) / 2 - 1e-3).all()


def test_a_level_takes_part_in_the_placing_of_labels() -> None:
    boxes, _ = _drawn(
        [_line("one", 0.9), _line("two", 0.895, 1)], [Level(0.9, "down to chance")], direct=True
    )
    assert [text for text, _, _ in boxes] == ["one", "two", "down to chance"]
    spans = sorted((box.y0, box.y1) for _, box, _ in boxes)
    assert all(low >= high - 2 for (_, high), (low, _) in zip(spans, spans[1:], strict=False))
    assert all(box.x0 > 700 for _, box, _ in boxes), "no label stands over the lines"
    ties = [tie for *_, tie in boxes if tie is not None]
    assert len(ties) == 2, "those that moved are tied, the one in the middle is not"


def test_labels_far_apart_stay_at_their_ends() -> None:
    boxes, _ = _drawn([_line("one", 0.9), _line("two", 0.2, 1)], [], direct=True)
    assert all(tie is None for *_, tie in boxes)


def test_without_room_levels_are_named_in_the_legend() -> None:
    boxes, svg = _drawn([_line("one", 0.9)], [Level(0.5, "chance"), Level(7.0, "far away")], direct=False)
    assert not boxes and ">chance<" in svg and "far away" not in svg


@pytest.mark.parametrize(("y", "above"), [(0.6, False), (0.4, True)])
def test_a_level_within_axes_is_named_where_no_line_is(y: float, above: bool) -> None:
    sheet = Sheet(400, 300)
    axes = sheet.subplots()
    axes.set_ylim(0, 1)
    line = Line("", np.array([0.0, 1.0]), np.array([y, y]), NOTHING[:2], NOTHING[:2])
    label_inside(axes, Level(0.5, "chance"), [line])
    (text,) = axes.texts
    assert (text.get_va() == "bottom") is above


def test_a_strip_has_a_cell_for_each_unit_coloured_about_the_intact_model() -> None:
    lines = [_line("attn", 0.9), _line("mlp", 0.1, 1)]
    assert rows_of(lines) and not rows_of([_line("attn", np.nan)])
    assert end_of(lines, [0.2, 0.2]) == pytest.approx(0.7)
    sheet = Sheet(400, 100)
    axes = sheet.subplots()
    draw_strip(axes, lines, [0.2, 0.2], wide=True)
    assert [label.get_text() for label in axes.get_yticklabels()] == ["attn", "mlp"]
    assert [text.get_text() for text in axes.texts] == ["0.20", "0.50", "0.90", "0.20", "0.50", "0.10"]
    image = np.asarray(axes.images[0].get_array())[0]
    assert image[0] == pytest.approx(0) and image[-1] == pytest.approx(0.7)
    assert axes.images[0].norm.vmin == -axes.images[0].norm.vmax


def test_a_sweep_of_units_says_how_its_strip_is_read() -> None:
    depth = np.array([np.nan, 0.2, 0.6, 1.0])
    data = xr.Dataset(
        {"v": ("condition", np.array([0.9, 0.5, 0.7, 0.2]), {"long_name": "accuracy"})},
        {
            "condition": ["baseline", "a", "b", "c"],
            "ablation": ("condition", ["", *["cut"] * 3]),
            "ablated_site": ("condition", ["", *(f"blocks.{i}" for i in range(3))]),
            "ablated_depth": ("condition", depth),
            "model": "vit",
        },
        {"metric": "m"},
    )
    assert "darkest at 0.70 from it" in Effect().plot("id", [Part("m/vit", data, "v")]).caption


def test_an_axis_of_many_decades_names_powers_of_ten() -> None:
    for low, high, said in (
        (0.05, 90.0, ["10⁻¹", "10⁰", "10¹"]),
        (0.5, 60.0, ["0.5", "1", "2", "5", "10", "20", "50"]),
    ):
        axes = Sheet(400, 300).subplots()
        log_axis(axes, low, high)
        assert [label.get_text() for label in axes.get_yticklabels()] == said


@pytest.mark.parametrize(
    ("value", "said"), [(2e-5, "2×10⁻⁵"), (1e-6, "10⁻⁶"), (-1e7, "−10⁷"), (0.25, "0.25"), (0, "0")]
)
def test_numbers_at_axes(value: float, said: str) -> None:
    assert plain(value) == said


def test_far_apart_groups_have_axes_of_their_own() -> None:
    def part(name: str, size: float) -> Part:
        values = (("site",), size * np.array([1.0, 2.0, 3.0]), {"long_name": "norm"})
        data = xr.Dataset({"v": values}, {"site": ["a", "b", "c"], "model": name}, {"metric": "m"})
        return Part(f"m/{name}", data, "v")

    parts = [part("one", 1.0), part("two", 1e4), part("three", 5.0)]
    assert [[p.label for p in group] for group in alike(parts)] == [["one", "three"], ["two"]]
    assert len(alike([part("one", -1.0), part("two", 1e4)])) == 1


def test_one_number_everywhere_is_told_in_words() -> None:
    same = Line("a", np.arange(3.0), np.zeros(3), np.zeros(3), np.zeros(3))
    assert even([same]) == "It is 0 everywhere, and so not drawn."
    assert not even([same, Line("b", np.arange(3.0), np.zeros(3), np.zeros(3), np.full(3, 0.1))])


def test_groups_without_attributes_are_no_part_of_a_drawing() -> None:
    svg = '<svg><g><g style="fill: red"><g><path d="M0 0"/></g></g><use x="1"/></g></svg>'
    assert without_bare_groups(svg) == '<svg><g style="fill: red"><path d="M0 0"/></g><use x="1"/></svg>'
