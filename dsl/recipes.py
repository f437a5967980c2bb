"""Training recipes: small files of their own that a study's `train` names and may override.

Owns what a recipe file is, where a shipped one lies, and writing a recipe out into the study that names it.
Afterwards the study holds the recipe's fields themselves and no `recipe:` key.
"""

from collections.abc import MutableMapping
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Literal

from pydantic import BaseModel
from pydantic import Field as Described

from vitdsl.dsl.diagnostics import Diagnostic, Span, StudyError
from vitdsl.dsl.entries import Train
from vitdsl.dsl.entry import Entry
from vitdsl.dsl.extends import project_root
from vitdsl.dsl.field_types import Slug
from vitdsl.dsl.merging import merge
from vitdsl.dsl.nodes import Fields, Node, Scalar, at, replaced
from vitdsl.dsl.reader import read, read_text
from vitdsl.dsl.text import did_you_mean, shown, ticked


class Recipe(Entry):
    """A training recipe: one YAML file."""

    vitdsl: Literal[1] = Described(description="Version of the language.")
    recipe: Slug = Described(description="The recipe's name; that of its file.")
    title: str | None = Described(None, description="What it is for.")
    train: Train = Described(description="How to train; a study's own fields override these.")


def shipped() -> dict[str, Path]:
    """The recipes that come with the program, by name."""
    folder = Path(str(files("vitdsl.specs"))) / "zoo"
    found = {}
    for path in sorted(folder.glob("*.yaml")):
        if "\nrecipe:" in "\n" + path.read_text(encoding="utf-8"):
            found[path.stem] = path
    return found


def expanded(
    root: Node,
    folder: Path | None,
    texts: MutableMapping[str, str],
    labels: MutableMapping[str, str],
    language: type[BaseModel],
) -> tuple[Node, list[Diagnostic]]:
    """The document with every named recipe written out under the fields given beside it; what is wrong.

    Args:
        root: The document.
        folder: Where a `./recipe.yaml` starts; None where there is no such place.
        texts: Takes the texts of the recipe files.
        labels: Takes what to call them.
        language: The type of a whole study.
    """
    models = at(root, ("models",))
    read_before: dict[str, Fields] = {}
    problems: list[Diagnostic] = []
    for model in models.fields if isinstance(models, Fields) else ():
        path = ("models", model, "train")
        train, name = at(root, path), at(root, (*path, "recipe"))
        if not isinstance(train, Fields) or not isinstance(name, Scalar) or not isinstance(name.value, str):
            continue
        try:
            base = read_before.get(name.value)
            if base is None:
                base = _train_of(name.value, name.span, folder, texts, labels)
                read_before[name.value] = base
        except StudyError as error:
            problems += [replace(one, about=(path,)) for one in error.diagnostics]
            continue
        own = replaced(train, ("recipe",), None)
        root = replaced(root, path, merge(base, own, language, path))
    return root, problems


def _train_of(
    name: str,
    span: Span,
    folder: Path | None,
    texts: MutableMapping[str, str],
    labels: MutableMapping[str, str],
) -> Fields:
    """The `train` mapping of a recipe file."""
    path = _find(name, span, folder)
    text = read_text(path, str(path))
    texts[str(path)] = text
    labels[str(path)] = f"recipe {path.stem}"
    root = read(text, str(path))
    found = at(root, ("train",)) if root else None
    if not isinstance(root, Fields) or "recipe" not in root.fields or not isinstance(found, Fields):
        hint = "a recipe file has `vitdsl: 1`, `recipe: its_name` and `train:`"
        message = f"`{shown(name)}` is not a recipe"
        raise StudyError(Diagnostic("VD017", message, span, "named here", (hint,)))
    inner = found.fields.get("recipe")
    if inner is not None:
        message = f"recipe `{shown(name)}` names a recipe itself"
        raise StudyError(Diagnostic("VD017", message, inner.key, "recipes do not nest", ("remove it",)))
    return found


def _find(name: str, span: Span, folder: Path | None) -> Path:
    if not name.startswith(("./", "../")):
        known = shipped()
        if name in known:
            return known[name]
        hint = did_you_mean(name, list(known)) or (f"shipped: {ticked(known)}" if known else "")
        own = "a file of your own starts with `./`"
        message = f"there is no recipe `{shown(name)}`"
        raise StudyError(
            Diagnostic("VD017", message, span, "no such recipe", tuple(filter(None, (hint, own))))
        )
    start = folder or Path()
    path = start / name
    try:
        inside, there = path.resolve().is_relative_to(project_root(start)), path.is_file()
    except (OSError, ValueError):
        inside, there = True, False
    if not inside:
        message, hint = f"`{shown(name)}` leaves the project", "copy the recipe into the project"
    elif not there:
        message, hint = f"there is no recipe file `{shown(name)}`", "the path starts at the study's folder"
    else:
        return path
    raise StudyError(Diagnostic("VD017", message, span, "no such file", (hint,)))
