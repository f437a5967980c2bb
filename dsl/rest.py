"""What can be read of a study in which some entries are wrong: these are left out, and the rest is looked at.

Owns which part of a document a mistake takes with it (an entry, or a field that nothing else depends on), and which
entries depend on which. Does not own any check: whoever checks asks no more of what is left out, and of what names it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vitdsl.dsl.claim_entries import Claim
from vitdsl.dsl.claim_forms import quantities_of
from vitdsl.dsl.diagnostics import Diagnostic
from vitdsl.dsl.entries import Metric
from vitdsl.dsl.nodes import Path
from vitdsl.dsl.schema import validated
from vitdsl.dsl.shape import fields_of
from vitdsl.dsl.source import SourceMap
from vitdsl.dsl.sweeps import sweep_problems
from vitdsl.dsl.words import BASELINE, OWN

if TYPE_CHECKING:
    from vitdsl.dsl.study import Study

Entry = tuple[str, str]
"""A section and the name of an entry in it."""
SECTIONS = ("data", "models", "layers", "ablations", "metrics", "claims")
ALONE = ("weights", "train", "seed")
"""Fields of a model that no entry depends on: what else names the model asks for its structure."""


@dataclass(frozen=True)
class Readable:
    """What can be read of a document.

    Attributes:
        study: The entries that can be read.
        problems: What is wrong with the others.
        dropped: What was left out: fields, entries, whole sections.
    """

    study: "Study"
    problems: tuple[Diagnostic, ...] = ()
    dropped: frozenset[Path] = frozenset()


def readable(
    language: "type[Study]", data: Any, source: SourceMap, problems: Iterable[Diagnostic] = ()
) -> Readable:
    """The study that plain data are, or what can be read of it.

    Args:
        language: The type of a whole study.
        data: The document as plain data.
        source: Where its values were written.
        problems: What is known to be wrong with it.
    """
    known = list(problems)
    dropped = {taken for one in known for taken in _taken(one)}
    found = validated(language, _without(data, dropped), source)
    if not isinstance(found, list):
        return Readable(found, tuple(known), frozenset(dropped))
    known += found
    dropped |= _unread_sections(language, data)
    while isinstance(found, list):
        dropped |= {taken for one in found for taken in _taken(one)}
        found = validated(language.in_part, _without(data, dropped), source)
    return Readable(found, tuple(known), frozenset(dropped))


def without_bad_sweeps(found: Readable) -> Readable:
    """The same without entries whose sweeps cannot be written out."""
    bad = {
        (section, name)
        for section in ("data", "models", "ablations")
        for name, entry in getattr(found.study, section).items()
        if any(sweep_problems(section, name, entry, SourceMap()))
    }
    return Readable(left_of(found.study, bad), found.problems, found.dropped | bad) if bad else found


def is_dropped(dropped: frozenset[Path], section: str, name: str) -> bool:
    """Whether a name was written, or may have been, in what cannot be read."""
    return (section,) in dropped or (section, name) in dropped


def names_of(dropped: frozenset[Path], section: str) -> list[str]:
    """The names of a section's entries of which something cannot be read."""
    return sorted({str(path[1]) for path in dropped if len(path) > 1 and path[0] == section})


def entry_of(problem: Diagnostic) -> Entry | None:
    """The entry that a problem is placed at; None where it is at none."""
    path = problem.about[0] if problem.about else ()
    return (str(path[0]), str(path[1])) if len(path) > 1 and path[0] in SECTIONS else None


def takes_others(problem: Diagnostic) -> bool:
    """Whether what names an entry cannot be judged while this is wrong with it."""
    path = problem.about[0] if problem.about else ()
    return not (path[:1] == ("models",) and path[2:3] and path[2] in ALONE)


def left_of(study: "Study", gone: Iterable[Entry]) -> "Study":
    """The study without some entries."""
    lost = set(gone)
    sections = {
        section: {
            name: entry for name, entry in getattr(study, section).items() if (section, name) not in lost
        }
        for section in SECTIONS
    }
    return study.model_copy(update=sections)


