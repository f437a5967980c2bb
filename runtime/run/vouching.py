"""Trust checks beside the numbers that they vouch for, in the block store.

A check is saved with the keys of the units that it speaks of, and is taken over with any of these and no other. Models
may be called otherwise in the study that finds it, so names are left out. Does not own the checks (`trust`).
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from vitdsl.runtime.metrics._base import Observer
from vitdsl.runtime.plan.plan import Group
from vitdsl.runtime.results.manifest import Check

Unit = tuple[str, str]
"""Path of a group, and the id of one of its views."""
MODEL, GROUP = "{model}", "{group}"
"""What stands in a saved check for the name of the model, and for the group that it is about."""


def saved_form(
    checks: Iterable[Check], groups: Sequence[Group[Observer]], units: Mapping[Unit, str]
) -> list[dict[str, Any]]:
    """Checks ready for JSON, each with the units that it vouches for and the side of them that it looked at."""
    found = []
    for check in checks:
        sides = {
            key: "x" if group.x.model == check.model else "y"
            for group in groups
            if check.model in group.models and (group.path == check.about or not _about_one(check, groups))
            for (path, _), key in units.items()
            if path == group.path
        }
        about = GROUP if _about_one(check, groups) else check.about
        text = check.text.replace(f"`{check.model}`", f"`{MODEL}`").replace(f"`{check.about}`", f"`{GROUP}`")
        nameless = check.model_copy(update={"model": MODEL, "about": about, "text": text})
        found.append({"check": nameless.model_dump(mode="json"), "units": sides})
    return found


def taken_over(
    saved: Iterable[Mapping[str, Any]], groups: Sequence[Group[Observer]], units: Mapping[Unit, str]
) -> list[Check]:
    """The checks that vouch for some units, with the names of this study.

    Args:
        saved: What `saved_form` gave.
        groups: The groups of this study.
        units: The keys of the units that were found together with the checks.
    """
    by_path = {group.path: group for group in groups}
    found = []
    for one in saved:
        for (path, _), key in units.items():
            if key in one["units"]:
                group = by_path[path]
                model = getattr(group, one["units"][key]).model
                check = Check.model_validate(one["check"])
                names = {
                    "model": model,
                    "about": check.about.replace(GROUP, path),
                    "text": check.text.replace(MODEL, model).replace(GROUP, path),
                }
                found.append(check.model_copy(update=names))
    return once(found)


def once(checks: Iterable[Check]) -> list[Check]:
    """Trust checks, each once, however many processes made it: one that does not hold before one that does."""
    found: dict[tuple[str, str, str], Check] = {}
    for check in checks:
        key = check.check, check.model, check.about
        if key not in found or (found[key].ok and not check.ok):
            found[key] = check
    return list(found.values())


def _about_one(check: Check, groups: Sequence[Group[Observer]]) -> bool:
    return any(group.path == check.about for group in groups)
