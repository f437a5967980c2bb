"""Figures of every study that ships, on made-up numbers: nothing is called alike, looks alike, or has no name or unit.

Their metrics, models, ablations and titles are those of the study; sites, places and conditions are few, for speed.
"""

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG

from vitdsl.dsl.load import is_recipe, load_source
from vitdsl.dsl.study import Study
from vitdsl.reports.canvas import Sheet, style
from vitdsl.reports.figures._base import Plot, figure_of, told_apart
from vitdsl.reports.figures._conditions import plot_of
from vitdsl.reports.names import Names
from vitdsl.reports.parts import Part
from vitdsl.reports.theme import NARROW, WIDE
from vitdsl.runtime.metrics._base import METRICS, Value

SPECS = Path(__file__).parents[2] / "specs"
STUDIES = [
    path for path in sorted(SPECS.rglob("*.yaml")) if not is_recipe(path.read_text("utf-8"), str(path))
]
SIZES = {"site": 6, "site_x": 6, "site_y": 5, "head": 4, "image": 2, "pixel_row": 4, "pixel_col": 4, "rgb": 3}
LABELS = {"token": ["cls", "spatial"], "region": ["interior", "edge"], "row": [0, 8], "col": [0, 8]}
ALL_VALUES = "panel"
"""Of this study, which has every metric, more values are drawn than the first of each metric."""


def _models(study: Study, entry: Any) -> list[tuple[str, ...]]:
    """The models of each group of a metric, x first."""
    if entry.of is not None:
        return [(name,) for name in ((entry.of,) if isinstance(entry.of, str) else entry.of)]
    names = [name for name in (entry.x, entry.y) if name is not None]
    return [tuple(study.layers[name if isinstance(name, str) else name[0]].of for name in names)]


def _conditions(study: Study, entry: Any, models: tuple[str, ...]) -> dict[str, Any]:
    """Coordinates of the conditions: the intact model, and those of each ablation of the model."""
    rows: list[tuple[str, str, str, float]] = [("baseline", "", "", np.nan)]
    under = entry.under if entry.under is None or isinstance(entry.under, tuple) else (entry.under,)
    for name, ablation in study.ablations.items():
        if ablation.of in models and (under is None or name in under):
            for i in range(4 if ablation.each else 1):
                site = f"blocks.{i // 2}.{('attn', 'mlp')[i % 2]}"
                rows.append((f"{name}@{site}", name, site, (i + 1) / 4))
    columns = zip(*rows, strict=True)
    names = ("condition", "ablation", "ablated_site", "ablated_depth")
    return {name: ("condition", list(column)) for name, column in zip(names, columns, strict=True)}


def _group(
    value: Value, models: tuple[str, ...], coords: dict[str, Any], rng: Any, **attrs: Any
) -> xr.Dataset:
    dims = ("condition", *value.dims)
    names = {dim: LABELS.get(dim, [str(i) for i in range(SIZES.get(dim, 3))]) for dim in value.dims}
    names |= {dim: [f"blocks.{i}" for i in range(SIZES[dim])] for dim in value.dims if dim.startswith("site")}
    if {"token", "row", "col"} <= set(value.dims):
        names["token"] = ["0,0", "0,1", "1,0", "1,1"]
    depths = {
        dim.replace("site", "depth"): (dim, np.arange(1, SIZES[dim] + 1) / SIZES[dim])
        for dim in value.dims
        if dim.startswith("site")
    }
    shape = (len(coords["condition"][1]), *(len(names[dim]) for dim in value.dims))
    low, high = value.range
    numbers = rng.uniform(0.1 if low is None or low >= 0 else low, 1.0 if high is None else high, shape)
    single = dict(zip(("model",) if len(set(models)) == 1 else ("model_x", "model_y"), models, strict=False))
    variables = {
        "v": (dims, numbers, value.attributes() | {"relative": int(value.relative)}),
        "v_low": (dims, numbers - 0.05),
        "v_high": (dims, numbers + 0.05),
    }
    return xr.Dataset(variables, {**coords, **names, **depths, **single, "data": "probe"}, attrs)


