"""What a manifest says: the study, the machine, models, conditions, kinds. Ready for JSON.

Does not own when it is written (`run`), or the trust checks and claims that it also holds (`trust`, `claims`).
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vitdsl import __version__
from vitdsl.dsl.hashing import study_hash
from vitdsl.runtime.kinds import documentation, summary
from vitdsl.runtime.models.loading import LoadedModel, model_facts
from vitdsl.runtime.plan.plan import Group, Plan, PlannedModel
from vitdsl.runtime.results import folder as results
from vitdsl.runtime.run.environment import describe_environment
from vitdsl.runtime.run.execute import Compiled


def opening(plan: Plan, *, source: str, argv: Sequence[str]) -> dict[str, Any]:
    """What is known before anything is computed.

    Args:
        plan: The bound study.
        source: The study as written.
        argv: The command line.
    """
    study, loaded = plan.loaded.study, plan.loaded
    return {
        "schema": results.SCHEMA,
        "vitdsl": __version__,
        "study": study.study,
        "title": study.title or study.study,
        "question": study.question or "",
        "status": "started",
        "reason": "",
        "ended_at": None,
        "seconds": None,
        "argv": list(argv),
        "overrides": list(loaded.overrides),
        "spec": {"hash": study_hash(study), "source_sha256": hashlib.sha256(source.encode()).hexdigest()},
        **_machine(loaded.folder),
        "seed": study.seed,
        "warnings": list(plan.notes),
    }


def description(plan: Plan, loaded: Mapping[str, LoadedModel]) -> dict[str, Any]:
    """Models with their weights, conditions, metrics and ablations of a run."""
    return {
        "models": {name: _model(planned, loaded[name]) for name, planned in plan.models.items()},
        "conditions": {name: _conditions(planned) for name, planned in plan.models.items()},
        "metrics": {name: _metric(plan, name) for name in plan.loaded.study.metrics},
        "ablations": _ablations(plan),
    }


def work(compiled: Compiled) -> dict[str, Any]:
    """What merging saves: operations for one image, merged and separate, and the share saved."""
    merged = compiled.merged
    return {
        "conditions": len(compiled.planned.conditions),
        "flops_merged": merged.work["merged"],
        "flops_separate": merged.work["separate"],
        "saved": merged.saved,
    }


def _model(planned: PlannedModel, loaded: LoadedModel) -> dict[str, Any]:
    return model_facts(loaded) | {
        "coordinates": planned.coordinates,
        "prefix_tokens": int(getattr(planned.sites.model, "num_prefix_tokens", 0) or 0),
        "sites": len(planned.sites.names("output")),
        "units": len(planned.sites.units),
        "without": [unit for edit in planned.always for unit in edit.units],
    }


def _conditions(planned: PlannedModel) -> list[dict[str, Any]]:
    return [
        {
            "id": condition.id,
            "ablation": condition.ablation,
            "kind": condition.edits[0].kind.name if condition.edits else "",
            "sites": list(condition.sites),
            "depth": planned.depth_of(condition),
            "coordinates": condition.coordinates,
        }
        for condition in planned.conditions
    ]


def _metric(plan: Plan, name: str) -> dict[str, Any]:
    groups: list[Group] = [group for group in plan.groups if group.metric == name]
    kind = groups[0].kind
    return {
        "kind": kind.name,
        "version": kind.version,
        "title": groups[0].title or name,
        "what": summary(type(kind)),
        "page": documentation(type(kind)),
        "params": kind.params.model_dump(),
        "reference": kind.reference,
        "groups": [group.path for group in groups],
        "data": groups[0].data,
    }


def _ablations(plan: Plan) -> dict[str, Any]:
    kinds = {
        condition.ablation: edit.kind
        for planned in plan.models.values()
        for condition in planned.conditions
        for edit in condition.edits
    }
    return {
        name: {
            "kind": kind.name,
            "params": kind.params.model_dump(),
            "what": summary(type(kind)),
            "page": documentation(type(kind)),
        }
        for name, kind in kinds.items()
    }


def _machine(folder: Path) -> dict[str, Any]:
    found = describe_environment(folder)
    return {"git": found.pop("git", None), "environment": found}
