"""Several mistakes in one study are found at once: what is said is what is said of each by itself.

The exact law, over random sets of mistakes that lie in entries of which none names another, however far away:

* nothing is said of several that is not said of one of them: no mistake is the consequence of another;
* everything is said that is said of one alone, unless it is also about an entry that names what another broke: that
  entry is left out until the other is mended.
"""

import copy
import random
from pathlib import Path
from typing import Any

import pytest

from mutants import Path_, at, changes, nodes, place_of_studies
from studies import OFFLINE
from vitdsl.dsl.diagnostics import Diagnostic, VitdslError
from vitdsl.dsl.emit import block
from vitdsl.dsl.load import inspect_text, load_text
from vitdsl.dsl.nodes import plain
from vitdsl.dsl.reader import read
from vitdsl.dsl.rest import SECTIONS, Entry, dependent, entry_of
from vitdsl.dsl.study import Study
from vitdsl.runtime.plan import bind as binding
from vitdsl.runtime.plan.bind_kinds import Kinds

STUDIES = [path for path in OFFLINE if "\nstudy:" in path.read_text("utf-8")]
ROUNDS = 2
"""Sets of mistakes for each study."""

Key = tuple[str, str, tuple[Entry, ...]]
Slip = tuple[Path_, str]


@pytest.fixture(autouse=True)
def _built_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place_of_studies(tmp_path, monkeypatch)


def found_in(data: Any) -> list[Diagnostic]:
    """Everything that is said of a study."""
    try:
        binding.bind(inspect_text(block(data), "f.yaml"))
    except VitdslError as error:
        return list(error.diagnostics)
    return []


def key_of(one: Diagnostic) -> Key:
    """What a diagnostic says, and of which entries, wherever the lines of the file are."""
    return one.code, one.message, entries_of(one)


def entries_of(one: Diagnostic) -> tuple[Entry, ...]:
    """The entries that a diagnostic is about."""
    found = [path[:2] for path in one.about if len(path) > 1 and path[0] in SECTIONS]
    return tuple(sorted({(str(section), str(name)) for section, name in found}))


def slipped(data: Any, slips: list[Slip]) -> Any:
    """The study with some slips."""
    mutant = copy.deepcopy(data)
    for path, what in slips:
        change = next(one for name, one in changes(data, path) if name == what)
        change(mutant, at(mutant, path[:-1]), path[-1])
    return mutant


def everything_after(study: Study, entry: Entry, links: dict[Entry, set[Entry]]) -> set[Entry]:
    """An entry and all that name it, however far away."""
    return dependent(study, {entry}, links)


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_several_mistakes_are_found_at_once(path: Path) -> None:
    data = plain(read(path.read_text("utf-8"), path.name))
    loaded = load_text(block(data), "f.yaml")
    kinds = Kinds(loaded)
    kinds.check_all()
    study = loaded.study
    after = {
        (section, name): everything_after(study, (section, name), kinds.links)
        for section in SECTIONS
        for name in getattr(study, section)
    }
    places = [one for one in nodes(data) if one[0] in SECTIONS and len(one) > 2]
    rng = random.Random(path.stem)
    whole, seen = 0, 0
    for _ in range(ROUNDS):
        slips: list[Slip] = []
        alone: list[list[Diagnostic]] = []
        wanted = rng.randint(2, 6)
        for place in rng.sample(places, min(len(places), 40)):
            mine = (str(place[0]), str(place[1]))
            others = [(str(other[0]), str(other[1])) for other, _ in slips]
            if any(mine in after[other] or other in after[mine] for other in others):
                continue
            ways = [what for what, _ in changes(data, place) if what.partition(" ")[0] in WAYS]
            slip = place, rng.choice(ways)
            said = found_in(slipped(data, [slip]))
            if said:
                slips.append(slip)
                alone.append(said)
            if len(slips) == wanted:
                break
        if len(slips) < 2:
            continue
        seen += 1
        together = {key_of(one) for one in found_in(slipped(data, slips))}
        every = {key_of(one) for said in alone for one in said}
        assert together <= every, (slips, together - every)
        hidden: set[Key] = set()
        for index, said in enumerate(alone):
            broken = {
                entry
                for other, found in enumerate(alone)
                if other != index
                for one in [*map(entry_of, found), slips[other][0][:2]]
                if one is not None
                for entry in after.get((str(one[0]), str(one[1])), ())
            }
            hidden |= {key_of(one) for one in said if broken & {*entries_of(one)}}
        assert every - hidden <= together, (slips, every - hidden - together)
        whole += together == every
    assert seen and whole


WAYS = ("delete", "retype", "rename")