def _plots(path: Path) -> Iterator[Plot]:
    """Each value of each metric of a study as a figure."""
    study = load_source(path).study
    rng = np.random.default_rng(0)
    called = Names(
        {name: model.title for name, model in study.models.items() if model.title},
        {name: one.title for name, one in study.ablations.items() if one.title},
        order=tuple(study.models),
    )
    for metric, entry in study.metrics.items():
        values = METRICS.find(entry.kind).VALUES
        for value in list(values.values())[: 2 if path.stem == ALL_VALUES else 1]:
            parts = []
            for models in _models(study, entry):
                coords = _conditions(study, entry, models)
                paired = int(entry.against is not None)
                attrs = {"metric": metric, "kind": entry.kind, "title": entry.title or "", "paired": paired}
                group = _group(value, models, coords, rng, **attrs)
                where = f"{metric}/{'~'.join(dict.fromkeys(models))}"
                parts.append(Part(where, group, "v", called, hue=called.hue(models)))
            yield plot_of(figure_of(parts[0]), "id", told_apart(parts))


def _words(labels: list[str]) -> list[str]:
    """The labels that are no numbers."""
    return [label for label in labels if label and any(letter.isalpha() for letter in label)]


def _ailments(axes: Axes) -> Iterator[str]:
    legends = [legend for legend in (axes.get_legend(), *axes.get_figure(root=True).legends) if legend]
    for legend in legends:
        labels = [text.get_text() for text in legend.get_texts()]
        if len(set(labels)) < len(labels):
            yield f"two entries of a legend are called alike: {labels}"
    labels = _words([text.get_text() for text in axes.texts])
    if len(set(labels)) < len(labels):
        yield f"two labels are alike: {labels}"
    looks = [
        (line.get_color(), str(line.get_linestyle()), str(line._unscaled_dash_pattern),
         line.get_marker(), line.get_markerfacecolor())
        for line in axes.lines
        if not str(line.get_label()).startswith("_")
    ]  # fmt: skip
    if len(set(looks)) < len(looks):
        yield f"two lines look alike: {looks}"
    for axis, name in ((axes.xaxis, axes.get_xlabel()), (axes.yaxis, axes.get_ylabel())):
        ticks = [label.get_text() for label in axis.get_ticklabels() if label.get_visible()]
        words = _words(ticks)
        if len(set(words)) < len(words):
            yield f"two ticks are called alike: {ticks}"
        bare = any(ticks) and not words and not name and not axes.images
        if bare and axis.get_tick_params().get("labelbottom", True):
            yield f"an axis has no name: {ticks}"


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_nothing_is_alike_or_without_a_name(path: Path) -> None:
    with style():
        for plot in _plots(path):
            assert pickle.dumps(plot.panels), "another process may draw them"
            titles = [panel.title for panel in plot.shown]
            assert len(set(titles)) == len(titles), titles
            said = [plot.caption, plot.takeaway]
            assert "first of" not in plot.caption
            for i in sorted({0, 1, len(plot.panels) - 1} & set(range(len(plot.panels)))):
                panel = plot.panels[i]
                wide = not panel.cell and i % 2 == 0
                width = WIDE if wide else NARROW
                sheet = Sheet(width, panel.height if wide or panel.cell else panel.narrow_height)
                FigureCanvasSVG(sheet)
                panel.draw(sheet, wide)
                for axes in sheet.axes:
                    found = list(_ailments(axes))
                    assert not found, (plot.title, panel.title, found)
                    said += [
                        axes.get_title(loc="left"),
                        axes.get_title(),
                        axes.get_xlabel(),
                        axes.get_ylabel(),
                    ]
                    said += [text.get_text() for text in axes.texts]
            whole = " ".join(said)
            assert "\N{HORIZONTAL ELLIPSIS}" not in whole and "..." not in whole
            units = plot.parts[0].units
            assert not plot.panels or units == "1" or units in whole, f"{plot.title} has no unit"


def test_what_is_alike_or_has_no_name_is_found() -> None:
    with style():
        axes = Sheet(400, 300).subplots()
        axes.plot([0, 1], [0, 1], color="#000000", label="one")
        axes.plot([0, 1], [1, 0], color="#000000", label="one")
        axes.text(0, 0, "same")
        axes.text(1, 1, "same")
        axes.set_xticks([0, 1], ["a", "a"])
        axes.legend()
        found = list(_ailments(axes))
    assert [one.partition(":")[0] for one in found] == [
        "two entries of a legend are called alike",
        "two labels are alike",
        "two lines look alike",
        "two ticks are called alike",
        "an axis has no name",
    ]
