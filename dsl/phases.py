"""From a text to a checked study: syntax, then what it extends and overrides, then schema, then names.

Owns the order of the phases. Syntax and what a document is made of must hold; after that a mistake takes with it only
the entry that it is in (`rest`), and the others go on. Does not own any phase, nor which files are read (`load`). Which
type a whole study has, the caller says.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitdsl.dsl.diagnostics import Diagnostic, Span, StudyError
from vitdsl.dsl.emit import to_yaml
from vitdsl.dsl.extends import Bases, extended
from vitdsl.dsl.loaded import Loaded
from vitdsl.dsl.nodes import Fields, Node, plain, with_fields
from vitdsl.dsl.overrides import as_arguments, overridden
from vitdsl.dsl.pairing import paired
from vitdsl.dsl.reader import read
from vitdsl.dsl.recipes import expanded
from vitdsl.dsl.references import reference_problems
from vitdsl.dsl.rest import Readable, entry_of, readable, without_bad_sweeps
from vitdsl.dsl.source import SourceMap
from vitdsl.dsl.text import file_name
from vitdsl.dsl.words import LANGUAGE_VERSION

if TYPE_CHECKING:
    from vitdsl.dsl.study import Study

Overrides = Sequence[str] | Mapping[str, Any]


def checked(text: str, name: str, path: Path | None, overrides: Overrides, language: "type[Study]") -> Loaded:
    """A text as a checked study; see `inspected`.

    Raises:
        StudyError: Everything that is wrong with it.
    """
    found = inspected(text, name, path, overrides, language)
    stop_at(found.problems)
    return found


def inspected(
    text: str, name: str, path: Path | None, overrides: Overrides, language: "type[Study]"
) -> Loaded:
    """What can be read of a text as a study, and what is wrong with the rest of it.

    Args:
        text: The document.
        name: What to call it in messages.
        path: Its file; None for a text, which can extend nothing.
        overrides: The values to set.
        language: The type of a whole study.

    Raises:
        StudyError: It is no document of the language: its syntax, what it extends, what is set, its version.
    """
    arguments = as_arguments(overrides)
    root: Node = document(text, name)
    stop_at(_a_recipe(root, name))
    bases = Bases(texts={name: text}, labels={name: Path(name).name if path else name})
    root = extended(root, path, name, bases, language)
    root = overridden(root, arguments, bases.texts, bases.labels, language)
    root, unread = expanded(root, path.parent if path else None, bases.texts, bases.labels, language)
    root = paired(root, language)
    root = _without_free_space(root)
    source = SourceMap(root, bases.texts, bases.labels, bases.via)
    stop_at(version_problems(root, source))
    found = readable(language, plain(root), source, unread)
    problems = _after(found, reference_problems(found.study, source, found.dropped))
    if problems:
        found = without_bad_sweeps(found)
        problems = list(in_order(problems).diagnostics)
    return Loaded(found.study, source, path, tuple(bases.paths), arguments, tuple(problems), found.dropped)


def _after(found: Readable, named: Sequence[Diagnostic]) -> list[Diagnostic]:
    """What is wrong, with names last: an entry that cannot be read whole is asked nothing more."""
    unread = {path[:2] for path in found.dropped}
    return [*found.problems, *(one for one in named if entry_of(one) not in unread)]


def loaded_of(study: "Study") -> Loaded:
    """Take a study built in Python; its recipes are written out, and its diagnostics point at no file.

    Raises:
        StudyError: A recipe or a name in it does not exist.
    """
    found = checked(to_yaml(study), f"<study {study.study}>", None, (), type(study))
    return Loaded(found.study)


def document(text: str, name: str) -> Fields:
    """The mapping that a study or recipe file holds.

    Raises:
        StudyError: It holds none.
    """
    try:
        root = read(text, name)
    except StudyError as error:
        raise in_order(error.diagnostics) from None
    if isinstance(root, Fields):
        return root
    what = "is empty" if root is None else "is not a mapping"
    span = root.span if root is not None else Span(name, 1, 1, 1, 1)
    hint = "a study starts with `vitdsl: 1` and `study: its_name`"
    raise StudyError(Diagnostic("VD014", f"`{file_name(name)}` {what}", span, help=(hint,)))


def _a_recipe(root: Node, name: str) -> list[Diagnostic]:
    """A recipe where a study is expected."""
    found = root.fields if isinstance(root, Fields) else {}
    if "recipe" not in found or {"study", "extends"} & set(found):
        return []
    message = f"`{file_name(name)}` is a training recipe and not a study"
    hint = "name it in a study: `train: {recipe: ./its_path.yaml}`"
    return [Diagnostic("VD014", message, found["recipe"].key, "a recipe's first word", (hint,))]


def version_problems(root: Node, source: SourceMap) -> list[Diagnostic]:
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


def stop_at(problems: Sequence[Diagnostic]) -> None:
    """Raise the problems of a phase, if there are any."""
    if problems:
        raise in_order(problems)


def in_order(problems: Iterable[Diagnostic]) -> StudyError:
    """Problems as one error, by file and place; those without a place last."""

    def order(problem: Diagnostic) -> tuple[int, str, int, int, str]:
        span = problem.span
        if span is None:
            return 1, "", 0, 0, problem.code
        return 0, span.file, span.line, span.column, problem.code

    return StudyError(sorted(problems, key=order))
