"""Every study that ships is right, and what it trains comes with the program."""

from pathlib import Path

import pytest

from studies import OFFLINE
from vitdsl.dsl.load import is_recipe, load_source
from vitdsl.runtime.plan.bind import bind
from vitdsl.runtime.train.store import find, recipe_key, shipped_store
from vitdsl.runtime.train.without import training_form

ROOT = Path(__file__).parent.parent
YAML = sorted((ROOT / "specs").rglob("*.yaml"))
STUDIES = [path for path in YAML if not is_recipe(path.read_text("utf-8"), str(path))]


@pytest.mark.parametrize("path", [path for path in STUDIES if path in OFFLINE], ids=lambda path: path.stem)
def test_shipped_studies_bind_and_need_no_training(path: Path) -> None:
    loaded = load_source(path)
    plan = bind(loaded)
    assert loaded.study.claims, "a study claims something"
    for planned in plan.models.values():
        if planned.entry.train is not None:
            form = training_form(planned)
            key = recipe_key(
                planned.entry, seed=loaded.study.seed, folder=loaded.folder, without=form.get("without", ())
            )
            assert find(key, shipped_store()) is not None, f"{planned.name} would be trained"


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_first_line_names_the_schema(path: Path) -> None:
    line = path.read_text("utf-8").splitlines()[0]
    assert line.startswith("# yaml-language-server: $schema=")
    assert (path.parent / line.partition("=")[2]).resolve() == ROOT / "dsl" / "vitdsl-1.schema.json"
