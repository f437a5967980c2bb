"""Trust checks of some conditions and of others, said in one sentence: conditions may be added to a run that is there.

What was saved with the earlier conditions is taken over, what is added is checked, and both are made one from the
numbers that their sentences were made from. Does not own the sentences (`trust`, `precision`), or what is taken over
(`vouching`).
"""

from collections.abc import Iterable

from vitdsl.runtime.results.manifest import PRECISION, Check
from vitdsl.runtime.run.precision import moves
from vitdsl.runtime.run.trust import EFFECT, effect
from vitdsl.runtime.run.vouching import once


def united(checks: Iterable[Check], how: str) -> list[Check]:
    """Trust checks, those that say the same of several sets of conditions as one.

    Args:
        checks: Some may be there twice.
        how: What is not exact in this run, as it was asked for.
    """
    found: dict[tuple[str, ...], list[Check]] = {}
    for check in once(checks):
        alike = (check.check, check.model, check.about if check.check == PRECISION else "")
        apart = () if check.parts else (check.about, *check.conditions)
        found.setdefault((*alike, *apart), []).append(check)
    return [_one(same, how) for same in found.values()]


def _one(same: list[Check], how: str) -> Check:
    first = same[0]
    if len(same) == 1:
        return first
    if first.check == PRECISION:
        parts = [part for check in same for part in check.parts]
        conditions = dict.fromkeys(id for check in same for id in check.conditions)
        return moves(how, first.about, first.model, list(dict.fromkeys(parts)), list(conditions))
    assert first.check == EFFECT
    changes: dict[str, tuple[float, float]] = {}
    for check in same:
        for id, (_, change, count) in zip(check.conditions, check.parts, strict=True):
            changes[id] = min((change, count), changes.get(id, (change, count)))
    return effect(
        first.model, {id: change for id, (change, _) in changes.items()}, [n for _, n in changes.values()]
    )
