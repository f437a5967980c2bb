"""Selectors against the sites of one model, with an error that shows what there is instead."""

from collections.abc import Sequence
from typing import Any

from vitdsl.dsl.diagnostics import Diagnostic
from vitdsl.dsl.loaded import Loaded
from vitdsl.dsl.selectors import match, nearest
from vitdsl.dsl.text import ticked
from vitdsl.runtime.graph.sites import ROLES, UNIT_ROLES, Sites

WORDS = {
    "image": "batch of images",
    "embedding": "embedding of patches as tokens",
    "position": "position embedding",
    "pool": "pool that makes one vector of tokens",
}


def role_words(role: str) -> str:
    """What stands at the places that have a role."""
    if role in UNIT_ROLES:
        return "residual unit"
    if role in WORDS:
        return WORDS[role]
    return "attention" if role in ("attention", "heads") else f"site with the role `{role}`"


def chosen(sites: Sites, role: str, selectors: Sequence[str]) -> list[str]:
    """The names with a role that selectors pick, in order of execution.

    A residual unit or an attention module is also picked by the path of the module that holds it: `blocks.3` picks
    `blocks.3.attn` and `blocks.3.mlp`.
    """
    names = sites.names(role)
    holders = {name: sites.holder(name, role) for name in names}
    known = list(dict.fromkeys([*names, *filter(None, holders.values())]))
    picked = set(match([one for one in selectors if not one.startswith("!")], known))
    dropped = set(match([one[1:] for one in selectors if one.startswith("!")], known))
    return [name for name in names if {name, holders[name]} & picked and not {name, holders[name]} & dropped]


def matched(
    loaded: Loaded,
    where: Sequence[str | int],
    selectors: Sequence[str] | None,
    sites: Sites,
    role: str,
    what: str,
    problems: list[Diagnostic],
    about: Sequence[tuple[str | int, ...]] = (),
) -> list[str]:
    """The names with a role that a study's selectors pick; none given takes all.

    Each selector of a list must match something by itself; one that does not is a problem, noted: nothing of that
    name (VD210), or only in other roles (VD240).

    Args:
        loaded: The study, for the place of the error.
        where: Path of the selectors in the study.
        selectors: As written.
        sites: The model's sites.
        role: The role that is wanted.
        what: What a name stands for, for the message.
        problems: Where problems are noted.
        about: What a problem is also about: the model, where one selector is for several.
    """
    names = sites.names(role)
    if selectors is None:
        if not names:
            shown = "branch" if role in UNIT_ROLES else role
            hint = f"`vitdsl sites MODEL --role {shown}` shows what a model has; leave this out for this one"
            problems.append(
                loaded.problem(
                    "VD210",
                    where[:-1],
                    f"there is no {what}",
                    label="none",
                    help=(hint,),
                    key=True,
                    about=about,
                )
            )
        return list(names)
    before = len(problems)
    unfollowed = (sites.unfollowed.said,) if sites.unfollowed is not None and not names else ()
    for index, selector in enumerate(selectors):
        if chosen(sites, role, [selector.removeprefix("!")]):
            continue
        path: tuple[Any, ...] = tuple(where)
        if len(selectors) > 1 or loaded.source.text(path) is None:
            path = (*path, index)
        others = _other_roles(sites, selector, role)
        problems.append(
            loaded.problem(
                "VD240" if others else "VD210",
                path,
                f"selector `{selector}` matches no {what}",
                label="matches nothing",
                help=(_instead(names, selector),),
                notes=(others, *unfollowed),
                about=about,
            )
        )
    found = chosen(sites, role, selectors)
    if not found and len(problems) == before:
        problems.append(
            loaded.problem(
                "VD210",
                where,
                f"the selectors together match no {what}",
                label="nothing is left",
                help=("`!` leaves out, wherever it stands in the list: narrow what it leaves out",),
                about=about,
            )
        )
    return found


def _instead(names: Sequence[str], selector: str) -> str:
    if not names:
        return "`vitdsl sites MODEL` shows what the model has"
    near = nearest(selector, names, n=3)
    if near:
        return f"nearest: {', '.join(f'`{one}` ({len(match([one], names))})' for one in near)}"
    return f"there are {ticked(names)}"


def _other_roles(sites: Sites, selector: str, wanted: str) -> str:
    roles = [role for role in ROLES if role != wanted and chosen(sites, role, [selector])]
    return f"it matches sites with the role {' or '.join(f'`{role}`' for role in roles)}" if roles else ""
