"""From plain data to typed form, or everything that is wrong with it.

Owns which of pydantic's complaints are mistakes of their own, and where they stand. Does not own the models
(`study`, `entries`), nor what is said of a mistake (`complaints`).
"""

from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from vitdsl.dsl.complaints import NOTHING, Complaints, inner
from vitdsl.dsl.complaints import Beside as Beside
from vitdsl.dsl.diagnostics import Diagnostic
from vitdsl.dsl.nodes import Path
from vitdsl.dsl.source import SourceMap
from vitdsl.dsl.text import close_names

M = TypeVar("M", bound=BaseModel)

_COLLECTING = ContextVar("collecting", default=False)


def validated(
    model: type[M], data: Any, source: SourceMap, at: Path = (), beside: Beside | None = None
) -> M | list[Diagnostic]:
    """The typed form of plain data, or everything that is wrong with it.

    Args:
        model: The entry type.
        data: Plain dicts, lists and scalars.
        source: Where they were written.
        at: Where `data` stands in the document.
        beside: For the parameters of a kind: what stands around them.
    """
    return collected(lambda: model.model_validate(data), model, data, source, at, beside)


def collecting() -> bool:
    """Whether the errors of what is being built are collected further out."""
    return _COLLECTING.get()


def collected(
    build: Callable[[], M],
    model: type[BaseModel],
    data: Any,
    source: SourceMap,
    at: Path = (),
    beside: Beside | None = None,
) -> M | list[Diagnostic]:
    """What `build` makes of the data, or the errors of it and of everything in it; see `validated`."""
    outside = _COLLECTING.set(True)
    try:
        return build()
    except ValidationError as error:
        return _translated(error, model, data, source, at, beside)
    finally:
        _COLLECTING.reset(outside)


def _translated(
    error: ValidationError,
    model: type[BaseModel],
    data: Any,
    source: SourceMap,
    at: Path,
    beside: Beside | None,
) -> list[Diagnostic]:
    """A validation error as diagnostics, one for each mistake: grouped by place, so that a union speaks once."""
    complaints = Complaints(model, data, source, at, beside)
    places: dict[tuple[Path, bool], list[ErrorDetails]] = {}
    for one in error.errors(include_url=False):
        path, is_key = _place(one, data)
        places.setdefault((path, is_key), []).append(one)
    above = {path[:-1] for path, _ in places}
    unknown: dict[Path, list[str]] = {}
    for (path, _), group in places.items():
        if group[0]["type"] == "extra_forbidden":
            unknown.setdefault(path[:-1], []).append(str(path[-1]))
    found = []
    for (path, is_key), group in places.items():
        if group[0]["type"] == "missing" and _misspelt(path, unknown):
            continue
        if group[0]["type"] == "too_short" and path in above:
            continue
        found.append(complaints.about(path, is_key, group))
    return found


def _place(error: ErrorDetails, data: Any) -> tuple[Path, bool]:
    """The path in the data that an error is about, without the tags of unions; whether it is a key."""
    path: list[str | int] = []
    here = data
    loc = list(error["loc"])
    is_key = bool(loc) and loc[-1] == "[key]"
    last = None if error["type"] != "missing" or not loc else loc.pop()
    for part in loc:
        below = inner(here, part)
        if below is not NOTHING:
            path.append(part)
            here = below
    if last is not None:
        path.append(last)
    return tuple(path), is_key


def _misspelt(path: Path, unknown: Mapping[Path, Sequence[str]]) -> bool:
    """Whether a missing key is explained by an unknown one beside it, which says so better."""
    return any(close_names(name, [str(path[-1])]) for name in unknown.get(path[:-1], ())[:20])
