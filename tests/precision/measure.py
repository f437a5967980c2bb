"""How far the values of every metric are from those in float64, for each arithmetic: numbers for the page.

Owns what is compared. Does not own the arithmetics (`arithmetic`) or the page (`page`).
"""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from operator import itemgetter
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

from precision.arithmetic import ARITHMETICS, REFERENCE, Arithmetic
from vitdsl.runtime.metrics._base import Array, Metric
from vitdsl.runtime.plan.plan import Plan
from vitdsl.runtime.progress import Silent
from vitdsl.runtime.ranks import ALONE
from vitdsl.runtime.results.manifest import FLOAT32, Check
from vitdsl.runtime.run import engine
from vitdsl.runtime.run.blocks import BlockStore
from vitdsl.runtime.run.engine import Engine
from vitdsl.runtime.run.inputs import model_of, stream_of
from vitdsl.runtime.run.precision import largest_difference, values_of

Values = Mapping[tuple[str, str, str], Array]
"""By kind, value and group: the numbers."""


def measured(plan: Plan, how: Arithmetic) -> Values:
    """The values of every group of a study, computed in one way."""
    cpu = torch.device("cpu")
    models = {name: model_of(plan, name, device=cpu, progress=Silent()) for name in plan.own_models}
    if how.reference:
        for loaded in models.values():
            loaded.module.double()
    streams = {one.data: stream_of(plan, one.data) for one in plan.passes}
    found = {}
    with tempfile.TemporaryDirectory() as folder, how.computing(), _unchecked():
        made = Engine(
            plan,
            models,
            streams,
            BlockStore(Path(folder)),
            device=cpu,
            dtype=FLOAT32 if how.reference else how.dtype,
            fast=how.fast,
            ranks=ALONE,
            force=True,
            progress=Silent(),
        )
        for one, statistics in made.passes():
            for group in one.groups:
                kind = group.kind
                if isinstance(kind, Metric):
                    values = kind.estimate(statistics[group.path].totals(), group.x.sites)
                    for name in values_of(group):
                        found[kind.name, name, group.path] = np.asarray(values[name], np.float64)
    return found


@contextmanager
def _unchecked() -> Iterator[None]:
    """Without the trust checks, which would stop what is measured here."""
    with (
        patch.object(engine, "FirstBatch", _Unchecked),
        patch.object(engine, "check_precision", _nothing),
    ):
        yield


class _Unchecked:
    """Looks at nothing."""

    checks: tuple[Check, ...] = ()

    def __init__(self, _: object) -> None:
        pass

    def __call__(self, *_: object) -> None:
        """Look at nothing."""


def _nothing(*_: object) -> list[Check]:
    return []


def differences(plan: Plan, ways: Sequence[Arithmetic] = ARITHMETICS) -> list[dict[str, Any]]:
    """For each value of each kind on each model: its largest number, and the largest difference for each arithmetic.

    Sorted by kind. A difference is None where a number is defined in one of the two alone.
    """
    right = measured(plan, REFERENCE)
    ours = {how.title: measured(plan, how) for how in ways}
    rows: dict[tuple[str, str, str], dict[str, Any]] = {}
    for key, exact in sorted(right.items(), key=itemgetter(0)):
        kind, value, of = key[0], key[1], key[2].partition("/")[2]
        nothing = {"largest": 0.0, "numbers": 0, "moved": dict.fromkeys(ours, 0.0)}
        row = rows.setdefault((kind, value, of), {"kind": kind, "value": value, "of": of, **nothing})
        finite = np.abs(exact[np.isfinite(exact)])
        row["largest"] = max(row["largest"], float(finite.max(initial=0.0)))
        row["numbers"] += len(finite)
        for title, values in ours.items():
            row["moved"][title] = max(row["moved"][title], largest_difference(values[key], exact))
    for row in rows.values():
        row["moved"] = {title: moved if np.isfinite(moved) else None for title, moved in row["moved"].items()}
    return [row for row in rows.values() if row["numbers"]]
