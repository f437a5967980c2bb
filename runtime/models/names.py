"""Names of architectures as other libraries write them: which of timm's are meant.

Owns how a name is taken apart: `vit_b_16`, `ViT-B/16` and `google/vit-base-patch16-224` have vit, base and 16 in them.
Does not own what is said of a name that timm does not have (`architectures`).
"""

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence

SIZES = {"t": "tiny", "s": "small", "b": "base", "l": "large", "h": "huge", "g": "giant"}
"""Sizes by the letter that stands for them."""
_END = re.compile(r"[^A-Za-z0-9]\d+$")
_PARTS = re.compile(r"v\d+|\d+|[a-z]+?(?=v\d|\d|$)")


def alike(name: str, known: Sequence[str], count: int = 3) -> list[str]:
    """The names that have every part of a name, those with the fewest others first; none where no name has them all.

    What stands before a slash may be an owner and what ends a name a size of images: where no name has these, the rest
    decides.

    Args:
        name: As another library writes it: `facebook/convnext-tiny-224`.
        known: The names there are.
        count: How many at most.
    """
    parts_of = {one: _parts(one, frozenset()) for one in known}
    among = Counter(part for parts in parts_of.values() for part in parts)
    words = frozenset(among)
    bare = name.rpartition("/")[2]
    for tried in dict.fromkeys((name, bare, _END.sub("", name), _END.sub("", bare))):
        wanted = _parts(tried, words)
        found = [one for one, parts in parts_of.items() if wanted and wanted <= parts]
        if found:
            return sorted(found, key=lambda one: (_rarity(parts_of[one] - wanted, among), one))[:count]  # noqa: B023
    return []


def _rarity(parts: Iterable[str], among: Counter[str]) -> float:
    """How much parts say: one that many names have says little."""
    return sum(math.log(among.total() / among[part]) for part in parts)


def _parts(name: str, words: frozenset[str]) -> frozenset[str]:
    """The parts of a name in lower case; a size at the end of a word is one of its own, such as in `vits14`."""
    found: list[str] = []
    for word in re.split(r"[^a-z0-9]+", name.lower()):
        for part in _PARTS.findall(word):
            if words and part not in words and part[:-1] in words and part[-1] in SIZES:
                found += [part[:-1], SIZES[part[-1]]]
            else:
                found.append(SIZES.get(part, part))
    return frozenset(found)
