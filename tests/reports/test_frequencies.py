"""Lines over frequency: which sites are drawn, and what the words say."""

from typing import Any

import numpy as np
import pytest
import xarray as xr

from vitdsl.reports.canvas import draw_svg, style
from vitdsl.reports.figures._base import figure_of
from vitdsl.reports.figures.frequencies import MOST_LINES
from vitdsl.reports.parts import Part


def part(sites: int = 3, frequencies: int = 4) -> Part:
    """Values that fall by 1 for each frequency and by 10 for each site; the last site has one frequency less."""
    values = -np.add.outer(10.0 * np.arange(sites), np.arange(frequencies))[None]
    values[0, -1, -1] = np.nan
    dims = ("condition", "site", "frequency")
    coords: dict[str, Any] = {
        "condition": ["baseline"],
        "site": [f"blocks.{i}" for i in range(sites)],
        "frequency": np.arange(frequencies),
        "model": "vit",
    }
    named = {"log_amplitude": (dims, values, {"long_name": "log amplitude"})}
    return Part("fourier/vit", xr.Dataset(named, coords, {"metric": "fourier"}), "log_amplitude")


@pytest.mark.parametrize("wide", [True, False])
def test_a_line_for_each_site(wide: bool) -> None:
    one = part()
    assert figure_of(one).name == "frequencies"
    plot = figure_of(one).plot("x", [one])
    assert plot.takeaway == (
        "Log amplitude, at the highest frequency; vit: \N{MINUS SIGN}3.00 at blocks.0, \N{MINUS SIGN}22.0 at blocks.2."
    )
    (panel,) = plot.panels
    _, width, height = panel.sizes[0 if wide else 1]
    with style():
        drawn = draw_svg(panel.draw, width, height, wide)
    said = [text for _, _, text in drawn.marks["p"]]
    assert len(said) == 3 * 4 - 1
    assert "blocks.1, frequency 2: \N{MINUS SIGN}12.0" in said


def test_many_sites_are_thinned_to_some_with_both_ends() -> None:
    one = part(sites=24)
    plot = figure_of(one).plot("x", [one])
    assert f"{MOST_LINES} of 24 sites are drawn" in plot.caption
    with style():
        drawn = draw_svg(plot.panels[0].draw, 860, 360, True)
    sites = list(dict.fromkeys(text.partition(",")[0] for _, _, text in drawn.marks["p"]))
    assert sites == [f"blocks.{i}" for i in (0, 5, 9, 14, 18, 23)]
