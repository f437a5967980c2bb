"""Trust checks beside the numbers that they vouch for, in the block store.

A check is saved with the keys of the units that it speaks of: of its group or its model, under each of its conditions.
It is taken over where a study has all that it speaks of, and nowhere else. Models, groups and conditions may be called
otherwise in that study, so names are left out. Does not own the checks (`trust`).
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from vitdsl.runtime.metrics._base import Observer
from vitdsl.runtime.plan.plan import Group, View
from vitdsl.runtime.results.manifest import Check

Unit = tuple[str, str]
"""Path of a group, and the id of one of its views."""
SIDES = ("x", "y")
MODEL, GROUP, CONDITION = "{model}", "{group}", "{condition %d}"
"""What stands in a saved check for the names of the model, of the group that it is about, and of its conditions."""


def saved_form(
    checks: Iterable[Check], groups: Sequence[Group[Observer]], units: Mapping[Unit, str]
) -> list[dict[str, Any]]:
    """Checks ready for JSON, each with the units that it speaks of.

    `of` has one entry for each of its conditions, one in all where it has none (`named` is false): the units' keys, and
    the side of each that is the check's model.
    """
    found = []
    for check in checks:
        grouped = any(group.path == check.about for group in groups)
        sides = list(_sides([group for group in groups if not grouped or group.path == check.about], units))
        of = [
            {
                key: side
                for group, view, side, key in sides
                if getattr(group, side).model == check.model
                and condition in (None, _name(view, side, grouped))
            }
            for condition in check.conditions or (None,)
        ]
        names = {check.about: GROUP} if grouped else {}
        names |= {condition: CONDITION % nth for nth, condition in enumerate(check.conditions)}
        names |= {check.model: MODEL}
        about = GROUP if grouped else check.about
        nameless = check.model_copy(
            update={"model": MODEL, "about": about, "text": _called(check.text, names)}
        )
        named = bool(check.conditions)
        said = nameless.model_dump(mode="json")
        found.append({"check": said, "of": of, "named": named, "parts": check.parts})
    return found


def taken_over(
    saved: Iterable[Mapping[str, Any]], groups: Sequence[Group[Observer]], units: Mapping[Unit, str]
) -> list[Check]:
    """The checks of which all that they speak of is here, with the names of this study.

    Args:
        saved: What `saved_form` gave.
        groups: The groups of this study.
        units: The keys of all units of this study's pass.
    """
    sides = list(_sides(groups, units))
    found = []
    for one in saved:
        check, of = Check.model_validate(one["check"]), one.get("of", [])
        grouped = check.about == GROUP
        here: dict[tuple[str, str], dict[int, str]] = {}
        for group, view, side, key in sides:
            known = here.setdefault((getattr(group, side).model, group.path if grouped else ""), {})
            name = _name(view, side, grouped)
            places = (nth for nth, keys in enumerate(of) if keys.get(key) == side and nth not in known)
            if name not in known.values() and (nth := next(places, None)) is not None:
                known[nth] = name
        for (model, path), known in here.items():
            if len(known) == len(of) > 0:
                spoken = [known[nth] for nth in range(len(of))]
                names = {MODEL: model, GROUP: path}
                names |= {CONDITION % nth: condition for nth, condition in enumerate(spoken)}
                update = {
                    "model": model,
                    "about": path if grouped else check.about,
                    "text": _called(check.text, names),
                    "conditions": tuple(spoken) if one["named"] else (),
                    "parts": tuple(map(tuple, one.get("parts", ()))),
                }
                found.append(check.model_copy(update=update))
    return once(found)


def once(checks: Iterable[Check]) -> list[Check]:
    """Trust checks, each once, however many processes made it: one that does not hold before one that does."""
    found: dict[tuple[str, str, str, frozenset[str]], Check] = {}
    for check in checks:
        key = check.check, check.model, check.about, frozenset(check.conditions)
        if key not in found or (found[key].ok and not check.ok):
            found[key] = check
    return list(found.values())


def _sides(
    groups: Iterable[Group[Observer]], units: Mapping[Unit, str]
) -> Iterator[tuple[Group[Observer], View, str, str]]:
    """Each view of some groups, from each of its sides, with its unit's key."""
    for group in groups:
        for view in group.views:
            if (group.path, view.id) in units:
                for side in SIDES:
                    yield group, view, side, units[group.path, view.id]


def _name(view: View, side: str, grouped: bool) -> str:
    """What a check of a group or of a model calls a view seen from a side."""
    return view.id if grouped else str(getattr(view, side))


def _called(text: str, names: Mapping[str, str]) -> str:
    """A text with some of the names that it quotes exchanged."""
    return re.sub("`([^`]*)`", lambda quoted: f"`{names.get(quoted[1], quoted[1])}`", text)
