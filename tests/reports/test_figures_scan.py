"""A figure is one file: it is picked for the parts that it fits and drawn, without being named anywhere else."""

import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from vitdsl.reports import figures as package
from vitdsl.reports.figures._base import Figure, figure_of, figures
from vitdsl.reports.parts import Part
from vitdsl.reports.render import render
from vitdsl.runtime.results.folder import Run

GRID = '''\
"""Grid: rows with columns."""

from functools import partial

from vitdsl.reports.figures._base import Figure, Panel, assembled


class Grid(Figure):
    """Rows and columns."""

    def fits(self, part):
        """Rows and columns."""
        return part.dims == {"row", "col"}

    def plot(self, id, parts):
        """One image for each group."""
        panels = [Panel(part.model, partial(_draw, part=part)) for part in parts]
        return assembled(id, parts, "Rows from above.", "The grid of brought numbers.", panels)

    def findings(self, parts):
        """The largest."""
        return [f"The largest of the grid is {parts[0].array.values.max():.0f}."]


def _draw(sheet, wide, part):
    sheet.subplots().imshow(part.array.values[0])
'''


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of figures beside the program's."""
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
    figures.cache_clear()
    yield tmp_path
    for path in tmp_path.glob("*.py"):
        sys.modules.pop(f"{package.__name__}.{path.stem}", None)
        vars(package).pop(path.stem, None)
    figures.cache_clear()


def _grid() -> xr.Dataset:
    values = {"mass": (("row", "col"), np.arange(6.0).reshape(2, 3), {"long_name": "gradient mass"})}
    return xr.Dataset(values, attrs={"metric": "odd", "kind": "odd", "title": "An odd one", "model": "vit"})


def _page(run: Run) -> str:
    record = next(iter(run.manifest.metrics.values())).model_copy(update={"kind": "odd"})
    manifest = run.manifest.updated(metrics={"odd": record}, claims={})
    return render(dataclasses.replace(run, groups={"odd/vit": _grid()}, manifest=manifest))


def test_a_file_is_a_figure(folder: Path, run: Run) -> None:
    (folder / "grid.py").write_text(GRID)
    assert figure_of(Part("odd/vit", _grid(), "mass")).name == "grid"
    page = _page(run)
    assert page.count('<div class="cell">') == 1 and 'aria-label="The grid of brought numbers."' in page
    assert "Rows from above." in page and "The largest of the grid is 5." in page


def test_without_it_there_is_the_table(run: Run) -> None:
    assert figure_of(Part("odd/vit", _grid(), "mass")).name == "table"
    assert '<div class="cell">' not in _page(run)


@pytest.mark.parametrize(
    ("text", "says"),
    [('"""Nothing."""\n', "holds no figures"), (GRID + "\n\nclass Other(Grid): pass\n", "holds 2 figures")],
)
def test_a_file_that_is_no_figure_is_named(folder: Path, text: str, says: str) -> None:
    (folder / "wrong.py").write_text(text)
    with pytest.raises(RuntimeError, match=r"wrong\.py " + says):
        figures()


def test_the_general_table_comes_last() -> None:
    assert figures()[-1].name == "table"
    known = {"effect", "matrix", "maps", "paired", "profile", "tokens", "heads", "table"}
    assert known <= {figure.name for figure in figures()}
    assert all(isinstance(figure, Figure) for figure in figures())


def test_a_drift_beside_one_without_ablations(run: Run) -> None:
    """Two figures show the one value; each has an id of its own."""
    groups = {**run.groups, "drift/vit": run.groups["drift/vit"].isel(condition=[0])}
    page = render(dataclasses.replace(run, groups=groups))
    assert 'id="drift-cka"' in page and 'id="drift-cka-paired"' in page
