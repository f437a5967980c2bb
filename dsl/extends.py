"""`extends: ./base.yaml`: one parent, whose mappings the file's own are laid on.

Owns finding the parent and refusing cycles, long chains and paths that leave the project. Does not own how
two documents merge (`merging`).
"""

from dataclasses import dataclass, field, replace
from importlib.resources import files
from pathlib import Path, PurePosixPath

from pydantic import BaseModel

from vitdsl.dsl.diagnostics import Diagnostic, Span, StudyError
from vitdsl.dsl.merging import merge
from vitdsl.dsl.nodes import Fields, Node, Scalar, replaced
from vitdsl.dsl.reader import read, read_text
from vitdsl.dsl.text import shown

MAX_DEPTH = 4


@dataclass
class Bases:
    """The files that a study is made of, collected on the way."""

    texts: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    paths: list[Path] = field(default_factory=list)
    via: dict[str, str] = field(default_factory=dict)


def extended(root: Node, path: Path | None, name: str, bases: Bases, language: type[BaseModel]) -> Node:
    """The document laid on everything it extends.

    Args:
        root: The document.
        path: Its file; None for a text, which can extend nothing.
        name: What spans call its file.
        bases: Takes the parents' files.
        language: The type of a whole study.

    Raises:
        StudyError: A parent is missing, not allowed or itself wrong.
    """
    parent = root.fields.get("extends") if isinstance(root, Fields) else None
    if parent is None:
        return root
    if not isinstance(parent.value, Scalar) or not isinstance(parent.value.value, str):
        raise _refused(
            "`extends` takes the path of one file", parent.value.span, "write `extends: ./base.yaml`"
        )
    written, span = parent.value.value, parent.value.span
    if path is None:
        raise _refused("a study that is a text cannot extend a file", span, "save it as a file first")
    target = _target(written, path, span)
    seen = [path.resolve(), *(base.resolve() for base in bases.paths)]
    if target.resolve() in seen:
        raise _refused(
            f"`{shown(written)}` extends itself in a circle", span, "remove one `extends` of the circle"
        )
    if len(bases.paths) >= MAX_DEPTH:
        raise _refused(f"a chain of more than {MAX_DEPTH} `extends`", span, "merge some of the files")
    base_name = str(PurePosixPath(name).parent / written) if "/" in name else str(PurePosixPath(written))
    bases.paths.append(target)
    text = read_text(target, base_name)
    bases.texts[base_name] = text
    bases.labels[base_name] = target.name
    bases.via[base_name] = f"extended by `{name}:{span.line}`"
    try:
        base = read(text, base_name)
    except StudyError as error:
        note = bases.via[base_name]
        raise StudyError(replace(one, notes=(*one.notes, note)) for one in error.diagnostics) from None
    if not isinstance(base, Fields):
        raise _refused(f"`{shown(written)}` is not a mapping", span, "extend a study file")
    grand = extended(base, target, base_name, bases, language)
    return merge(grand, replaced(root, ("extends",), None), language)


def _target(written: str, path: Path, span: Span) -> Path:
    """The file that `extends` names, inside the project."""
    if "://" in written or written.startswith(("/", "~")) or "\\" in written or ":" in written[:2]:
        raise _refused(f"`{shown(written)}` is not a relative path", span, "write it as `./base.yaml`")
    target = path.parent / written
    root = project_root(path.parent)
    try:
        inside = target.resolve().is_relative_to(root)
        there = target.is_file()
    except (OSError, ValueError):
        inside = there = False
    if not inside:
        raise _refused(f"`{shown(written)}` leaves the project", span, "copy the base into the project")
    if not there:
        raise _refused(f"there is no file `{shown(written)}`", span, "the path starts at this file's folder")
    return target


def project_root(folder: Path) -> Path:
    """What a study in a folder cannot reach out of: the shipped studies, a repository, or that folder."""
    folder = folder.resolve()
    ours = Path(str(files("vitdsl.specs"))).resolve()
    if folder.is_relative_to(ours):
        return ours
    for candidate in (folder, *folder.parents):
        if (candidate / "pyproject.toml").is_file() or (candidate / ".git").exists():
            return candidate
    return folder


def _refused(message: str, span: Span, hint: str) -> StudyError:
    return StudyError(Diagnostic("VD015", message, span, "extended here", (hint,)))
