"""Layouts: what the names of a checkpoint's tensors mean, and where in the file a model's weights are.

Owns: whose names they are, the prefix under which a model lies, and the choice among several of them. Does not own: the
tables by which another library's names become timm's (`naming`, and a file for each library), reading files
(`weight_files`), what timm's own filters do (`checkpoints`).

A prefix is not looked up in a list: it is whatever stands before the names that the model has.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from timm.models import clean_state_dict
from torch import Tensor

from vitdsl.dsl.text import ticked
from vitdsl.runtime.models._clip import CLIP, TIMM
from vitdsl.runtime.models._huggingface import TRANSFORMERS
from vitdsl.runtime.models._torchvision import TORCHVISION
from vitdsl.runtime.models.checkpoints import Misfit
from vitdsl.runtime.models.naming import Naming
from vitdsl.runtime.models.weight_files import Contents

NAMINGS = (TIMM, TRANSFORMERS, TORCHVISION, CLIP)
"""Whose names are known; what fits two of them alike is of the first."""
PREFERRED = frozenset({"ema", "teacher", "base_encoder", "encoder_q"})
"""What projects evaluate where a file has several: the average over training, DINO's teacher, what MoCo trains."""


@dataclass
class Reading:
    """What was read in a file.

    Attributes:
        prefix: What stood before the names, such as `state_dict.module.`.
        naming: Whose names they were.
        state: Tensors by timm's names, as far as timm's own filters need them.
        beside: The first part of the names that lie outside the prefix.
        unused: Names of what has no place in timm's model.
        others: Prefixes under which the model's names stand as well.
        notes: What was done, in words.
    """

    prefix: str
    naming: Naming
    state: dict[str, Tensor]
    beside: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def read(
    contents: Contents,
    own: Mapping[str, Tensor],
    heads: tuple[str, ...],
    key: str | None,
    *,
    partial: bool = False,
) -> Reading:
    """Find a model's weights in a file.

    Args:
        contents: Of the file.
        own: The model's state; its values are not read.
        heads: How the names of its classifiers start.
        key: What the study says of where they are.
        partial: Whether parts of joined tensors may be missing: they are zero.

    Raises:
        Misfit: There is nothing under `key`; several are there and none comes first; a part of one is missing.
    """
    tensors = _below(contents, key)
    wanted = frozenset(name for name in own if not name.startswith(heads))
    naming, found = _places(tensors, wanted)
    prefix, others = _first(found or _mappings(contents, tensors))
    outside = dict.fromkeys(
        name.partition(".")[0] for name in contents.tensors if not name.startswith(prefix)
    )
    state, unused = _translated(naming, prefix, tensors, contents.tensors, own, partial)
    reading = Reading(prefix, naming, state, list(outside), unused, others)
    if prefix:
        reading.notes.append(f"read under `{prefix.rstrip('.')}`")
    if others:
        reading.notes.append(
            f"left {ticked([one.rstrip('.') for one in others])}, which would fit as well; `key` chooses"
        )
    if naming is not TIMM:
        reading.notes.append(f"names of {naming.library} made timm's")
    return reading


def like(reading: Reading, tensors: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors that are named as those of a reading were, by timm's names; parts of joined ones may be missing."""
    return _translated(reading.naming, reading.prefix, tensors, tensors, own, True)[0]


def _translated(
    naming: Naming,
    prefix: str,
    tensors: Mapping[str, Tensor],
    all_: Mapping[str, Tensor],
    own: Mapping[str, Tensor],
    partial: bool,
) -> tuple[dict[str, Tensor], list[str]]:
    below = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    return naming.translate(clean_state_dict(below), _above(all_, prefix), own, partial=partial)


def _above(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """All tensors by what follows the prefix, or the longest part of it that they share."""
    starts = [prefix[:start] for start in _starts(prefix)]
    return {
        name.removeprefix(start): tensor
        for start in starts
        for name, tensor in tensors.items()
        if name.startswith(start)
    }


def _below(contents: Contents, key: str | None) -> dict[str, Tensor]:
    if key is None:
        return contents.tensors
    under = {name: tensor for name, tensor in contents.tensors.items() if name.startswith(f"{key}.")}
    if not under:
        starts = dict.fromkeys(name.partition(".")[0] for name in contents.tensors)
        raise Misfit(f"there is nothing under `{key}`", f"names in it start with {ticked(starts)}")
    return under


def _places(tensors: Collection[str], wanted: frozenset[str]) -> tuple[Naming, list[str]]:
    """Whose names they are, and the prefixes under which most of the model's stand.

    There are no prefixes where that is less than half of the model's names and of those in the file.
    """
    covered: dict[tuple[int, str], set[str]] = defaultdict(set)
    sources: dict[tuple[int, str], set[str]] = defaultdict(set)
    for name in tensors:
        for start in _starts(name):
            prefix, rest = name[:start], name[start:]
            for number, naming in enumerate(NAMINGS):
                ours = {rest} if naming is TIMM else {target for target, _ in naming.matches(rest, wanted)}
                if found := ours & wanted:
                    covered[number, prefix] |= found
                    sources[number, prefix].add(name)
    if not covered:
        return TIMM, []
    number, prefix = max(covered, key=lambda place: (len(covered[place]), -place[0]))
    most = len(covered[number, prefix])
    size = sum(name.startswith(prefix) for name in tensors)
    if 2 * most < min(len(wanted), size):
        return TIMM, []
    best: dict[frozenset[str], str] = {}
    for other, one in sorted(covered, key=lambda place: len(place[1])):
        if other == number and len(covered[other, one]) == most:
            best.setdefault(
                frozenset(sources[other, one]), one
            )  # of two ways to read the same, the shorter prefix
    return NAMINGS[number], list(best.values())


def _starts(name: str) -> Iterator[int]:
    yield 0
    for index, letter in enumerate(name):
        if letter == ".":
            yield index + 1


def _mappings(contents: Contents, tensors: Collection[str]) -> list[str]:
    """Where no name is the model's: the mappings of the file that are no less than half of the largest."""
    sizes = {
        (f"{mapping}." if mapping else ""): size
        for mapping, size in contents.mappings.items()
        if any(name.startswith(mapping) for name in tensors)
    }
    return [prefix for prefix, size in sizes.items() if 2 * size >= max(sizes.values())]


def _first(prefixes: Sequence[str]) -> tuple[str, list[str]]:
    """The prefix that comes first, and the rest."""
    if len(prefixes) == 1:
        return prefixes[0], []
    preferred = [prefix for prefix in prefixes if _is_preferred(prefix)]
    if len(preferred) != 1:
        names = [prefix.rstrip(".") or "the top of the file" for prefix in prefixes]
        raise Misfit(
            f"it holds {len(prefixes)} sets of weights that fit as well: {ticked(names)}",
            f"write which one: `weights: {{file: ..., key: {names[0]}}}`",
        )
    return preferred[0], [prefix for prefix in prefixes if prefix != preferred[0]]


def _is_preferred(prefix: str) -> bool:
    segments = prefix.split(".")
    words = {word for segment in segments for word in segment.split("_")}
    return not PREFERRED.isdisjoint({*segments, *words})
