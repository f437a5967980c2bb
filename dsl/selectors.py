r"""Selectors: dotted globs over the names of sites, one grammar for YAML, command line and Python.

    blocks.*          `*` and `?` stay within one part of the path
    blocks.**.attn    `**` crosses zero or more parts
    layer[2-3].*      one character from a range
    blocks[0:6]       numbered children, counted like a Python list; also `[3]`, `[-1]`, `[0:12:2]`
    *.{attn,mlp}      alternatives
    !blocks.0         left out of the list that it stands in

Owns parsing and matching. Does not own which names exist.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from vitdsl.dsl.text import close_names

_LONGEST = 500
_MOST_ALTERNATIVES = 64
_INDEX = re.compile(r"\[(-?\d{1,6})\]")
_SLICE = re.compile(r"\[(-?\d{0,6})(?<!-):(-?\d{0,6})(?<!-)(?::(-?\d{0,6})(?<!-))?\]")
_RANGE = re.compile(r"\[([0-9a-zA-Z])-([0-9a-zA-Z])\]")
_NAME = re.compile(r"[A-Za-z0-9_\-]")


class SelectorError(ValueError):
    """A selector that cannot be read; `start` and `end` are offsets into its text."""

    def __init__(self, message: str, start: int, end: int, hint: str = "") -> None:
        super().__init__(message)
        self.start, self.end, self.hint = start, end, hint


@dataclass(frozen=True)
class Star:
    """Any characters of one part."""


@dataclass(frozen=True)
class Chars:
    """One character between two others, both included."""

    low: str
    high: str


@dataclass(frozen=True)
class Glob:
    """One part of a path: literal characters, ranges and stars."""

    tokens: tuple[Star | Chars, ...]


@dataclass(frozen=True)
class Numbered:
    """One part of a path that is a number, by its position among its siblings."""

    positions: slice | int


@dataclass(frozen=True)
class Deep:
    """`**`: zero or more parts."""


Part = Glob | Numbered | Deep


@dataclass(frozen=True)
class Selector:
    """A parsed selector: one or more alternative paths, kept or left out."""

    text: str
    exclude: bool
    paths: tuple[tuple[Part, ...], ...]


@lru_cache(maxsize=1024)
def parse(text: str) -> Selector:
    """Read a selector.

    Raises:
        SelectorError: It is not one; the error says which characters are wrong.
    """
    if len(text) > _LONGEST:
        raise SelectorError(f"a selector of {len(text)} characters", 0, len(text))
    exclude = text.startswith("!")
    letters = [(letter, offset) for offset, letter in enumerate(text)][1 if exclude else 0 :]
    if not letters:
        raise SelectorError("an empty selector", 0, len(text), "`**` selects every site")
    paths = tuple(_path(spelling, len(text)) for spelling in _spellings(letters))
    return Selector(text, exclude, paths)


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
    parsed = [parse(text) for text in selectors]
    children = _numbered_children(names)
    found = []
    for name in names:
        parts = tuple(name.split(".")) if name else ()
        picked = any(_selects(one, parts, children) for one in parsed if not one.exclude)
        if picked and parts and not any(_selects(one, parts, children) for one in parsed if one.exclude):
            found.append(name)
    return found


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


Letters = list[tuple[str, int]]


def _spellings(letters: Letters) -> list[Letters]:
    """The selector with its `{a,b}` written out, each letter with its offset."""
    found: list[Letters] = [[]]
    rest = list(letters)
    while rest:
        letter, offset = rest[0]
        if letter == "}":
            raise SelectorError("`}` closes nothing", offset, offset + 1)
        if letter != "{":
            for one in found:
                one.append(rest[0])
            rest = rest[1:]
            continue
        close = next((index for index, (other, _) in enumerate(rest) if other == "}"), None)
        if close is None:
            raise SelectorError("`{` is never closed", offset, offset + 1, "write `{attn,mlp}`")
        found = [one + choice for one in found for choice in _choices(rest[1:close], offset)]
        if len(found) > _MOST_ALTERNATIVES:
            raise SelectorError(f"more than {_MOST_ALTERNATIVES} alternatives", offset, rest[close][1] + 1)
        rest = rest[close + 1 :]
    return found


def _choices(letters: Letters, start: int) -> list[Letters]:
    choices: list[Letters] = [[]]
    for letter, offset in letters:
        if letter == "{":
            raise SelectorError("alternatives inside alternatives", offset, offset + 1)
        if letter == ",":
            choices.append([])
        else:
            choices[-1].append((letter, offset))
    if not all(choices):
        raise SelectorError("an empty alternative", start, start + 1, "write `{attn,mlp}`")
    return choices


def _path(letters: Letters, length: int) -> tuple[Part, ...]:
    text = "".join(letter for letter, _ in letters)
    offsets = [*(offset for _, offset in letters), length]
    parts: list[Part] = []
    start = 0
    for piece in text.split("."):
        end = start + len(piece)
        parts += _parts(piece, start, offsets)
        start = end + 1
    return tuple(parts)


def _parts(piece: str, start: int, offsets: Sequence[int]) -> list[Part]:
    """One dotted piece: a glob, perhaps with a position behind it."""

    def wrong(message: str, first: int, last: int, hint: str = "") -> SelectorError:
        return SelectorError(message, offsets[start + first], offsets[start + last - 1] + 1, hint)

    if not piece:
        dot = offsets[max(start - 1, 0)]
        raise SelectorError("an empty part of a path", dot, dot + 1, "remove a dot")
    if piece == "**":
        return [Deep()]
    tokens: list[Star | Chars] = []
    at = 0
    while at < len(piece):
        letter = piece[at]
        if piece.startswith("**", at):
            raise wrong("`**` stands alone between dots", at, at + 2, "write `blocks.**.attn`")
        if letter == "*":
            tokens.append(Star())
        elif letter == "?":
            tokens.append(Chars("\0", "\U0010ffff"))
        elif letter == "[":
            span = _RANGE.match(piece, at)
            if span:
                low, high = span.groups()
                if low > high:
                    raise wrong(f"`{low}-{high}` is an empty range", at, span.end())
                tokens.append(Chars(low, high))
                at = span.end()
                continue
            position = _position(piece, at)
            if position is None:
                raise _bad_bracket(piece, at, wrong)
            if not tokens:
                raise wrong("a position needs a name before it", at, len(piece), "write `blocks[0:6]`")
            if position.positions == slice(None, None, 0) or _step(position) == 0:
                raise wrong("a step of zero", at, len(piece))
            return [Glob(tuple(tokens)), position]
        elif _NAME.match(letter):
            tokens.append(Chars(letter, letter))
        else:
            hint = "commas go between `{` and `}`, or write a list" if letter == "," else ""
            raise wrong(f"`{letter}` has no meaning in a selector", at, at + 1, hint)
        at += 1
    return [Glob(tuple(tokens))]


def _position(piece: str, at: int) -> Numbered | None:
    """The position that ends a piece, if one starts here."""
    index = _INDEX.match(piece, at)
    if index and index.end() == len(piece):
        return Numbered(int(index.group(1)))
    found = _SLICE.match(piece, at)
    if not found or found.end() != len(piece):
        return None
    start, stop, step = (int(number) if number else None for number in found.groups())
    return Numbered(slice(start, stop, step))


def _step(position: Numbered) -> int | None:
    found = position.positions
    return None if isinstance(found, int) else found.step


def _bad_bracket(piece: str, at: int, wrong: Callable[[str, int, int, str], SelectorError]) -> SelectorError:
    close = piece.find("]", at)
    end = close + 1 if close >= 0 else len(piece)
    inner = piece[at + 1 : end - 1]
    numbers = re.fullmatch(r"(\d+)-(\d+)", inner)
    hint = "write a position `[3]`, a slice `[0:6]`, a range `[2-3]`, or alternatives `{a,b}`"
    if close < 0:
        message = "`[` is never closed"
    elif numbers:
        message = f"`[{inner}]`: a range takes single characters"
        hint = f"write the slice `[{numbers.group(1)}:{int(numbers.group(2)) + 1}]`"
    elif end < len(piece):
        message = "a position ends its part of the path"
        hint = "write `blocks[3].attn`"
    else:
        message = f"`[{inner}]` is neither a position nor a range"
    return wrong(message, at, end, hint)


Children = dict[tuple[str, ...], list[int]]


def _numbered_children(names: Iterable[str]) -> Children:
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
