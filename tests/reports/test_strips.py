"""The images behind an effect: which, in which order, with which words; nothing where no picture was kept."""

import dataclasses
import json
from typing import Any

import pytest
import xarray as xr

from vitdsl.reports.parts import Part
from vitdsl.reports.render import render
from vitdsl.reports.strips import strips
from vitdsl.runtime.results.folder import Run
from vitdsl.runtime.results.manifest import Manifest
from vitdsl.runtime.results.record import as_json
from vitdsl.runtime.results.thumbnails import Thumbnails

NAN = float("nan")


def group() -> xr.Dataset:
    """Two conditions; image 4 flips under both, image 9 has no picture."""
    rows: dict[str, Any] = {
        "image": [[4, 2, NAN], [7, 4, 9]],
        "label": [[4, 2, NAN], [1, 4, 9]],
        "before": [[4, 5, NAN], [3, 4, 9]],
        "after": [[8, 2, NAN], [0, 6, 1]],
        "confidence_before": [[0.9, 0.5, NAN], [0.7, 0.9, 0.6]],
        "confidence_after": [[0.6, 0.55, NAN], [0.8, 0.75, 0.5]],
        "strength": [[0.4, 0.2, NAN], [0.9, 0.6, 0.3]],
    }
    values = {
        name: (("condition", "rank"), [[NAN] * 3, *row], {"long_name": name}) for name, row in rows.items()
    }
    values["image"][2]["pictured_by"] = "strength"
    flips = (("condition",), [0.0, 0.1, 0.2], {"long_name": "flips"})
    coords = {"condition": ["baseline", "a", "b"], "rank": [1, 2, 3], "model": "vit", "data": "probe"}
    attrs = {"metric": "flips", "kind": "prediction_flips", "title": "Flips"}
    return xr.Dataset({"flips": flips, **values}, coords, attrs)


@pytest.fixture
def flipped(run: Run) -> Run:
    manifest = as_json(run.manifest)
    manifest["data"]["probe"]["class_names"] = ["zero", "one", "two", "three", "four", "five", "six"]
    found = Manifest.model_validate_json(json.dumps(manifest))
    kept = run.thumbnails.updated(images=run.thumbnails.images[:8])
    return dataclasses.replace(run, manifest=found, groups={"flips/vit": group()}, thumbnails=kept)


def test_the_strongest_first_each_once_with_names_and_what_was_right(flipped: Run) -> None:
    (strip,) = strips(flipped, [Part("flips/vit", group(), "flips"), Part("flips/vit", group(), "image")])
    assert strip.title == "vit"
    tick = "\N{CHECK MARK}"
    assert [(one.picture.alt, one.before, one.after, one.label, one.condition) for one in strip.frames] == [
        ("image 7, labelled one", "three, 70 %", "zero, 80 %", "labelled one", "b"),
        ("image 4, labelled four", f"four {tick}, 90 %", "six, 75 %", "", "b"),
        ("image 2, labelled two", "five, 50 %", f"two {tick}, 55 %", "", "a"),
    ]


def test_the_page_shows_them_and_folds_the_list_of_numbers(flipped: Run) -> None:
    page = render(flipped)
    assert page.count("<li><img") == 3 and "They are extremes, not what is typical." in page
    shown = page.index('class="flips"')
    assert page.index('id="flips-image"') > page.index('<details class="more">') > shown
    without = render(dataclasses.replace(flipped, thumbnails=Thumbnails()))
    assert "<img" not in without and without.index('id="flips-image"') < without.index(
        '<details class="more">'
    )
