"""Naming: tables by which another library's names for tensors become timm's, and what applying one does.

Owns: what a rule is, joining and cutting tensors as rules say, adding dimensions of one. Does not own: the tables (a
file for each library, `_huggingface` and its neighbours), or where in a file the names stand (`layouts`).
"""

import re
from collections import defaultdict
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from vitdsl.runtime.models.checkpoints import Misfit

LEAVES = ("weight", "bias")
"""The tensors of a classifier."""
_NUMBER = re.compile(r"\d+")
_FIELD = re.compile(r"\{(\d)([+-]\d+)?(?:/(\d))?\}")


def _as_it_is(tensor: Tensor) -> Tensor:
    return tensor


def thirds(first: int, last: int) -> Callable[[Tensor], Tensor]:
    """The rows from one third to another of a tensor that holds queries, keys and values."""
    return lambda tensor: tensor[first * len(tensor) // 3 : last * len(tensor) // 3]


def _as_they_are(found: dict[str, Tensor], own: Mapping[str, Tensor]) -> None:
    return None


@dataclass(frozen=True)
class Rule:
    """A name of another library and timm's for it; of a module, its tensors keep their last part.

    Attributes:
        source: With a `*` for each number, such as `layers.*.query`.
        target: With the numbers in place, such as `blocks.{0}.attn.qkv`; `{0+1}` adds, `{0-1/2}` then halves: only
            what leaves no rest is a name of the rule.
        place: Among how many tensors that are joined to the target's along their first dimension: `(0, 3)`.
        change: What is done to the tensor, where it is not taken as it is.
        beside: A tensor that timm's model must have for the rule to hold, written as the target.
    """

    source: str
    target: str
    place: tuple[int, int] = (0, 1)
    change: Callable[[Tensor], Tensor] = _as_it_is
    beside: str = ""

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """What the names look like."""
        return re.compile(re.escape(self.source).replace(r"\*", r"(\d+)"))

    def named(self, name: str, own: Container[str]) -> str | None:
        """Timm's name for a name, None where it is not one of this rule; `own` are the names that the model has."""
        match = self.pattern.fullmatch(name)
        if match is None or (self.beside and _filled(self.beside, match) not in own):
            return None
        return _filled(self.target, match)


def _filled(target: str, match: re.Match[str]) -> str | None:
    """A name with the numbers of another one in place; None where one leaves a rest."""
    numbers: list[int] = []
    for index, added, divisor in _FIELD.findall(target):
        number, rest = divmod(int(match[int(index) + 1]) + int(added or 0), int(divisor or 1))
        if rest:
            return None
        numbers.append(number)
    return _FIELD.sub(lambda _: str(numbers.pop(0)), target)


@dataclass(frozen=True)
class Naming:
    """One library's names.

    Attributes:
        library: Its name.
        rules: Those of a model without its classifier.
        heads: Those of classifiers, which may stand above the model's prefix.
        ignored: Names, written as in rules, of what timm's models do not have and do not need.
        finish: What is done to the renamed tensors of a model at the end, in place.
    """

    library: str
    rules: Sequence[Rule]
    heads: Sequence[Rule] = ()
    ignored: Sequence[str] = ()
    finish: Callable[[dict[str, Tensor], Mapping[str, Tensor]], None] = _as_they_are

    @cached_property
    def _by_shape(self) -> Mapping[str, list[Rule]]:
        found: dict[str, list[Rule]] = defaultdict(list)
        for rule in (*self.rules, *(Rule(name, "") for name in self.ignored)):
            found[_NUMBER.sub("*", rule.source)].append(rule)
        return found

    def matches(self, name: str, own: Container[str]) -> Iterator[tuple[str, Rule]]:
        """Timm's names for a name, and the rules that give them; an empty name where it is not needed.

        Args:
            name: Of the other library.
            own: The names that the model has.
        """
        module, dot, leaf = name.rpartition(".")
        for start, end in ((name, ""), (module, dot + leaf)):
            for rule in self._by_shape.get(_NUMBER.sub("*", start), ()):
                target = rule.named(start, own)
                if target is not None:
                    yield (target + end if target else ""), rule

    def translate(
        self,
        tensors: Mapping[str, Tensor],
        above: Mapping[str, Tensor],
        own: Mapping[str, Tensor],
        *,
        partial: bool = False,
    ) -> tuple[dict[str, Tensor], list[str]]:
        """Timm's names for the tensors of a model.

        Args:
            tensors: Below the model's prefix.
            above: All that may be its classifier's, by what follows the parts of the prefix.
            own: The state of the model that they are for.
            partial: Whether parts of joined tensors may be missing: they are zero.

        Returns:
            Tensors by timm's names, those that no rule knows by their own; and the names of what has no place.

        Raises:
            Misfit: A part of a joined tensor is missing.
        """
        pieces: dict[str, dict[int, tuple[Rule, Tensor]]] = defaultdict(dict)
        heads = {f"{rule.source}.{leaf}" for rule in self.heads for leaf in LEAVES}
        unknown, unused = {}, []
        for name, tensor in tensors.items():
            matched = list(self.matches(name, own))
            if not matched and (name not in heads or name in own):
                unknown[name] = tensor
            elif not any(target for target, _ in matched):
                unused.append(name)
            for target, rule in _those_of(own, matched):
                pieces[target][rule.place[0]] = rule, tensor
        for rule in self.heads:
            for leaf in LEAVES:
                source, target = f"{rule.source}.{leaf}", f"{rule.target}.{leaf}"
                if source in above and target in own:
                    pieces[target][0] = rule, above[source]
                    unused = [name for name in unused if name != source]
            if f"{rule.target}.weight" in pieces and f"{rule.source}.weight" in above:
                bias = f"{rule.target}.bias"
                if bias in own and bias not in pieces:  # a projection without one
                    pieces[bias][0] = rule, torch.zeros(own[bias].shape)
        found = {
            target: _fitted(_joined(target, parts, partial), own.get(target))
            for target, parts in pieces.items()
        }
        self.finish(found, own)
        return {**unknown, **found}, unused


def _those_of(own: Mapping[str, Tensor], matched: Sequence[tuple[str, Rule]]) -> list[tuple[str, Rule]]:
    """The most exact rules of those whose targets the model has; where it has none of them, the first."""
    named = [(target, rule) for target, rule in matched if target]
    found = [(target, rule) for target, rule in named if target in own]
    stars = min((rule.source.count("*") for _, rule in found), default=0)
    return [(target, rule) for target, rule in found if rule.source.count("*") == stars] or named[:1]


def _joined(target: str, parts: Mapping[int, tuple[Rule, Tensor]], partial: bool) -> Tensor:
    made = {place: rule.change(tensor) for place, (rule, tensor) in parts.items()}
    count = next(iter(parts.values()))[0].place[1]
    if len(made) != count and not partial:
        raise Misfit(f"it has {len(made)} of the {count} parts of `{target}`")
    blank = torch.zeros_like(next(iter(made.values())))
    return torch.cat([made.get(place, blank) for place in range(count)]) if count > 1 else made[0]


def _fitted(tensor: Tensor, own: Tensor | None) -> Tensor:
    """The tensor with the model's dimensions of one, where these are all that differs."""
    if own is None or tensor.shape == own.shape:
        return tensor
    if [size for size in tensor.shape if size != 1] == [size for size in own.shape if size != 1]:
        return tensor.reshape(own.shape)
    missing = own.ndim - tensor.ndim
    return tensor[(None,) * missing] if missing > 0 and set(own.shape[:missing]) == {1} else tensor
