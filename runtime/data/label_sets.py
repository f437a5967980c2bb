"""Label sets: the classes of a model's outputs, and which of them a name may mean.

Owns what timm knows of ImageNet's classes, WordNet ids and names, and what the config of a checkpoint says of its own.
Does not own which classes images have (`sources`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

from timm.data import ImageNetInfo

LabelSet = Literal[
    "imagenet-1k", "imagenet-12k", "imagenet-21k-miil", "imagenet-21k-goog", "imagenet-22k", "imagenet-22k-ms"
]  # fmt: skip


@dataclass(frozen=True)
class Targets:
    """The classes that labels are of.

    Attributes:
        names: In label order.
        what: What to call them.
        find: The labels that a name may mean: several where classes share it, none where it is no class.
        title: A label in words.
    """

    names: tuple[str, ...]
    what: str
    find: Callable[[str], Sequence[int]]
    title: Callable[[int], str]


@cache
def label_set(name: str) -> Targets:
    """A label set of timm's: a class is found by its WordNet id, by all of its names, or by one of them.

    Args:
        name: One of `LabelSet`.
    """
    info = ImageNetInfo(name)
    ids, titles = tuple(info.label_names()), info.label_descriptions()
    exact = {one: (index,) for index, one in enumerate(ids)}
    by_name: dict[str, list[int]] = {}
    for index, title in enumerate(titles):
        for known in dict.fromkeys((_plain(title), *map(_plain, title.split(", ")))):
            by_name.setdefault(known, []).append(index)

    def find(one: str) -> Sequence[int]:
        return exact[one] if one in exact else by_name.get(_plain(one), ())

    return Targets(ids, f"`{name}`", find, lambda index: titles[index])


def named_outputs(names: tuple[str, ...]) -> Targets:
    """The classes that a checkpoint's config names, in the order of its outputs: found by all of a name, or a part.

    Args:
        names: Such as `tench, Tinca tinca`.
    """
    by_name: dict[str, list[int]] = {}
    for index, name in enumerate(names):
        for known in dict.fromkeys((_plain(name), *map(_plain, name.split(", ")))):
            by_name.setdefault(known, []).append(index)
    return Targets(names, "its config", lambda one: by_name.get(_plain(one), ()), lambda index: names[index])


def first_elsewhere(classes: Sequence[str], targets: Targets) -> tuple[int, int] | None:
    """The first class that is one of some label set's, and stands at another place there; both places."""
    for place, name in enumerate(classes):
        number = (int(name),) if name.isdecimal() and int(name) < len(targets.names) else ()
        found = targets.find(name) or number
        if found and place not in found:
            return place, found[0]
    return None


def _plain(name: str) -> str:
    return name.replace("_", " ").strip().casefold()
