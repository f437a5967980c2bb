r"""Selectors: dotted globs over the names of sites, one grammar for YAML, command line and Python.

    blocks.*          `*` and `?` stay within one part of the path
    blocks.**.attn    `**` crosses zero or more parts
    layer[2-3].*      one character from a range
    blocks[0:6]       numbered children, counted like a Python list; also `[3]`, `[-1]`, `[0:12:2]`
    *.{attn,mlp}      alternatives
    !blocks.0         left out of the list that it stands in
    blocks.0.act:1    the second call of a module that is called again

Owns matching; the syntax is in `selector_parser`. Does not own which names exist.
"""

import re
from collections.abc import Sequence
from functools import lru_cache

from vitdsl.dsl.selector_parser import (
    Chars,
    Deep,
    Glob,
    Numbered,
    Part,
    Selector,
    SelectorError,
    Star,
    parse,
)
from vitdsl.dsl.text import close_names

__all__ = ["Selector", "SelectorError", "check", "match", "nearest", "parse"]


def check(selectors: Sequence[str]) -> None:
    """Read a list of selectors and refuse one that only leaves out.

    Raises:
        SelectorError: One of them is wrong, or none of them selects.
    """
    if all(parse(text).exclude for text in selectors):
        raise SelectorError(
            "nothing is selected: every selector leaves out", 0, 1, 'add "**" to start from all'
        )


def match(selectors: Sequence[str], names: Sequence[str]) -> list[str]:
    """The names that a list of selectors picks, in the order of `names`.

    Args:
        selectors: A union; those with a leading `!` leave out, wherever they stand in the list.
        names: Site names. Positions such as `blocks[-1]` count among the numbered children in these.
    """
    return list(_matched(tuple(selectors), tuple(names)))


@lru_cache(maxsize=1 << 12)
def _matched(selectors: tuple[str, ...], names: tuple[str, ...]) -> tuple[str, ...]:
    """Metrics, conditions and variants of a model ask the same of the same names."""
    parsed = [parse(text) for text in selectors]
    children = _numbered_children(names)
    found = []
    for name in names:
        parts = tuple(name.split(".")) if name else ()
        picked = any(_selects(one, parts, children) for one in parsed if not one.exclude)
        if picked and parts and not any(_selects(one, parts, children) for one in parsed if one.exclude):
            found.append(name)
    return tuple(found)


def nearest(text: str, names: Sequence[str], n: int = 3) -> list[str]:
    """What a selector that matches nothing may have meant: names, or patterns such as `blocks.*.attn`."""
    wanted = re.sub(r"\[[^\]]*\]", ".*", text.lstrip("!"))
    wanted = re.sub(r"\.\d+(?=\.|$)", ".*", wanted)
    patterns = list(dict.fromkeys(re.sub(r"(^|\.)\d+(?=\.|$)", r"\1*", name) for name in names if name))
    if not re.search(r"[*?\[{]", text):
        exact = close_names(text, list(names), n, cutoff=0.75)
        if exact:
            return exact
    alike = [one for one in patterns if one.count(".") == wanted.count(".")]
    found = close_names(wanted, alike, n, cutoff=0.6)
    return list(dict.fromkeys([*found, *close_names(wanted, patterns, n, cutoff=0.5)]))[:n]


Children = dict[tuple[str, ...], list[int]]


@lru_cache(maxsize=1 << 8)
def _numbered_children(names: tuple[str, ...]) -> Children:
    """The numbers that stand under each path, in order."""
    found: dict[tuple[str, ...], set[int]] = {}
    for name in names:
        parts = name.split(".")
        for index, part in enumerate(parts):
            if _is_number(part):
                found.setdefault(tuple(parts[:index]), set()).add(int(part))
    return {path: sorted(numbers) for path, numbers in found.items()}


def _is_number(part: str) -> bool:
    return part.isascii() and part.isdigit() and len(part) < 10


def _selects(selector: Selector, parts: tuple[str, ...], children: Children) -> bool:
    return any(_fits(path, parts, children) for path in selector.paths)


def _fits(path: tuple[Part, ...], parts: tuple[str, ...], children: Children) -> bool:
    """Whether a path fits a name: which prefixes of the name fit, one step of the path after another."""
    reached = {0}
    for step in path:
        following: set[int] = set()
        for index in reached:
            if isinstance(step, Deep):
                following.update(range(index, len(parts) + 1))
            elif index < len(parts) and _part_fits(step, parts, index, children):
                following.add(index + 1)
        reached = following
    return len(parts) in reached


def _part_fits(step: Glob | Numbered, parts: tuple[str, ...], index: int, children: Children) -> bool:
    if isinstance(step, Glob):
        return _glob_fits(step.tokens, parts[index])
    if not _is_number(parts[index]):
        return False
    siblings = children[parts[:index]]
    if isinstance(step.positions, slice):
        return int(parts[index]) in siblings[step.positions]
    inside = -len(siblings) <= step.positions < len(siblings)
    return inside and siblings[step.positions] == int(parts[index])


@lru_cache(maxsize=1 << 16)
def _glob_fits(tokens: tuple[Star | Chars, ...], part: str) -> bool:
    reached = {0}
    for token in tokens:
        if isinstance(token, Star):
            reached = set(range(min(reached), len(part) + 1)) if reached else set()
        else:
            reached = {i + 1 for i in reached if i < len(part) and token.low <= part[i] <= token.high}
    return len(part) in reached
