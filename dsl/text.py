"""User text made safe to show: cut, and with no character that a terminal would act on."""

import difflib
import re
from collections.abc import Collection, Sequence
from itertools import islice
from pathlib import Path

UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")
"""What YAML does not allow in a document: control characters, lone surrogates, a byte order mark inside."""

_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff\ufffe\uffff]"
)
_LONGEST = 60
_MOST_LISTED = 16


def safe(text: str) -> str:
    r"""The text with control characters, bidi overrides and lone surrogates written as `\x1b` or `\u202e`."""
    return _UNSAFE.sub(_escaped, text)


def _escaped(match: re.Match[str]) -> str:
    code = ord(match.group())
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def shown(value: object) -> str:
    """A value for a message: one line, at most 60 characters."""
    text = safe(value if isinstance(value, str) else str(value))
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."


def file_name(name: str) -> str:
    """A path for a message: whole, for it is there to be copied; a hostile one ends at 1,000 characters."""
    return safe(name)[:1000]


def ticked(names: Collection[object]) -> str:
    """Names in backticks with commas between; the first 16 of many."""
    listed = ", ".join(f"`{shown(name)}`" for name in islice(names, _MOST_LISTED))
    return listed if len(names) <= _MOST_LISTED else f"{listed}, ... ({len(names)} in all)"


def counted(count: int, noun: str, many: str = "") -> str:
    """Such as `1 image` and `1,000 images`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {many or noun + 's'}"


def close_names(word: str, names: Sequence[str], count: int = 3, cutoff: float = 0.7) -> list[str]:
    """The names that `word` may have meant, best first; two neighbouring letters may be swapped."""
    if not 1 < len(word) <= 200:
        return []
    folded = {name.lower(): name for name in reversed(names)}
    lower = word.lower()
    swaps = {lower[:i] + lower[i + 1] + lower[i] + lower[i + 2 :] for i in range(len(lower) - 1)}
    hits = [name for name in folded if name in swaps]
    hits += [hit for hit in difflib.get_close_matches(lower, list(folded), n=count, cutoff=cutoff)]
    return [folded[hit] for hit in dict.fromkeys(hits)][:count]


def near_files(path: Path, written: str, endings: Collection[str] = (), *, folders: bool = False) -> str:
    """What lies in a file's folder and may be meant: names close to its own, or a few of those there.

    Args:
        path: A file or folder that is not there.
        written: The same as the user wrote it.
        endings: The endings of the files that would do.
        folders: Look for folders instead.
    """
    try:
        found = sorted(one.name for one in path.parent.iterdir() if one.is_dir() == folders)
    except OSError:
        return "" if path.parent.exists() else f"there is no folder `{shown(path.parent)}`"
    above, slash, _ = written.rpartition("/")
    names = [
        name for name in found if not name.startswith(".") and (folders or name.endswith(tuple(endings)))
    ]
    close = did_you_mean(path.name, names, count=3, cutoff=0.6, before=above + slash)
    if close:
        return close
    return f"in that folder there are {ticked(names[:5])}" if names else ""


class Hints:
    """Did-you-mean for one document: a few hundred; thousands would be no help and take minutes."""

    def __init__(self, most: int = 200) -> None:
        self._left = most

    def __call__(self, word: str, names: Sequence[str]) -> str:
        """`did you mean ...?`, or nothing where no name is close."""
        self._left -= 1 + len(names) // 100
        return did_you_mean(word, names) if self._left >= 0 else ""


def did_you_mean(
    word: str, names: Sequence[str], *, count: int = 1, cutoff: float = 0.7, before: str = ""
) -> str:
    """`did you mean ...?`, or nothing where no name is close.

    Args:
        word: What was written.
        names: What there is.
        count: How many names to offer.
        cutoff: How alike they must be, in 0..1.
        before: What stands before each name where it is written.
    """
    hits = close_names(word, names, count=count, cutoff=cutoff)
    return f"did you mean {' or '.join(f'`{shown(before + hit)}`' for hit in hits)}?" if hits else ""
