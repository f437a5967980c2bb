"""From a study file to a checked study: syntax, then what it extends and overrides, then schema, then names.

Owns the order of the phases: all errors of a phase at once, sorted, and no phase on top of a broken one. Does
not own any phase.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vitdsl.dsl.diagnostics import Diagnostic, Span, StudyError
from vitdsl.dsl.extends import Bases, extended
from vitdsl.dsl.nodes import Fields, Node, plain, with_fields
from vitdsl.dsl.overrides import as_arguments, overridden
from vitdsl.dsl.reader import read, read_text
from vitdsl.dsl.recipes import Recipe, expanded
from vitdsl.dsl.references import reference_problems
from vitdsl.dsl.schema import validated
from vitdsl.dsl.source import SourceMap
from vitdsl.dsl.study import LANGUAGE_VERSION, Study
from vitdsl.dsl.text import file_name

Overrides = Sequence[str] | Mapping[str, Any]


@dataclass(frozen=True)
class Loaded:
    """A study with the places of its values.

    Attributes:
        study: The typed study; recipes are written out in it.
        source: Where each value was written.
        path: The file; None for a study that was built in Python or read from a text.
        bases: The files it extends, nearest first.
        overrides: The `--set` arguments that took part.
    """

    study: Study
    source: SourceMap = field(default_factory=SourceMap)
    path: Path | None = None
    bases: tuple[Path, ...] = ()
    overrides: tuple[str, ...] = ()

    @classmethod
    def of(cls, study: Study) -> "Loaded":
        """Take a study built in Python; its recipes are written out, and its diagnostics point at no file.

        Raises:
            StudyError: A recipe or a name in it does not exist.
        """
        from vitdsl.dsl.emit import to_yaml

        text = to_yaml(study)
        found = load_text(text, f"<study {study.study}>")
        return cls(found.study, SourceMap())

    @property
    def folder(self) -> Path:
        """Where the relative paths of the study start."""
        start = self.path.parent if self.path else Path()
        return start / self.study.folder if self.study.folder else start

    def problem(
        self,
        code: str,
        path: Sequence[str | int],
        message: str,
        *,
        label: str = "",
        help: Iterable[str] = (),
        notes: Iterable[str] = (),
        key: bool = False,
        secondary_paths: Iterable[tuple[Sequence[str | int], str]] = (),
        within: tuple[int, int] | None = None,
        about: Iterable[Sequence[str | int]] = (),
    ) -> Diagnostic:
        """A diagnostic that points at a value of this study; see `SourceMap.problem`."""
        return self.source.problem(
            code,
            path,
            message,
            label=label,
            help=help,
            notes=notes,
            key=key,
            secondary_paths=secondary_paths,
            within=within,
            about=about,
        )


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
    place = Path(path)
    return _load(read_text(place, str(path)), str(path), place, overrides)


def load_text(text: str, name: str = "<text>", *, overrides: Overrides = ()) -> Loaded:
    """Read and check a study that is a text; it can extend nothing. See `load_source`."""
    return _load(text, name, None, overrides)


def load_recipe(path: str | Path) -> Recipe:
    """Read and check a recipe file.

    Raises:
        StudyError: The file is wrong.
    """
    name = str(path)
    text = read_text(Path(path), name)
    root = _document(text, name)
    source = SourceMap(root, {name: text}, {name: Path(name).name})
    _raise(_version(root, source))
    found = validated(Recipe, plain(root), source)
    if isinstance(found, Recipe):
        return found
    raise _sorted(found)


def is_recipe(text: str, name: str) -> bool:
    """Whether a document is a recipe and not a study."""
    root = _document(text, name)
    return isinstance(root, Fields) and "recipe" in root.fields and "study" not in root.fields


def _load(text: str, name: str, path: Path | None, overrides: Overrides) -> Loaded:
    arguments = as_arguments(overrides)
    root: Node = _document(text, name)
    _raise(_a_recipe(root, name))
    bases = Bases(texts={name: text}, labels={name: Path(name).name if path else name})
    root = extended(root, path, name, bases)
    root = overridden(root, arguments, bases.texts, bases.labels)
    root = expanded(root, path.parent if path else None, bases.texts, bases.labels)
    root = _without_free_space(root)
    source = SourceMap(root, bases.texts, bases.labels, bases.via)
    _raise(_version(root, source))
    found = validated(Study, plain(root), source)
    if not isinstance(found, Study):
        raise _sorted(found)
    _raise(reference_problems(found, source))
    return Loaded(found, source, path, tuple(bases.paths), arguments)


def _document(text: str, name: str) -> Fields:
    try:
        root = read(text, name)
    except StudyError as error:
        raise _sorted(error.diagnostics) from None
    if isinstance(root, Fields):
        return root
    what = "is empty" if root is None else "is not a mapping"
    place = root.span if root is not None else Span(name, 1, 1, 1, 1)
    hint = "a study starts with `vitdsl: 1` and `study: its_name`"
    raise StudyError(Diagnostic("VD014", f"`{file_name(name)}` {what}", place, help=(hint,)))


def _a_recipe(root: Node, name: str) -> list[Diagnostic]:
    """A recipe where a study is expected."""
    found = root.fields if isinstance(root, Fields) else {}
    if "recipe" not in found or {"study", "extends"} & set(found):
        return []
    message = f"`{file_name(name)}` is a training recipe and not a study"
    hint = "name it in a study: `train: {recipe: ./its_path.yaml}`"
    return [Diagnostic("VD014", message, found["recipe"].key, "a recipe's first word", (hint,))]


def _version(root: Node, source: SourceMap) -> list[Diagnostic]:
    """A version of the language that this program does not read is the only thing to say about a file."""
    found = plain(root).get("vitdsl")
    if type(found) is not int or found == LANGUAGE_VERSION:
        return []
    here = f"this program reads version {LANGUAGE_VERSION}"
    message = f"this file is written in version {found} of the language; {here}"
    hint = (
        f"it needs vitdsl {found}.0 or later"
        if found > LANGUAGE_VERSION
        else f"write `vitdsl: {LANGUAGE_VERSION}`"
    )
    return [source.problem("VD108", ("vitdsl",), message, label="the version", help=[hint])]


def _without_free_space(root: Node) -> Node:
    if not isinstance(root, Fields):
        return root
    return with_fields(root, {key: value for key, value in root.fields.items() if not key.startswith("x-")})


def _raise(problems: Sequence[Diagnostic]) -> None:
    if problems:
        raise _sorted(problems)


def _sorted(problems: Iterable[Diagnostic]) -> StudyError:
    def order(problem: Diagnostic) -> tuple[int, str, int, int, str]:
        place = problem.span
        if place is None:
            return 1, "", 0, 0, problem.code
        return 0, place.file, place.line, place.column, problem.code

    return StudyError(sorted(problems, key=order))
