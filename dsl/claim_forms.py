"""Which forms a claim can take: what its comparison needs, and what its quantities make of a coordinate.

Owns the checks of one claim by itself. Does not own whether the metrics that it names exist (`references`) or have
such values and coordinates (the runtime).
"""

from collections.abc import Iterator

from vitdsl.dsl.claim_entries import Claim, Quantity, Range
from vitdsl.dsl.diagnostics import Diagnostic
from vitdsl.dsl.nodes import Path
from vitdsl.dsl.source import SourceMap
from vitdsl.dsl.text import ticked

_ALONG = {"slope", "spearman", "argmin", "argmax", "first", "last"}


def quantities_of(claim: Claim) -> list[tuple[str, Quantity]]:
    """The quantities of a claim, each with the side where it stands."""
    sides = [("left", claim.left)]
    if isinstance(claim.right, Quantity):
        sides.append(("right", claim.right))
    return sides


def form_problems(claim: Claim, path: Path, source: SourceMap) -> Iterator[Diagnostic]:
    """What is wrong with the form of a claim, which stands at a path."""
    for where, message, label, hint in _wrong(claim, path):
        yield source.problem("VD204", where, message, label=label, help=[hint], key=True)


def _wrong(claim: Claim, path: Path) -> Iterator[tuple[Path, str, str, str]]:
    """Each: where, the message, what to write at the caret, what to do."""
    trend = claim.is_ in ("increasing", "decreasing")
    if trend and claim.right is not None:
        message = f"`is: {claim.is_}` takes no `right`"
        yield (*path, "right"), message, "nothing to compare with", "remove `right`"
    if not trend and claim.right is None:
        message = f"`is: {claim.is_}` needs a `right` to compare with"
        yield path, message, "no `right`", "add `right:` with a quantity or a number"
    if claim.is_ == "close" and claim.by == 0:
        message = "`is: close` needs `by`, how close"
        yield path, message, "no `by`", "add `by:` with the largest difference that is close"
    for side, quantity in quantities_of(claim):
        yield from _wrong_quantity(quantity, (*path, side), trend)


def _wrong_quantity(quantity: Quantity, path: Path, trend: bool) -> Iterator[tuple[Path, str, str, str]]:
    if quantity.along is not None and quantity.take not in _ALONG and not trend:
        message = f"`take: {quantity.take}` does not go along a coordinate"
        hint = f"remove `along`, or take one of {ticked(sorted(_ALONG))}"
        yield (*path, "along"), message, "not used", hint
    for coordinate, kept in quantity.where.items():
        if not isinstance(kept, Range):
            continue
        where = (*path, "where", coordinate)
        if kept.from_ is None and kept.to is None:
            yield where, "a range with no end keeps everything", "no end", "add `from:` or `to:`"
        elif kept.from_ is not None and kept.to is not None and kept.from_ > kept.to:
            message = f"the range from {kept.from_:g} to {kept.to:g} is empty"
            yield where, message, "empty", "swap the two ends"
