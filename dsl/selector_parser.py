"""The grammar of selectors: from a text to its parts.

Owns the syntax and its errors, which know the characters that they are about. Does not own matching
(`selectors`, where the grammar is described).
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

_LONGEST = 500
_MOST_ALTERNATIVES = 64
_INDEX = re.compile(r"\[(-?\d{1,6})\]")
_SLICE = re.compile(r"\[(-?\d{0,6})(?<!-):(-?\d{0,6})(?<!-)(?::(-?\d{0,6})(?<!-))?\]")
_RANGE = re.compile(r"\[([0-9a-zA-Z])-([0-9a-zA-Z])\]")
_NAME = re.compile(r"[A-Za-z0-9_:\-]")


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
                raise wrong("a step of zero", at, len(piece), "write `blocks[::2]` for every second one")
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