def dependent(
    study: "Study",
    broken: Iterable[Entry],
    links: Mapping[Entry, Iterable[Entry]],
    dropped: frozenset[Path] = frozenset(),
) -> set[Entry]:
    """The entries of a study that are broken or name such a one, however far away, or one that it does not have.

    Args:
        study: The study.
        broken: The entries with something wrong.
        links: What entries name beside the fields that all entries have: parameters of their kinds.
        dropped: What could not be read of the document.
    """
    named = {entry: {*found, *links.get(entry, ())} for entry, found in _named(study, dropped).items()}
    gone = {*broken}
    before = -1
    while len(gone) > before:
        before = len(gone)
        gone |= {
            entry for entry, found in named.items() if any(one in gone or one not in named for one in found)
        }
    return gone


def _named(study: "Study", dropped: frozenset[Path]) -> dict[Entry, set[Entry]]:
    """What each entry names of other entries."""
    found: dict[Entry, set[Entry]] = {}
    for name, data in study.data.items():
        found["data", name] = {("models", data.preprocess)} - {("models", OWN)}
    for name, model in study.models.items():
        train = model.train
        without = train.without if train is not None else None
        found["models", name] = {("ablations", one) for one in without or ()}
    for section in ("layers", "ablations"):
        for name, entry in getattr(study, section).items():
            found[section, name] = {("models", entry.of)}
    for name, metric in study.metrics.items():
        found["metrics", name] = _of_metric(study, metric)
    for name, claim in study.claims.items():
        found["claims", name] = _of_claim(study, claim, dropped)
    return found


def _of_metric(study: "Study", metric: Metric) -> set[Entry]:
    data = metric.data or next(iter(study.data), None)
    return {
        *(("models", one) for one in metric.of or ()),
        *(("layers", one) for one in (metric.x, metric.y) if one is not None),
        *(("ablations", one) for one in metric.under or () if one != BASELINE),
        ("data", data or ""),
    }


def _of_claim(study: "Study", claim: Claim, dropped: frozenset[Path]) -> set[Entry]:
    """Its metrics, and the ablations that make conditions of them."""
    found: set[Entry] = set()
    for _, quantity in quantities_of(claim):
        found.add(("metrics", quantity.metric))
        metric = study.metrics.get(quantity.metric)
        if metric is not None and metric.under is None:
            layers = [study.layers.get(one) for one in (metric.x, metric.y) if one is not None]
            models = {*(metric.of or ()), *(one.of for one in layers if one is not None)}
            found |= {("ablations", name) for name, one in study.ablations.items() if one.of in models}
            found |= {("ablations", str(path[-1])) for path in dropped if path[0] == "ablations"}
    return found


def _taken(problem: Diagnostic) -> list[Path]:
    """What a problem takes with it."""
    path = problem.about[0] if problem.about else ()
    if not path or path[0] not in SECTIONS:
        return [path[:1]] if path else []
    return [path[:2]] if takes_others(problem) else [path[:3]]


def _unread_sections(language: "type[Study]", data: Any) -> set[Path]:
    """The sections that are not there, where they may be under a key that is none of the language's."""
    known = fields_of(language)
    needed = {key for key, field in language.model_fields.items() if field.is_required()}
    strange = any(key not in known for key in data)
    return {(one,) for one in SECTIONS if one not in data and (strange or one in needed)}


def _without(data: Any, dropped: Iterable[Path]) -> Any:
    """Plain data without the values at some paths."""
    here = {path[0] for path in dropped if len(path) == 1}
    below = {path[0] for path in dropped if len(path) > 1}
    if not isinstance(data, dict):
        return data
    return {
        key: _without(value, [path[1:] for path in dropped if len(path) > 1 and path[0] == key])
        if key in below
        else value
        for key, value in data.items()
        if key not in here
    }
