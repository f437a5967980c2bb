"""Selectors against the sites of one model, with an error that shows what there is instead."""

from collections.abc import Sequence
from typing import Any

from vitdsl.dsl.diagnostics import Diagnostic
from vitdsl.dsl.load import Loaded
from vitdsl.dsl.selectors import match, nearest
from vitdsl.runtime.sites import ROLES, Sites


def matched(
    loaded: Loaded,
    where: Sequence[str | int],
    selectors: Sequence[str] | None,
    names: Sequence[str],
    what: str,
    problems: list[Diagnostic],
    sites: Sites | None = None,
) -> list[str]:
    """The names that selectors match, in order; none given takes all.

    Each selector of a list must match something by itself; one that does not is a problem (VD210), noted.

    Args:
        loaded: The study, for the place of the error.
        where: Path of the selectors in the study.
        selectors: As written.
        names: The candidates.
        what: What a candidate is, for the message.
        problems: Where problems are noted.
        sites: The model's sites, to say which other roles a name has.
    """
    if selectors is None:
        if not names:
            problems.append(
                loaded.problem("VD210", where[:-1], f"there is no {what}", key=True, help=(_instead(names, ""),))
            )
        return list(names)
    for index, selector in enumerate(selectors):
        alone = match([selector.removeprefix("!")], names)
        if alone:
            continue
        path: tuple[Any, ...] = tuple(where)
        if len(selectors) > 1 or loaded.source.text(path) is None:
            path = (*path, index)
        problems.append(
            loaded.problem(
                "VD210",
                path,
                f"selector `{selector}` matches no {what}",
                label="matches nothing",
                help=(_instead(names, selector),),
                notes=(_other_roles(sites, selector, names),),
            )
        )
    found = match(list(selectors), names)
    if not found and not problems:
        problems.append(loaded.problem("VD210", where, f"the selectors together match no {what}"))
    return found


def _instead(names: Sequence[str], selector: str) -> str:
    if not names:
        return "see `vitdsl sites MODEL` for what the model has"
    near = nearest(selector, names, n=3) if selector else list(names[:3])
    more = f", ... ({len(names)} in all)" if len(names) > len(near) else ""
    return f"there are: {', '.join(f'`{name}`' for name in near)}{more}"


def _other_roles(sites: Sites | None, selector: str, names: Sequence[str]) -> str:
    if sites is None:
        return ""
    roles = [
        role for role in ROLES if sites.names(role) != list(names) and match([selector], sites.names(role))
    ]
    return f"it matches sites with the role {' and '.join(f'`{role}`' for role in roles)}" if roles else ""
