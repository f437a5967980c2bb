"""Reads study and recipe files.

Owns which file is read and under which name. Does not own what happens to its text (`phases`).
"""

from pathlib import Path

from vitdsl.dsl.loaded import Loaded
from vitdsl.dsl.nodes import Fields, plain
from vitdsl.dsl.phases import (
    Overrides,
    checked,
    document,
    in_order,
    inspected,
    stop_at,
    version_problems,
)
from vitdsl.dsl.phases import loaded_of as loaded_of
from vitdsl.dsl.reader import read_text
from vitdsl.dsl.recipes import Recipe
from vitdsl.dsl.schema import validated
from vitdsl.dsl.source import SourceMap
from vitdsl.dsl.study import Study


def load(path: str | Path, *, overrides: Overrides = ()) -> Study:
    """Read and check a study file.

    Args:
        path: The YAML file.
        overrides: Values to set, as on the command line: `["seed=1"]` or `{"models.vit.seed": 1}`.

    Returns:
        The typed study, with everything it extends and every recipe written out.

    Raises:
        StudyError: The file is wrong; `error.diagnostics` says where and why.
    """
    return load_source(path, overrides=overrides).study


def load_source(path: str | Path, *, overrides: Overrides = ()) -> Loaded:
    """Read and check a study file, and keep where each value came from; see `load`."""
    file = Path(path)
    return checked(read_text(file, str(path)), str(path), file, overrides, Study)


def inspect_source(path: str | Path, *, overrides: Overrides = ()) -> Loaded:
    """Read a study file as far as it can be read: what is wrong with single entries is noted in `problems`.

    Raises:
        StudyError: It is no document of the language.
    """
    file = Path(path)
    return inspected(read_text(file, str(path)), str(path), file, overrides, Study)


def inspect_text(text: str, name: str = "<text>") -> Loaded:
    """Read a study that is a text as far as it can be read; see `inspect_source`."""
    return inspected(text, name, None, (), Study)


def load_text(text: str, name: str = "<text>", *, overrides: Overrides = ()) -> Loaded:
    """Read and check a study that is a text; it can extend nothing. See `load_source`."""
    return checked(text, name, None, overrides, Study)


def load_recipe(path: str | Path) -> Recipe:
    """Read and check a recipe file.

    Raises:
        StudyError: The file is wrong.
    """
    name = str(path)
    text = read_text(Path(path), name)
    root = document(text, name)
    source = SourceMap(root, {name: text}, {name: Path(name).name})
    stop_at(version_problems(root, source))
    found = validated(Recipe, plain(root), source)
    if isinstance(found, Recipe):
        return found
    raise in_order(found)


def is_recipe(text: str, name: str) -> bool:
    """Whether a document is a recipe and not a study."""
    root = document(text, name)
    return isinstance(root, Fields) and "recipe" in root.fields and "study" not in root.fields
