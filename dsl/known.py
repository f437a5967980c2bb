"""Names that refer to other entries of a study, and what to say where there is none of that name.

A kind's own parameters refer to entries too: their types say to which section, so that a wrong name gets a place.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, get_args

from pydantic import BaseModel

from vitdsl.dsl.diagnostics import Diagnostic
from vitdsl.dsl.shape import entry_at, words_of
from vitdsl.dsl.source import SourceMap, dotted
from vitdsl.dsl.text import did_you_mean, shown, ticked
from vitdsl.dsl.words import bare

if TYPE_CHECKING:
    from vitdsl.dsl.study import Study

Where = tuple[str | int, ...]
SECTIONS = ("layers", "models", "ablations", "metrics", "data")


@dataclass(frozen=True)
class Refers:
    """Of the type of a text: it is the name of an entry of a section."""

    section: str


DataName = Annotated[str, Refers("data")]
"""The name of a data entry, as the type of a kind's parameter."""
LayersName = Annotated[str, Refers("layers")]
"""The name of a set of layers, as the type of a kind's parameter."""


def unknown(
    study: "Study",
    source: SourceMap,
    name: str,
    section: str,
    path: Where,
    *,
    extra: tuple[str, ...] = (),
    hints: Callable[[str, Sequence[str]], str] = did_you_mean,
) -> Diagnostic | None:
    """What is wrong with a name, or None where a section has it.

    Args:
        study: The study.
        source: Where its values were written.
        name: The name.
        section: Where it is looked up.
        path: Where it was written.
        extra: Names with a meaning of their own.
        hints: Did-you-mean.
    """
    known = [*getattr(study, section), *extra]
    if name in known:
        return None
    entry = entry_at((section, "any"), type(study))
    noun = bare(words_of(entry).noun) if entry else section
    homes = [other for other in SECTIONS if other != section and name in getattr(study, other)]
    listed = f"there are {ticked(known)}" if known else f"this study has no `{section}`"
    return source.problem(
        "VD201",
        path,
        f"unknown {noun} `{shown(name)}` in `{dotted(path)}`",
        label=f"no such {noun}",
        help=[hints(name, known) or listed],
        notes=[f"`{shown(name)}` is one of the {homes[0]}" if homes else ""],
        secondary_paths=[((homes[0], name), "defined here")] if homes else (),
    )


def referred(params: BaseModel) -> Iterator[tuple[str, str, str]]:
    """The names in a kind's parameters: field, section, name."""
    for field, info in type(params).model_fields.items():
        value = getattr(params, field)
        section = next(
            (one.section for one in (*info.metadata, *_inner(info.annotation)) if isinstance(one, Refers)),
            None,
        )
        if section is not None and isinstance(value, str):
            yield field, section, value


def _inner(annotation: Any) -> Iterator[Any]:
    """What stands inside a type, such as behind `| None`."""
    for part in get_args(annotation):
        yield part
        yield from _inner(part)
