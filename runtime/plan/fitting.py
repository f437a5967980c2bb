"""What of the language one model takes: every metric of models and every ablation, each with the reason where not.

Owns the question, put as a study with one entry for each kind, which is bound again without what was refused until the
rest binds. The reasons are those that a study of a user would get. Does not own any check (`bind`), which models a
page lists (the census), or how the answer looks.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from vitdsl.dsl.diagnostics import Diagnostic, VitdslError
from vitdsl.dsl.load import load_text
from vitdsl.dsl.study import Model
from vitdsl.runtime.ablations._base import ABLATIONS
from vitdsl.runtime.graph.whole import WHOLE_ROLES
from vitdsl.runtime.metrics._base import METRICS
from vitdsl.runtime.plan.bind import bind
from vitdsl.runtime.plan.plan import Plan

LEAST: Mapping[str, Mapping[str, Any]] = {
    "local_attention": {"radius": 1},
    "mask_heads": {"heads": [0]},
    "noise": {"sd": 1},
    "scale_branch": {"by": 0.5},
    "scale_skip": {"by": 0.5},
    "shuffle_patches": {"grid": 2},
    "swap_pool": {"to": "gap"},
}
"""The least that kinds must be told which say nothing by themselves, and do not have to know the model's sites."""
AT_LEAST = "at_least"
"""The entry that a study has where all other metrics are refused, unless the model gives no answers."""
ASKED_OTHERWISE = {"remove_unit"}
"""Kinds that every model takes at each of its residual units, which are counted."""


@dataclass(frozen=True)
class Fitting:
    """What a model takes.

    Attributes:
        trace: Why it cannot be read at all; empty where it can.
        input_size: Channels, rows, columns.
        units: Names of its residual units.
        attention: Names of its attention modules.
        kinds: Of each metric and ablation: an empty text where it is taken, else the reason.
        unfollowed: Why it is read by hooks on its modules; empty where it has a graph.
    """

    trace: str = ""
    input_size: tuple[int, ...] = ()
    units: tuple[str, ...] = ()
    attention: tuple[str, ...] = ()
    kinds: dict[str, str] = field(default_factory=dict)
    unfollowed: str = ""


def fitting(model: Model) -> Fitting:
    """Ask of one model what it takes, on the meta device; no weights are loaded.

    Args:
        model: As a study has it; its weights and its training do not matter.
    """
    entry = model.model_copy(update={"weights": "random", "train": None, "vary": None})
    of_models = {
        name: kind for name, kind in METRICS.kinds().items() if kind.inputs.of == "models" and not kind.labels
    }
    metrics, ablations = _entries(of_models), _entries(ABLATIONS.kinds())
    refused: dict[str, str] = {}
    while True:
        try:
            plan = _bound(entry, metrics, ablations, answers=AT_LEAST not in refused)
        except VitdslError as error:
            found = {}
            for diagnostic in error.diagnostics:
                name = _entry_of(diagnostic)
                if name not in metrics and name not in ablations and name != AT_LEAST:
                    return Fitting(trace=diagnostic.message)
                found[name] = _reason(diagnostic)
            refused |= found
            metrics = {name: one for name, one in metrics.items() if name not in found}
            ablations = {name: one for name, one in ablations.items() if name not in found}
        else:
            break
    sites = plan.models["it"].sites
    return Fitting(
        input_size=tuple(plan.models["it"].config.input_size),
        units=tuple(sites.units),
        attention=tuple(sites.names("attention")),
        kinds={name: refused.get(name, "") for name in sorted({*metrics, *ablations, *refused} - {AT_LEAST})},
        unfollowed=sites.unfollowed.said if sites.unfollowed else "",
    )


def _entries(kinds: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Kinds that need nothing that is not in `LEAST`, each with what it needs."""
    found = {}
    for name, kind in kinds.items():
        told = LEAST.get(name, {})
        required = {key for key, one in kind.Params.model_fields.items() if one.is_required()}
        if name not in ASKED_OTHERWISE and required <= set(told):
            found[name] = told
    return found


def _bound(entry: Model, metrics: Mapping[str, Any], ablations: Mapping[str, Any], *, answers: bool) -> Plan:
    """The study with one entry for each kind, bound; a study of a model alone where all are refused."""
    written = entry.model_dump(mode="json", exclude_none=True, by_alias=True)
    whole = {name for name in ablations if ABLATIONS.kinds()[name].roles[0] in WHOLE_ROLES}
    study = {
        "vitdsl": 1,
        "study": "fitting",
        "data": {"images": {"source": "noise", "total": 8, "batch": 4}},
        "models": {"it": written},
        "metrics": {
            **({AT_LEAST: {"kind": "answers", "of": "it", "under": "baseline"}} if answers else {}),
            **{
                name: {"kind": name, "of": "it", "under": "baseline", **more}
                for name, more in metrics.items()
            },
        },
        "ablations": {
            name: {"kind": name, "of": "it", **({} if name in whole else {"at": "**"}), **more}
            for name, more in ablations.items()
        },
    }
    return bind(load_text(json.dumps(study)))


def _entry_of(diagnostic: Diagnostic) -> str:
    """The entry that a diagnostic is about."""
    return str(diagnostic.about[0][1]) if diagnostic.about and len(diagnostic.about[0]) > 1 else ""


def _reason(diagnostic: Diagnostic) -> str:
    """What is wrong, without the names that the kind and the model have anyway."""
    text = re.sub(r"^`[a-z_]+` is not defined for `it` \([^)]*\): ", "", diagnostic.message)
    text = re.sub(r"^`[a-z_]+` cannot act at (`[^`]*`) of `it`: ", r"at \1, ", text)
    return text.replace(" of `it`", "").replace(
        "selector `**` matches no attention", "it has no attention weights"
    )
